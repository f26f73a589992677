"""Priors over grids of codes: what a model of discrete latents samples from, and what makes its rate."""
