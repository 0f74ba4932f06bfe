"""
Stein scores and the paths from noise to data
=============================================

The Stein score points to where the data are dense. Of noised data it is smoother, and from far away
it points to the data as a whole. Samples begin as noise and follow the scores of ever smaller noise
levels.
"""

# %%
# Two half circles. With more noise, the two arcs merge: on the right, arrows between them no longer
# point to the nearest arc.
import matplotlib.pyplot as plt
from sklearn.datasets import make_moons

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm.inspection import DensityDisplay, ScoreFieldDisplay, TrajectoryDisplay

X, _ = make_moons(2000, noise=0.1, random_state=0)
density = DSMDensityEstimator(
    reference="gaussian", hidden_layer_sizes=(96, 96), max_epochs=40, random_state=0
).fit(X)

figure, panels = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
for panel, level in zip(panels, (1e-3, 0.1, 0.4), strict=True):
    ScoreFieldDisplay.from_estimator(density, X, noise_level=level, ax=panel)
plt.show()

# %%
# The same 300 paths at five moments. A path has one colour: where a sample ends is decided early.
TrajectoryDisplay.from_estimator(density, random_state=0)
plt.show()

# %%
# Sixty whole paths, and the density that they lead to: the regions with the highest density that
# hold 50, 80 and 95 % of the mass.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
TrajectoryDisplay.from_estimator(density, n_paths=60, kind="paths", random_state=0, ax=left)
DensityDisplay.from_estimator(density, X, kind="filled", resolution=40, random_state=0, ax=right)
plt.show()
