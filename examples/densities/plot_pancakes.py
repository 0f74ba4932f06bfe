"""
A limit: pancakes that nobody finds
===================================

Samples are standard normal but for one hidden direction, along which all mass lies in thin slices.
In two features every estimator sees the slices. As features are added, the direction is lost among
them, and no method is known that finds it in reasonable time. The figure shows how far each
estimator is from the truth, and how far the normal distribution is, which knows nothing of the
slices.
"""

# %%
# Kullback-Leibler divergences from the truth, in nats, on new samples.
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
N_FEATURES = (2, 4, 8, 16)
METHODS = {
    "DSMDensityEstimator": lambda d: DSMDensityEstimator(
        reference="gmm", hidden_layer_sizes=(64, 64), max_epochs=8, tolerance=1e-2, random_state=0
    ),
    "GMMScoreEstimator": lambda d: GMMScoreEstimator(
        8, standard_errors=False, max_iter=30, random_state=0
    ),
    "KernelScoreEstimator": lambda d: KernelScoreEstimator("cv", random_state=0),
    "LocationMixtureScoreEstimator": lambda d: LocationMixtureScoreEstimator(
        0.15, degree=2, n_levels=12, n_noise=1, random_state=0
    ),
}
# The last one keeps a grid of cells, for which more than two features are too many.
MOST_FEATURES = {"LocationMixtureScoreEstimator": 2}

distances = {name: [] for name in (*METHODS, "N(0, I)")}
for d in N_FEATURES:
    X, truth = make_gaussian_pancakes(3500, d, gamma=2.0, beta=0.15, random_state=0)
    train, test = X[:3000], X[3000:]
    log_density = truth.log_density(test)
    for name, build in METHODS.items():
        if d <= MOST_FEATURES.get(name, d):
            fit = build(d).fit(train)
            distances[name].append((d, (log_density - fit.score_samples(test)).mean()))
    normal = multivariate_normal([0.0] * d).logpdf(test)
    distances["N(0, I)"].append((d, (log_density - normal).mean()))

# %%
# With 16 features, all of them are as far from the truth as the normal distribution, or farther.
figure, panel = plt.subplots(figsize=(7, 4.5))
for name, points in distances.items():
    style = {"color": "black", "linestyle": "--"} if name == "N(0, I)" else {"marker": "o"}
    panel.plot(*zip(*points, strict=True), label=name, **style)
    print(f"{name:>30}: " + ", ".join(f"{value:.3f}" for _, value in points))
panel.set_xscale("log", base=2)
panel.set_ylim(0, 2.6)
panel.set_xlabel("features")
panel.set_ylabel("KL(truth || fit), nats")
panel.legend()
figure.tight_layout()
plt.show()
