"""Objectives: short pure reductions of a draw to the loss of each player."""
