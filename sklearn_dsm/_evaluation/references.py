"""Fitted densities as references: their scores at every level, log-densities and draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import torch
from sklearn.mixture import GaussianMixture

from .._mixtures.parameters import as_score
from .base import BaseDensity
from .latent_density import LatentDensity, exact_density

Reference: TypeAlias = GaussianMixture | BaseDensity


def latent_density_of(reference: Reference, device: torch.device) -> LatentDensity:
    """A fitted density in its latent space, on a device.

    A mixture of scikit-learn is taken to be in the latent space already.
    """
    if isinstance(reference, GaussianMixture):
        means = reference.means_
        return exact_density(as_score(reference), means.shape[1], means.size, device)
    density = reference._latent_density()
    # The model may be the distribution that ends the integral itself.
    end = density.reference.to(device)
    model = end if density.model is density.reference else density.model.to(device)
    return replace(density, model=model, reference=end, device=device)
