"""
A density, its samples and its gradient
=======================================

Two half circles with noise: the data, the density that is fitted to them, samples drawn from it,
and its Stein score, the gradient of the log-density.
"""

# %%
# The network corrects a Gaussian. ``score`` is the mean log-likelihood of the test set, in nats per
# sample, and ``selected_`` says what the fit kept.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from sklearn_dsm import DSMDensityEstimator

X, _ = make_moons(2500, noise=0.1, random_state=0)
density = DSMDensityEstimator(
    reference="gaussian", hidden_layer_sizes=(96, 96), max_epochs=150, random_state=0
).fit(X[:2000])
print("fitted:", density.selected_)
print(f"log-likelihood of the test set: {density.score(X[2000:]):.3f} nats per sample")

# %%
# The log-density on a grid, as many samples as there are data, and gradients at a few points. The
# arrows are longest where the density falls most steeply.
x, y = np.linspace(-1.5, 2.5, 75), np.linspace(-1.0, 1.5, 50)
grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
log_density = density.score_samples(grid).reshape(50, 75)
samples = density.sample(2000, random_state=0)
points = np.stack(np.meshgrid(x[::4], y[::4]), -1).reshape(-1, 2)
score = density.stein_score(points, noise_level=0.1)
arrows = score / (2 + np.linalg.norm(score, axis=1, keepdims=True))

figure, panels = plt.subplots(1, 4, figsize=(14, 2.9), sharex=True, sharey=True)
panels[0].scatter(*X[:2000].T, s=3, alpha=0.5)
panels[0].set_title("data")
panels[1].contourf(x, y, log_density, levels=np.linspace(-8, 0, 17), extend="min")
panels[1].set_title("log-density")
panels[2].scatter(*samples.T, s=3, alpha=0.5, color="tab:orange")
panels[2].set_title("samples")
panels[3].quiver(*points.T, *arrows.T, color="tab:green", scale=22)
panels[3].set_title("Stein score")
for panel in panels:
    panel.set(xticks=[], yticks=[], xlim=(-1.5, 2.5), ylim=(-1.0, 1.5))
figure.tight_layout()
plt.show()
