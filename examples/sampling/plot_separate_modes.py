"""
Separate modes
==============

A chain that moves in small steps stays in the mode where it starts. ``AnnealedSampler`` moves many
particles from a wide normal distribution to the target, and finds modes that are far apart.
"""

# %%
# Nine normal distributions with different weights, known only up to a constant.
import matplotlib.pyplot as plt
import numpy as np
import torch

from sklearn_dsm import AnnealedSampler
from sklearn_dsm.inspection import WeightsDisplay
from sklearn_dsm.metrics import mode_coverage

centres = torch.tensor([[x, y] for x in (-6, 0, 6) for y in (-6, 0, 6)], dtype=torch.float64)
weights = torch.arange(1, 10, dtype=torch.float64) / 45


def log_density(x):
    squares = ((x[:, None] - centres) ** 2).sum(-1)
    return torch.logsumexp(weights.log() - squares / 0.5, 1) + 3.0


sampler = AnnealedSampler(log_density, n_features=2, random_state=0).fit()
draws = sampler.sample(2000, random_state=0)
exact = 3.0 + np.log(0.5 * np.pi)
print(
    f"log Z {sampler.log_normalizer_:.3f} ± {sampler.log_normalizer_stderr_:.3f}, true {exact:.3f}"
)
coverage = mode_coverage(draws, centres.numpy(), weights.numpy())
print(f"coverage of the modes {coverage:.3f}; 1 is perfect")

# %%
# For comparison, a random walk of Metropolis and Hastings with as many samples.
random = np.random.default_rng(0)
x, walk = torch.zeros(1, 2, dtype=torch.float64), []
value = log_density(x)
for _ in range(2000):
    proposal = x + torch.from_numpy(random.normal(size=(1, 2)))
    new = log_density(proposal)
    if np.log(random.uniform()) < (new - value).item():
        x, value = proposal, new
    walk.append(x.numpy()[0])
walk = np.array(walk)
coverage = mode_coverage(walk, centres.numpy(), weights.numpy())
print(f"coverage of the random walk {coverage:.3f}")

figure, panels = plt.subplots(
    1, 2, figsize=(9, 4.2), sharex=True, sharey=True, layout="constrained"
)
for panel, data, name in ((panels[0], draws, "AnnealedSampler"), (panels[1], walk, "random walk")):
    panel.scatter(*centres.numpy().T, s=400, facecolors="none", edgecolors="lightgrey")
    panel.scatter(*data.T, s=3)
    panel.set_title(name)
plt.show()

# %%
# The share of effective particles by temperature, and the log-weights at the end. A good share does
# not prove that no mode is missed: compare fits with different ``prior_scale``.
WeightsDisplay.from_estimator(sampler)
plt.show()
for scale in (3.0, 12.0):
    other = AnnealedSampler(log_density, n_features=2, prior_scale=scale, random_state=0).fit()
    print(f"prior_scale={scale:g}: log Z {other.log_normalizer_:.3f}")
