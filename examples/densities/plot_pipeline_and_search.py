"""
Pipelines and searches
======================

``score`` is the mean log-likelihood, so a search over parameters needs no ``scoring``. A density in
a pipeline is that of the transformed data.
"""

# %%
# Images of handwritten digits, reduced to principal components. ``GridSearchCV`` compares densities
# of the same components: kernel density estimates, Gaussian mixtures and networks.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_dsm import DSMDensityEstimator, GMMScoreEstimator, KernelScoreEstimator

X, digits = load_digits(return_X_y=True)
pipeline = Pipeline([("components", PCA(8, random_state=0)), ("density", KernelScoreEstimator())])
search = GridSearchCV(
    pipeline,
    [
        {"density": [KernelScoreEstimator()], "density__bandwidth": ["minimax", "cv"]},
        {"density": [GMMScoreEstimator(random_state=0)], "density__n_components": [5, 10]},
        {
            "density": [
                DSMDensityEstimator(reference="gmm", max_epochs=25, tolerance=1e-2, random_state=0)
            ],
            "density__hidden_layer_sizes": [(64, 64)],
        },
    ],
    cv=2,
).fit(X)
found = search.cv_results_
labels = []
for options, score in zip(found["params"], found["mean_test_score"], strict=True):
    name = type(options["density"]).__name__
    value = next(value for key, value in options.items() if key != "density")
    labels.append(f"{name}, {value}")
    print(f"{labels[-1]:<36} {score:7.3f} nats per sample")

# %%
# The best pipeline draws new images: samples of the components, transformed back.
best = search.best_estimator_
figure, panel = plt.subplots(figsize=(7, 2.8), layout="constrained")
panel.barh(labels, found["mean_test_score"] - found["mean_test_score"].min())
panel.set_xlabel("mean log-likelihood, less the smallest, in nats")
plt.show()

samples = best["components"].inverse_transform(best["density"].sample(20, random_state=0))
figure, panels = plt.subplots(2, 10, figsize=(8, 1.8), layout="constrained")
for panel, image in zip(panels.flat, samples, strict=True):
    panel.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    panel.set(xticks=[], yticks=[])
plt.show()

# %%
# Without a pipeline, a density scales the features itself. Where a scaler precedes it, the
# log-density in the original units follows by subtracting the logarithms of the scales.
scale = X.std(axis=0)
kept = scale > 0.5
plain = GMMScoreEstimator(2, random_state=0).fit(X[:, kept][:, :4])
scaled = GMMScoreEstimator(2, random_state=0).fit(X[:, kept][:, :4] / scale[kept][:4])
difference = scaled.score(X[:, kept][:, :4] / scale[kept][:4]) - np.log(scale[kept][:4]).sum()
print(f"{plain.score(X[:, kept][:, :4]):.4f} and {difference:.4f}")
