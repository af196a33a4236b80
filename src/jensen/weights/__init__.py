"""Posteriors over the weights of a user's own torch network."""
