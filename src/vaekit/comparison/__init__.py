"""Runs compared on the same images."""
