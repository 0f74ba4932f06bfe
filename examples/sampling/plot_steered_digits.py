"""
Steering a density with a classifier
====================================

A density of images of digits draws all ten digits. A classifier that was fitted to the same images
steers it to one of them: ``TiltedSampler`` draws from the density times a power of the probability
that the classifier gives to the class. Neither the density nor the classifier is fitted again.
"""

# %%
# The images have 8 x 8 pixels. The density is a mixture of normal distributions of their first
# 16 principal components. The classifier that steers learns from half of the images. Another
# one, which judges the samples, learns from the other half.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklearn_dsm import GMMScoreEstimator, TiltedSampler
from sklearn_dsm.sampling import PredictedLogWeight

images, digits = load_digits(return_X_y=True)
components = PCA(16, random_state=0)
X = components.fit_transform(images)
X_steer, X_judge, y_steer, y_judge = train_test_split(
    X, digits, test_size=0.5, stratify=digits, random_state=0
)
base = GMMScoreEstimator(10, random_state=0).fit(X)
# A strong penalty keeps the probabilities away from 0 and 1.
classifier = LogisticRegression(C=5e-4, max_iter=1000).fit(X_steer, y_steer)
judge = LogisticRegression(C=0.01, max_iter=1000).fit(X_judge, y_judge)

# %%
# The scale is the power of the probability. At scale 1, the samples are those of the class, as far
# as the classifier knows it, and Z is the share of the class among the samples of the base. At
# scale 4, the samples are those of which the classifier is surer. For comparison, Z is also
# computed from many samples of the base.
label = 3
draws = {"base": base.sample(20_000, random_state=0)}
for scale in (1, 4):
    log_weight = PredictedLogWeight(classifier, label=label, scale=scale)
    sampler = TiltedSampler(
        base, log_weight, n_train=6000, n_paths=1000, n_steps=30, max_epochs=3, random_state=0
    ).fit()
    draws[f"scale {scale}"] = sampler.sample(500, random_state=0)
    of_base = np.log(np.mean(np.exp(log_weight(draws["base"]))))
    print(
        f"scale {scale}: log Z {sampler.log_normalizer_:.2f} +- "
        f"{sampler.log_normalizer_stderr_:.2f}, from samples of the base {of_base:.2f}; "
        f"effective paths {sampler.ess_:.0%}"
    )
shares = {name: np.mean(judge.predict(found) == label) for name, found in draws.items()}
for name, share in shares.items():
    print(f"{name:<8} {share:5.0%} of the samples are a {label} for the other classifier")

# %%
# Each row shows the first samples of a density. The two lower rows start from the same noise. At
# scale 1, half of the samples are other digits, because the penalty makes the classifier unsure.
figure, axes = plt.subplots(3, 12, figsize=(9, 2.4), layout="constrained")
for row, (name, found) in zip(axes, draws.items(), strict=True):
    for ax, image in zip(row, components.inverse_transform(found[:12]), strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
    text = f"{name}\n{shares[name]:.0%} are {label}"
    row[0].set_ylabel(text, rotation=0, ha="right", va="center")
plt.show()
