"""
What a causal order needs: samples and curvature
================================================

In an additive noise model, each feature is a function of its causes, the mechanism, plus noise. For
a feature without effects on others, the second derivative of the log-density is constant. For any
other feature it varies, and more so if mechanisms are strongly curved compared with the noise.
In theory, errors of the order fall with the number of samples and with this curvature, and rise
with the number of features. Random models show the first two effects. With more features, the
number of errors rises, but about in proportion to the number of edges, so their share does not.
"""

# %%
# Each point is the mean over random models with as many edges as features and smooth random
# mechanisms; bars are two standard errors. The error is the share of edges against the order.
import warnings

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dsm import ScoreCausalDiscovery
from sklearn_dsm.datasets import make_anm
from sklearn_dsm.metrics import order_divergence

N_MODELS = 12


def error(**options):
    options = {"n_samples": 200, "n_features": 10, "noise_variance": 1.0} | options
    found = []
    for seed in range(N_MODELS):
        model = make_anm(random_state=seed, **options)
        with warnings.catch_warnings():
            # In simulated data, units carry information, so the warning about them is expected.
            warnings.simplefilter("ignore", UserWarning)
            order = ScoreCausalDiscovery(pruning=None).fit(model.data).order_
        found.append(order_divergence(order, model.adjacency) / model.adjacency.sum())
    return np.mean(found), np.std(found) / np.sqrt(N_MODELS)


CURVES = {
    "number of samples": [(n, {"n_samples": n}) for n in (50, 100, 200, 400)],
    "curvature: 1 / noise variance": [(c, {"noise_variance": 1 / c}) for c in (0.1, 0.3, 1.0, 3.0)],
    "number of features": [(d, {"n_features": d}) for d in (5, 10, 20)],
}
figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for panel, (label, settings) in zip(panels, CURVES.items(), strict=True):
    places = [place for place, _ in settings]
    means, errors = np.transpose([error(**options) for _, options in settings])
    panel.errorbar(places, means, 2 * errors, marker="o")
    panel.set_xscale("log")
    panel.set_xticks(places, [f"{place:g}" for place in places])
    panel.minorticks_off()
    panel.set_xlabel(label)
    panel.set_ylim(bottom=0)
    print(f"{label}: " + ", ".join(f"{p:g}: {m:.0%}" for p, m in zip(places, means, strict=True)))
panels[0].set_ylabel("share of edges against the order")
plt.show()
