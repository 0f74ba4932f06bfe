"""
A limit: pancakes that nobody finds
===================================

Standard normal rows but for one hidden direction, along which all mass lies in thin slices. In
two columns every estimator sees the slices. As columns are added the direction is lost among
them, and no method that runs in reasonable time is known that would find it: the figure shows
how far each estimator is from the truth, and how far the plain normal law is, which knows
nothing of the slices.
"""

# %%
# Distances from the truth, in nats, on fresh rows.
import warnings

import matplotlib.pyplot as plt
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm import (
    DSMDensityEstimator,
    GMMScoreEstimator,
    KernelScoreEstimator,
    LocationMixtureScoreEstimator,
)
from sklearn_dsm.datasets import make_gaussian_pancakes

warnings.simplefilter("ignore", ConvergenceWarning)
COLUMNS = (2, 4, 8, 16)
METHODS = {
    "DSMDensityEstimator": lambda d: DSMDensityEstimator(max_epochs=30, random_state=0),
    "GMMScoreEstimator": lambda d: GMMScoreEstimator(
        8, standard_errors=False, max_iter=60, random_state=0
    ),
    "KernelScoreEstimator": lambda d: KernelScoreEstimator("cv", random_state=0),
    "LocationMixtureScoreEstimator": lambda d: LocationMixtureScoreEstimator(
        0.15, degree=2, n_levels=12, n_noise=1, random_state=0
    ),
}
# The last one keeps a grid of cells, which more than two columns are too many for.
MOST_COLUMNS = {"LocationMixtureScoreEstimator": 2}

distances = {name: [] for name in (*METHODS, "N(0, I)")}
for d in COLUMNS:
    X, law = make_gaussian_pancakes(6000, d, gamma=2.0, beta=0.15, random_state=0)
    train, test = X[:4000], X[4000:]
    truth = law.log_density(test)
    for name, build in METHODS.items():
        if d <= MOST_COLUMNS.get(name, d):
            fit = build(d).fit(train)
            distances[name].append((d, (truth - fit.score_samples(test)).mean()))
    normal = multivariate_normal([0.0] * d).logpdf(test)
    distances["N(0, I)"].append((d, (truth - normal).mean()))

# %%
# All of them meet the normal law.
figure, panel = plt.subplots(figsize=(7, 4.5))
for name, points in distances.items():
    style = {"color": "black", "linestyle": "--"} if name == "N(0, I)" else {"marker": "o"}
    panel.plot(*zip(*points, strict=True), label=name, **style)
    print(f"{name:>30}: " + ", ".join(f"{value:.3f}" for _, value in points))
panel.set_xscale("log", base=2)
panel.set_ylim(0, 2)
panel.set_xlabel("columns")
panel.set_ylabel("KL(truth || fit), nats")
panel.legend()
figure.tight_layout()
plt.show()
