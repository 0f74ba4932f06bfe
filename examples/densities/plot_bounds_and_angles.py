"""
Bounds and angles
=================

A kernel estimate without bounds puts mass outside them, and is too low just inside. With
``support`` and ``period``, :class:`~sklearn_dsm.KernelScoreEstimator` knows where a feature ends
and where it begins again.
"""

# %%
# Waiting times cannot be negative, and their true density is highest at zero.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import expon, vonmises
from sklearn.neighbors import KernelDensity

from sklearn_dsm import KernelScoreEstimator

random = np.random.default_rng(0)
times = expon(scale=2).rvs(500, random_state=random)[:, None]
grid = np.linspace(-1.5, 8, 400)[:, None]
bounded = KernelScoreEstimator("cv", support=(0, None)).fit(times)
unbounded = KernelDensity(bandwidth=bounded.bandwidth_).fit(times)

# %%
# The hour of the day is an angle: 23:30 is close to 0:30.
hours = (vonmises(1.5, loc=0.3).rvs(400, random_state=random) * 12 / np.pi) % 24
periodic = KernelScoreEstimator(period=24).fit(hours[:, None])
clock = np.linspace(0, 24, 200)[:, None]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.plot(grid, expon(scale=2).pdf(grid), color="black", lw=1, label="true density")
left.plot(grid, np.exp(bounded.score_samples(grid)), label="support=(0, None)")
left.plot(grid, np.exp(unbounded.score_samples(grid)), "--", label="KernelDensity")
left.set(xlabel="waiting time", ylabel="density")
left.legend()
right.hist(hours, bins=24, range=(0, 24), density=True, color="lightgrey", label="samples")
right.plot(clock, np.exp(periodic.score_samples(clock)), label="period=24")
right.set(xlabel="hour", xticks=range(0, 25, 6))
right.legend()
plt.show()

fresh = expon(scale=2).rvs(5000, random_state=1)[:, None]
print(f"true density          {expon(scale=2).logpdf(fresh).mean():.4f} nats per sample")
print(f"KernelScoreEstimator  {bounded.score(fresh):.4f}")
print(f"KernelDensity         {unbounded.score_samples(fresh).mean():.4f}")
print(f"density at 0 and at 24: {np.exp(periodic.score_samples([[0.0], [24.0]])).round(5)}")
