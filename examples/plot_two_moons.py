"""
A density, its samples and its gradient
=======================================

Two half circles with noise: the log-density, rows sampled from it, and the Stein score at
the data and at a higher noise level, where the two arcs have merged.
"""

# %%
# Fit. The score is the mean log-likelihood on the test set, in nats per sample.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from sklearn_dsm import DSMDensityEstimator

X, _ = make_moons(2500, noise=0.1, random_state=0)
density = DSMDensityEstimator(random_state=0).fit(X[:2000])
print(f"held-out log-density: {density.score(X[2000:]):.3f} nats per row")

# %%
# Evaluate on a grid, sample, and take gradients.
x, y = np.linspace(-1.6, 2.6, 100), np.linspace(-1.1, 1.6, 80)
grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
log_density = density.score_samples(grid).reshape(80, 100)
samples = density.sample(2000, random_state=0)
coarse = np.stack(np.meshgrid(x[::6], y[::6]), -1).reshape(-1, 2)

figure, panels = plt.subplots(2, 2, figsize=(10, 7), sharex=True, sharey=True)
panels[0, 0].scatter(*X.T, s=3, alpha=0.5)
panels[0, 0].set_title("data")
panels[0, 1].contourf(x, y, log_density, levels=np.linspace(-8, 0, 17), extend="min")
panels[0, 1].set_title("log-density")
panels[1, 0].scatter(*samples.T, s=3, alpha=0.5, color="tab:orange")
panels[1, 0].set_title("samples")
for level, colour in ((0.05, "tab:blue"), (0.4, "tab:red")):
    score = density.stein_score(coarse, noise_level=level)
    length = np.linalg.norm(score, axis=1, keepdims=True)
    arrows = score / (1 + length)
    panels[1, 1].quiver(*coarse.T, *arrows.T, color=colour, scale=25, label=f"level {level}")
panels[1, 1].set_title("Stein score, lengths compressed")
panels[1, 1].legend(loc="lower left")
figure.tight_layout()
plt.show()
