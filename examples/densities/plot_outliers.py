"""
Outliers, with a threshold that holds
=====================================

Thirty measurements of tumours. A detector is fitted to benign tumours only, and judges other benign
tumours and malignant ones. A measurement may be common: what is unusual is how it goes with the
others.
"""

# %%
# The area under the ROC curve (AUC) is the probability that a malignant tumour gets a lower score
# than a benign one. It is a mean over ten splits, with its standard error.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_dsm import DSMOutlierDetector

cancer = load_breast_cancer()
X, benign = cancer.data, cancer.target == 1


def split(seed):
    """Benign tumours to fit, all others to judge, and which of these are malignant."""
    train, other = train_test_split(X[benign], test_size=0.3, random_state=seed)
    return (
        train,
        np.vstack([other, X[~benign]]),
        np.arange(len(other) + (~benign).sum()) >= len(other),
    )


detectors = {
    "DSMOutlierDetector": DSMOutlierDetector(contamination=0.05, random_state=0),
    "IsolationForest": IsolationForest(random_state=0),
    "LocalOutlierFactor": make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
}
for name, detector in detectors.items():
    areas = []
    for seed in range(10):
        train, test, malignant = split(seed)
        areas.append(roc_auc_score(malignant, -detector.fit(train).score_samples(test)))
    print(f"{name:<20} {np.mean(areas):.3f} +- {np.std(areas, ddof=1) / np.sqrt(10):.3f}")

# %%
# ``contamination=0.05`` asks that one benign tumour in twenty is called an outlier. Benign tumours
# that the detector has not seen are called so about as often.
flagged = np.array([0.0, 0.0])
for seed in range(10):
    train, test, malignant = split(seed)
    outlier = detectors["DSMOutlierDetector"].fit(train).predict(test) == -1
    flagged += np.array([outlier[~malignant].mean(), outlier[malignant].mean()]) / 10
print(f"outliers among benign tumours    {flagged[0]:.1%}")
print(f"outliers among malignant tumours {flagged[1]:.1%}")

# %%
# ``explain`` tells which measurements make the oddest tumour odd.
detector = detectors["DSMOutlierDetector"]
scores = detector.score_samples(test)
shares = detector.explain(test[[scores.argmin()]])[0]
largest = np.argsort(shares)[-8:]

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
bins = np.linspace(np.quantile(scores, 0.02), scores.max(), 40)
for chosen, label in ((~malignant, "benign"), (malignant, "malignant")):
    left.hist(scores[chosen].clip(bins[0]), bins=bins, density=True, alpha=0.6, label=label)
left.axvline(detector.offset_, color="black", lw=1, label="threshold")
left.set(xlabel="score (minus the distance in standard deviations)", ylabel="density")
left.legend()
right.barh([cancer.feature_names[j] for j in largest], shares[largest])
right.set(xlabel="share of the squared distance", title="the oddest tumour")
plt.show()
