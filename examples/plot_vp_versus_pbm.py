r"""
Smoothing a cloud, or pinning it down
=====================================

Two processes that look as different as can be: one smooths the rows until they are normal, the
other shrinks them to a point, from which a Brownian motion is steered back to them. Divided by
its own scale, the second is the first in another time.
"""

# %%
# **Forwards.** A linear process noises a row to :math:`a X_0 + \sqrt v Z`. ``VP`` keeps
# :math:`a^2 + v = 1`; ``PBM`` has :math:`a = 1 - s` and :math:`v = s (1 - s)`, so that every
# path ends at 0. Divided by :math:`\sqrt{a^2 + v}`, a path of either is an Ornstein-Uhlenbeck
# path whose clock is the log signal-to-noise ratio. Paths of that one process, drawn once, thus
# give paths of both: read the clock as a time of the process, and multiply by the scale there.
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch

from sklearn_dsm import PBM, VP, DSMDensityEstimator
from sklearn_dsm.datasets import GaussianMixtureLaw
from sklearn_dsm.metrics import sliced_wasserstein_distance

law = GaussianMixtureLaw(
    [[-0.9, -0.9], [-0.9, 0.9], [0.9, 0.9]], [0.04 * np.eye(2)] * 3, [0.5, 0.2, 0.3]
)
random = np.random.default_rng(0)
X = law.sample(8, random)

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
    panel.set_title(f"{process}: the rows on the left")
    panel.set_xlabel("process time")
    panels[2].plot(log_snr, moving / scale[:, None], style, linewidth=0.8, color="tab:blue")
panels[2].invert_xaxis()
panels[2].set_title("both over their scales")
panels[2].set_xlabel("log signal-to-noise ratio")
panels[0].set_ylabel("first column")
figure.tight_layout()

# %%
# **Backwards.** Reversed, the first process is driven by the score s from normal noise; the
# second starts at 0 and is driven by the Foellmer drift
# :math:`b = (E[X_0 | Y] - Y) / s` at process time s, in which the score enters only through
# the row to expect: :math:`Y / t + \nabla \log p` with :math:`t = 1 - s` is the same number,
# as the difference of two that explode at the pin. Here with the exact scores of the law.


def expected_row(x, level):
    return (x + level.v.item() * law.noised_score(x, level.a.item(), level.v.item())) / level.a


def reverse(process, n_rows, n_steps=300, margin=1e-3):
    times = torch.linspace(1 - margin, margin, n_steps + 1, dtype=torch.float64)
    x = np.sqrt(process.level(times[0]).v.item()) * random.standard_normal((n_rows, 2))
    path = [x]
    for time, after in pairwise(times):
        level, step = process.level(time), (time - after).item()
        expected = expected_row(x, level).numpy()
        drift, diffusion = (part.item() for part in process.drift_and_diffusion(time))
        if isinstance(process, PBM):
            move = (expected - x) / time.item()
        else:
            move = diffusion * (level.a.item() * expected - x) / level.v.item() - drift * x
        x = x + step * move + np.sqrt(diffusion * step) * random.standard_normal(x.shape)
        path.append(x)
    return np.array(path)


figure, panels = plt.subplots(1, 2, figsize=(9, 4.4), sharex=True, sharey=True)
cloud = law.sample(1500, random)
for panel, process in zip(panels, (VP(), PBM()), strict=True):
    path = reverse(process, 5)
    panel.scatter(*cloud.T, s=2, color="0.8")
    for k in range(5):
        panel.plot(*path[:, k].T, linewidth=0.6)
    panel.scatter(*path[0].T, s=12, color="black", label="start")
    panel.scatter(*path[-1].T, s=18, color="tab:red", zorder=3, label="end")
    panel.set_title(f"{process}: from noise to rows")
panels[0].legend()
figure.tight_layout()

# %%
# **What is left of the choice.** The package's networks see rows over their scale and the
# log-SNR, and correct what a reference sees there. Which process they are fitted under then only
# sets the finest level; the fits differ by less than their distance from the truth.
rows, fresh = law.sample(2000, 0), law.sample(2000, 1)
figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), sharex=True, sharey=True)
panels[0].scatter(*fresh.T, s=2)
panels[0].set_title("fresh rows of the law")
print(f"{'truth':>5}: {law.log_density(fresh).mean():.3f} nats per row")
for panel, process in zip(panels[1:], ("vp", "pbm"), strict=True):
    density = DSMDensityEstimator(
        process,
        reference="gaussian",
        marginals="standardize",
        hidden_layer_sizes=(64, 64),
        max_epochs=40,
        random_state=0,
    ).fit(rows)
    samples = density.sample(2000, random_state=0)
    distance = sliced_wasserstein_distance(samples, fresh, random_state=0)
    print(
        f"{process:>5}: {density.score(fresh):.3f} nats per row, sliced Wasserstein distance "
        f"{distance:.3f}"
    )
    panel.scatter(*samples.T, s=2, color="tab:orange")
    panel.set_title(f"samples, process={process!r}")
figure.tight_layout()
plt.show()

# %%
# A network that is *not* scaled has to be one thing or the other: as the score less -x it has to
# fade like a in the noise, as the Foellmer drift it has not. The benchmark of both measures how
# much that is worth to a small network.
