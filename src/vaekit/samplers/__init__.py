"""Samplers: densities fitted to the codes of a trained model, to draw from in the prior's place."""
