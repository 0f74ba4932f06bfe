"""
Edges with confidence intervals
===============================

Twelve positive features interact in pairs. Their density is a truncated normal density, whose
normalising constant has no closed form in twelve dimensions. Score matching needs no constant, and
gives an estimate, a confidence interval and a p-value for each of the 66 possible edges.
"""

# %%
# There are 2,000 samples. The true graph has two blocks of features, and edges only within blocks.
import matplotlib.pyplot as plt
import numpy as np

from sklearn_dsm import PairwiseScoreMatching
from sklearn_dsm.datasets import make_pairwise
from sklearn_dsm.inspection import EdgeIntervalDisplay, GraphDisplay

X, model = make_pairwise(2000, 12, family="truncated_gaussian", graph="blocks", random_state=0)
fit = PairwiseScoreMatching("truncated_gaussian").fit(X)

# %%
# Without correction, tests of 66 edges at level .05 would find about three false edges on average.
# Holm's correction bounds the probability of any false edge by .05.
found = fit.adjacency(correction="holm")
true = model.interaction != 0
upper = np.triu_indices(12, 1)
print(f"true edges {true[upper].sum()}, found {found[upper].sum()}")
print(f"false edges {(found & ~true)[upper].sum()}")
low, high = np.moveaxis(fit.confint(), -1, 0)
covered = (low <= model.interaction) & (model.interaction <= high)
print(f"intervals that hold the true value: {covered[upper].mean():.0%}")

# %%
# On the left are the most significant edges with their intervals. On the right is the graph of the
# uncorrected tests at level .01. A green outline marks a true edge that was found, a red outline a
# false edge, and a dashed line a true edge that was missed.
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
EdgeIntervalDisplay.from_estimator(fit, max_edges=20, true_interaction=model.interaction, ax=left)
GraphDisplay.from_estimator(fit, true_graph=true, level=0.01, ax=right)
plt.show()
