"""Latents: posteriors q(z | x) and priors p(z), as tables of modules that return distributions."""
