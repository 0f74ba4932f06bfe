"""
Look at a fitted density
========================

A mean log-density says how good a fit is, but not where it is good. Pictures of the training, of
the marginals and of pairs of features say more, and ``report`` puts them on one page.
"""

# %%
# Eleven proteins, measured in 853 cells. ``FitDisplay`` shows the evidence lower bound of the
# validation set by epoch. The log-likelihood of the selected model is above it, and above those of
# the base distribution and of a multivariate normal distribution.
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import train_test_split

from sklearn_dsm import DSMDensityEstimator, report
from sklearn_dsm.datasets import load_sachs
from sklearn_dsm.inspection import DensityDisplay, FitDisplay

sachs = load_sachs()
data = pd.DataFrame(sachs.data, columns=sachs.feature_names)
train, test = train_test_split(data, random_state=0)
density = DSMDensityEstimator(reference="gaussian", max_epochs=12, random_state=0).fit(train)
for name, value in density.summary().items():
    print(f"{name}: {value}")
FitDisplay.from_estimator(density)
plt.show()

# %%
# Data of the test set are grey, the model is blue. A marginal of a joint density has no formula:
# what is drawn of the model are its samples, as histograms and as contours of smoothed histograms.
# The innermost contour holds half of the mass.
DensityDisplay.from_estimator(
    density, test, features=["PIP2", "PIP3", "Erk", "Akt"], random_state=0
)
plt.show()

# %%
# The page has all of this, the features that fit worst, and the samples of the lowest log-density.
# ``report(density, test, "report.html")`` writes it to a file, which needs no other file.
report(density, test, X_train=train, n_samples=2000, random_state=0)
