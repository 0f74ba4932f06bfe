"""
Skewed features
===============

Protein intensities span three orders of magnitude. Marginal transforms make them nearly normal. The
log-density stays in the units of the input, so transforms can be compared by cross-validation.
"""

# %%
# A search over the transforms needs no ``scoring``: ``score`` is the mean log-likelihood of the
# test set of each fold.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm.datasets import load_sachs

proteins = load_sachs()
X = proteins.data[:600, [0, 7]] + np.random.default_rng(0).uniform(size=(600, 2)) * 0.01
search = GridSearchCV(
    DSMDensityEstimator(
        reference="gaussian",
        hidden_layer_sizes=(64, 64),
        max_epochs=12,
        tolerance=1e-2,
        random_state=0,
    ),
    {"marginals": ["gaussianize", "standardize"]},
    cv=2,
).fit(X)
for options, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{options['marginals']:>12}: {score:8.3f} nats per sample")

# %%
# The marginal distributions of samples, beside those of the data.
print("fitted:", search.best_estimator_.selected_)
samples = search.best_estimator_.sample(2000, random_state=0)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.5))
for j, panel in enumerate(panels):
    bins = np.quantile(X[:, j], np.linspace(0.001, 0.98, 50))
    panel.hist(X[:, j], bins=bins, density=True, alpha=0.5, label="measured")
    panel.hist(samples[:, j], bins=bins, density=True, histtype="step", label="sampled")
    panel.set(xlabel=proteins.feature_names[[0, 7][j]], yscale="log")
    panel.legend()
figure.tight_layout()
plt.show()
