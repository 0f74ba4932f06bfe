"""Gaussian mixtures: their parameters, and their fit by expectation-maximization."""
