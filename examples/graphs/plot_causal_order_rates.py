"""
What a causal order needs: samples and curvature
================================================

In an additive noise model, each feature is a function of its causes, the mechanism, plus noise. For
a feature without effects on others, the second derivative of the log-density is constant. For any
other feature it varies, and more so if mechanisms are strongly curved compared with the noise.
In theory, errors of an order that comes from a network trained by denoising fall with the number of
samples and with this curvature, and rise with the number of features.
"""

# %%
# One model of five features, and its order by a network: the score of a density estimator replaces
# the default, Stein's estimator. The network is fitted once; ``removal="residue"`` computes the
# scores of the remaining features from it. The error is the number of edges against the order.
import csv
import warnings
from pathlib import Path

import matplotlib.pyplot as plt

from sklearn_dsm import DensityScoreEstimator, DSMDensityEstimator, ScoreCausalDiscovery
from sklearn_dsm.datasets import make_anm
from sklearn_dsm.metrics import order_divergence

model = make_anm(500, 5, noise_variance=1 / 3, random_state=0)
density = DSMDensityEstimator(
    reference="gaussian",
    marginals="standardize",
    hidden_layer_sizes=(64, 64),
    max_epochs=100,
    random_state=0,
)
score = DensityScoreEstimator(density, noise_level=0.1)
with warnings.catch_warnings():
    # In simulated data, units carry information, so the warning about them is expected.
    warnings.simplefilter("ignore", UserWarning)
    found = ScoreCausalDiscovery(score, removal="residue", pruning=None).fit(model.data)
error = order_divergence(found.order_, model.adjacency)
print(f"order {found.order_}, {error} of {int(model.adjacency.sum())} edges against it")

# %%
# The same over random models with as many edges as features. This takes minutes, so the figures
# come from the benchmark ``structure.py``. Bars are two standard errors. Networks have 500 samples
# of 5 features, and Stein's estimator 300 samples of 10 features, where the axis does not say
# otherwise.
path = Path("../../benchmarks/results/structure_rates.csv")
with path.open() as file:
    points = list(csv.DictReader(file))
LABELS = {
    "n_samples": ("number of samples", [50, 150, 500, 1500]),
    "curvature": ("curvature: 1 / noise variance", [0.1, 0.3, 1, 3]),
    "n_features": ("number of features", [3, 5, 10, 20]),
}
figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for panel, (name, (label, ticks)) in zip(panels, LABELS.items(), strict=True):
    own = [point for point in points if point["property"] == name]
    for method in dict.fromkeys(point["score"] for point in own):
        curve = [point for point in own if point["score"] == method]
        values, means, errors = (
            [float(point[key]) for point in curve] for key in ("value", "mean", "standard_error")
        )
        panel.errorbar(values, means, [2 * each for each in errors], marker="o", label=method)
    panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel(label)
    panel.set_ylim(bottom=0)
panels[0].set_ylabel("edges against the order")
panels[0].legend()
plt.show()
