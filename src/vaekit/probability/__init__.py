"""Distributions, likelihoods, posteriors and priors. Log-probabilities are in nats, event dimensions summed."""
