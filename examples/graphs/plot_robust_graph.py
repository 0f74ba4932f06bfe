"""
A sparse graph in spite of outliers
===================================

``RegularizedScoreMatchingCV`` finds a sparse graph of many features and chooses its penalty. With
``robust="rank"``, the graph depends on ranks only, so wild values have little effect.
"""

# %%
# Three hundred samples of 16 features, which depend on each other along a chain. One value in fifty
# is replaced by a wild one.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.covariance import GraphicalLassoCV

from sklearn_dsm import RegularizedScoreMatchingCV
from sklearn_dsm.datasets import make_pairwise
from sklearn_dsm.metrics import edge_f1

clean, model = make_pairwise(300, 16, family="gaussian", graph="chain", random_state=0)
true = model.interaction != 0
random = np.random.default_rng(0)
wild = random.uniform(size=clean.shape) < 0.02
X = np.where(wild, 8 * random.standard_cauchy(clean.shape), clean)

# %%
# The F1 score is the harmonic mean of the share of found edges that are true and of true edges that
# are found. Cross-validation, by which ``GraphicalLassoCV`` chooses, keeps many false edges even
# without outliers.
graphs = {}
for name, data in (("clean", clean), ("with outliers", X)):
    standard = (data - data.mean(0)) / data.std(0)
    for method, estimator in (
        ("GraphicalLassoCV", GraphicalLassoCV()),
        ("RegularizedScoreMatchingCV", RegularizedScoreMatchingCV()),
        ('robust="rank"', RegularizedScoreMatchingCV(robust="rank")),
    ):
        with np.errstate(invalid="ignore"):  # some folds of GraphicalLassoCV have no likelihood
            precision = estimator.fit(standard).precision_
        found = (np.abs(precision) > 1e-8) & ~np.eye(16, dtype=bool)
        graphs[name, method] = found
        score = edge_f1(true, found, directed=False)
        print(f"{name:<14} {method:<27} edges {found.sum() // 2:3d}   F1 {score:.2f}")

# %%
# Found edges of the data with outliers: green where the edge is true, red where it is not.
figure, panels = plt.subplots(1, 4, figsize=(11, 3.1), layout="constrained")
panels[0].imshow(true, cmap="Greens", vmin=0, vmax=1.6)
panels[0].set_title("true graph")
for panel, method in zip(panels[1:], dict.fromkeys(method for _, method in graphs), strict=True):
    found = graphs["with outliers", method]
    image = np.ones((16, 16, 3))
    image[found & true] = (0.2, 0.6, 0.3)
    image[found & ~true] = (0.85, 0.3, 0.25)
    panel.imshow(image)
    panel.set_title(method, fontsize=9)
for panel in panels:
    panel.set(xticks=[], yticks=[])
plt.show()
