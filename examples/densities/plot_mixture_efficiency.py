"""
Two far modes: what denoising buys
==================================

The weight of two modes cannot be read from the gradient of the log-density at the data: the
gradient is the same on either side, whatever the weight, except in the valley where hardly any
samples are. Implicit score matching, which sees only that gradient, therefore needs hundreds of
times more samples than maximum likelihood. Denoising at all noise levels sees the modes merge and
is as good as maximum likelihood.
"""

# %%
# Forty tables of 400 samples, half of them from each mode, three standard deviations from the
# middle.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.mixture import GaussianMixture

from sklearn_dsm import GMMScoreEstimator

SEPARATION, N_SAMPLES, N_TABLES = 3.0, 400, 40
METHODS = {
    "EM": lambda: GaussianMixture(2, tol=1e-8, max_iter=1000, random_state=0),
    "denoising, all levels": lambda: GMMScoreEstimator(2, standard_errors=False, random_state=0),
    "implicit, data without noise": lambda: GMMScoreEstimator(
        2, loss="ism", standard_errors=False, random_state=0
    ),
}

weights = {name: [] for name in METHODS}
for seed in range(N_TABLES):
    random = np.random.RandomState(seed)
    side = np.where(random.rand(N_SAMPLES) < 0.5, 1.0, -1.0)
    X = (random.standard_normal(N_SAMPLES) + SEPARATION * side)[:, None]
    for name, build in METHODS.items():
        fit = build().fit(X)
        weights[name].append(fit.weights_[fit.means_.ravel().argmax()])

# %%
# The weight of the right mode. The best variance possible is a quarter divided by the number of
# samples.
figure, panel = plt.subplots(figsize=(7, 3.8))
for position, (name, found) in enumerate(weights.items()):
    jitter = np.random.RandomState(0).uniform(-0.15, 0.15, N_TABLES)
    panel.scatter(found, position + jitter, s=14, alpha=0.7)
    ratio = np.mean((np.array(found) - 0.5) ** 2) / (0.25 / N_SAMPLES)
    print(f"{name:>27}: variance over the best possible {ratio:8.2f}")
panel.set_yticks(range(len(METHODS)), METHODS)
panel.axvline(0.5, color="black", linewidth=1)
panel.set_xlabel("estimated weight of the right mode")
panel.set_xlim(0, 1)
figure.tight_layout()
plt.show()
