"""
Outliers by log-density
=======================

A sample with a low log-density is unlike those of the fit. Each of its features may be common: what
is unusual is how they go together.
"""

# %%
# Six measurements of tumours. The density is fitted to benign tumours only, and judges other benign
# tumours and malignant ones.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.neighbors import LocalOutlierFactor

from sklearn_dsm import DSMDensityEstimator

cancer = load_breast_cancer(as_frame=True)
names = ["radius", "texture", "smoothness", "compactness", "concavity", "symmetry"]
X = cancer.data[[f"mean {name}" for name in names]].to_numpy()
benign = cancer.target.to_numpy() == 1
train, other = train_test_split(X[benign], test_size=0.3, random_state=1)
test = np.vstack([other, X[~benign]])
is_odd = np.arange(len(test)) >= len(other)

density = DSMDensityEstimator(
    reference="gaussian", hidden_layer_sizes=(64, 64), max_epochs=25, tolerance=1e-2, random_state=0
)
log_density = density.fit(train).score_samples(test)
print("fitted:", density.selected_)

# %%
# The area under the ROC curve is the probability that a malignant tumour gets a lower value than a
# benign one.
rivals = {
    "IsolationForest": IsolationForest(random_state=0).fit(train),
    "LocalOutlierFactor": LocalOutlierFactor(novelty=True).fit(train),
}
values = {"DSMDensityEstimator": log_density}
values |= {name: rival.score_samples(test) for name, rival in rivals.items()}
for name, value in values.items():
    print(f"{name:<20} {roc_auc_score(is_odd, -value):.3f}")

# %%
# A threshold must not come from the training samples, whose log-densities are too high. Here it is
# the 5 % quantile of cross-validated log-densities. Up to chance, one new benign tumour in twenty
# lies below it.
held_out = np.concatenate(
    [
        clone(density).fit(train[fit]).score_samples(train[judged])
        for fit, judged in KFold(3, shuffle=True, random_state=0).split(train)
    ]
)
threshold = np.quantile(held_out, 0.05)
print(f"benign tumours below the threshold    {np.mean(log_density[~is_odd] < threshold):.0%}")
print(f"malignant tumours below the threshold {np.mean(log_density[is_odd] < threshold):.0%}")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
bins = np.linspace(np.quantile(log_density, 0.02), log_density.max(), 40)
for odd, label in ((False, "benign"), (True, "malignant")):
    shown = log_density[is_odd == odd].clip(bins[0])
    left.hist(shown, bins=bins, density=True, alpha=0.6, label=label)
left.axvline(threshold, color="black", lw=1, label="threshold")
left.set(xlabel="log-density", ylabel="share")
left.legend()
points = right.scatter(test[:, 0], test[:, 3], s=12, c=log_density.clip(bins[0]), cmap="viridis")
right.set(xlabel=f"mean {names[0]}", ylabel=f"mean {names[3]}")
figure.colorbar(points, ax=right, label="log-density")
plt.show()
