"""
Filling in missing measurements, with their uncertainty
=======================================================

A fitted density knows how the features of a table go together. If a new sample lacks some of its
features, the density given the others tells what they may be. ``TiltedSampler`` draws from it: the
weight of a sample is the likelihood of the measurements that were made.
"""

# %%
# The table holds thirteen chemical measurements of 178 wines. A new wine has its alcohol and its
# proline measured, with a standard error of a tenth of each feature's standard deviation. The
# log-weight is the log-likelihood of the two measurements; a function of torch tensors needs no
# gradient.
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_wine

from sklearn_dsm import GMMScoreEstimator, TiltedSampler

wine = load_wine()
names = ["alcohol", "flavanoids", "color_intensity", "proline"]
X = wine.data[:, [wine.feature_names.index(name) for name in names]]
base = GMMScoreEstimator(3, random_state=0).fit(X)

measured, values = [0, 3], torch.tensor([13.8, 1100.0])
errors = torch.tensor(0.1 * X.std(0)[measured])


def log_likelihood(x):
    return -0.5 * (((x[:, measured] - values) / errors) ** 2).sum(1)


sampler = TiltedSampler(base, log_likelihood, n_train=2000, max_epochs=10, random_state=0).fit()
draws = sampler.sample(1000, random_state=0)
print(f"effective paths {sampler.ess_:.0%}, stages {len(sampler.stages_)}")
for name, column, whole in zip(names, draws.T, X.T, strict=True):
    low, high = np.quantile(column, [0.05, 0.95])
    print(
        f"{name:<16} {low:8.2f} to {high:8.2f}   all wines {whole.mean():8.2f} +- {whole.std():.2f}"
    )

# %%
# The estimate of the constant is the density of the two measurements: a large negative value would
# say that the wine is unlike those of the table.
print(f"log density of the measurements {sampler.log_normalizer_:.2f}, up to their constant")
figure, ax = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
ax.scatter(X[:, 1], X[:, 2], s=12, color="grey", label="wines of the table")
ax.scatter(draws[:, 1], draws[:, 2], s=6, alpha=0.4, label="the new wine")
ax.set_xlabel(names[1])
ax.set_ylabel(names[2])
ax.legend()
plt.show()
