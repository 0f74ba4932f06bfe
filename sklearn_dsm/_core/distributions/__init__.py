"""Distributions whose score and log-density are known at every noise level."""
