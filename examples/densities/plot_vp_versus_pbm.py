r"""
Smoothing a cloud, or pinning it down
=====================================

Two noise processes that look different: one smooths the samples until they are normal, the other
shrinks them to a point. Read backwards, the second is a Brownian motion that is steered from this
point to the samples. Divided by its own scale, each process is the other in another time.
"""

# %%
# **Forwards.** Both processes turn a sample into :math:`a X_0 + \sqrt v Z`. ``VP`` keeps
# :math:`a^2 + v = 1`. ``PBM`` has :math:`a = 1 - s` and :math:`v = s (1 - s)` at process time s, so
# every path ends at 0. Divided by :math:`\sqrt{a^2 + v}`, a path of either is an Ornstein-Uhlenbeck
# path in the time :math:`\log (a^2 / v)`, the logarithm of the signal-to-noise ratio. The paths
# below are drawn once and shown as paths of both processes.
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch

from sklearn_dsm import PBM, VP, DSMDensityEstimator
from sklearn_dsm.datasets import GaussianMixtureLaw
from sklearn_dsm.metrics import sliced_wasserstein_distance

truth = GaussianMixtureLaw(
    [[-0.9, -0.9], [-0.9, 0.9], [0.9, 0.9]], [0.04 * np.eye(2)] * 3, [0.5, 0.2, 0.3]
)
random = np.random.default_rng(0)
X = truth.sample(8, random)

log_snr = torch.linspace(6, -6, 400, dtype=torch.float64)
a, v = log_snr.sigmoid().sqrt().numpy(), (-log_snr).sigmoid().numpy()
path = [a[0] * X + np.sqrt(v[0]) * random.standard_normal(X.shape)]
for kept in a[1:] / a[:-1]:
    path.append(kept * path[-1] + np.sqrt(1 - kept**2) * random.standard_normal(X.shape))
path = np.array(path)

figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True)
styles = ("-", "--")
for panel, process, style in zip(panels, (VP(), PBM()), styles, strict=False):
    times = process.time(log_snr)
    scale = process.level(times).scale.numpy()
    moving = scale[:, None] * path[:, :, 0]
    panel.plot(times, moving, linewidth=0.8)
    panel.set_title(f"{process}: samples on the left")
    panel.set_xlabel("process time")
    panels[2].plot(log_snr, moving / scale[:, None], style, linewidth=0.8, color="tab:blue")
panels[2].invert_xaxis()
panels[2].set_title("both over their scales")
panels[2].set_xlabel("log signal-to-noise ratio")
panels[0].set_ylabel("first feature")
figure.tight_layout()

# %%
# **Backwards.** Reversed, the first process starts from normal noise and follows the Stein score.
# The
# second starts at 0 and has the Foellmer drift :math:`(E[X_0 | Y] - Y) / s` at process time s. The
# expected sample :math:`E[X_0 | Y]` follows from the Stein score too. It is exact here.


def expected_sample(x, level):
    return (x + level.v.item() * truth.noised_score(x, level.a.item(), level.v.item())) / level.a


def reverse(process, n_samples, n_steps=300, margin=1e-3):
    times = torch.linspace(1 - margin, margin, n_steps + 1, dtype=torch.float64)
    x = np.sqrt(process.level(times[0]).v.item()) * random.standard_normal((n_samples, 2))
    path = [x]
    for time, after in pairwise(times):
        level, step = process.level(time), (time - after).item()
        expected = expected_sample(x, level).numpy()
        drift, diffusion = (part.item() for part in process.drift_and_diffusion(time))
        if isinstance(process, PBM):
            move = (expected - x) / time.item()
        else:
            move = diffusion * (level.a.item() * expected - x) / level.v.item() - drift * x
        x = x + step * move + np.sqrt(diffusion * step) * random.standard_normal(x.shape)
        path.append(x)
    return np.array(path)


figure, panels = plt.subplots(1, 2, figsize=(9, 4.4), sharex=True, sharey=True)
cloud = truth.sample(1500, random)
for panel, process in zip(panels, (VP(), PBM()), strict=True):
    path = reverse(process, 5)
    panel.scatter(*cloud.T, s=2, color="0.8")
    for k in range(5):
        panel.plot(*path[:, k].T, linewidth=0.6)
    panel.scatter(*path[0].T, s=12, color="black", label="start")
    panel.scatter(*path[-1].T, s=18, color="tab:red", zorder=3, label="end")
    panel.set_title(f"{process}: from noise to samples")
panels[0].legend()
figure.tight_layout()

# %%
# **What is left of the choice.** The networks of the package see samples divided by their scale
# and
# the log-signal-to-noise ratio. The process then only sets the level with the least noise, and fits
# under both differ little.
X, fresh = truth.sample(2000, 0), truth.sample(2000, 1)
figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), sharex=True, sharey=True)
panels[0].scatter(*fresh.T, s=2)
panels[0].set_title("new samples of the truth")
print(f"{'truth':>5}: {truth.log_density(fresh).mean():.3f} nats per sample")
for panel, process in zip(panels[1:], ("vp", "pbm"), strict=True):
    density = DSMDensityEstimator(
        process,
        reference="gaussian",
        marginals="standardize",
        hidden_layer_sizes=(64, 64),
        max_epochs=40,
        random_state=0,
    ).fit(X)
    samples = density.sample(2000, random_state=0)
    distance = sliced_wasserstein_distance(samples, fresh, random_state=0)
    print(
        f"{process:>5}: {density.score(fresh):.3f} nats per sample, sliced Wasserstein distance "
        f"{distance:.3f}"
    )
    panel.scatter(*samples.T, s=2, color="tab:orange")
    panel.set_title(f"samples, process={process!r}")
figure.tight_layout()
plt.show()
