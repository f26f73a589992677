"""Corruptions: what is done to the input of a model that learns to undo it."""
