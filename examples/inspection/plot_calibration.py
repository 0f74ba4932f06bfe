"""
Are intervals as reliable as they say?
======================================

An interval of 90 % should hold nine targets in ten. ``CalibrationDisplay`` shows this for intervals
of all coverages, and what chance alone would give.
"""

# %%
# Disease progression of diabetes patients. Without data, the display uses what the fit has kept:
# densities of training samples by regressors and networks that did not see them.
import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from sklearn_dsm import DSMRegressor
from sklearn_dsm.inspection import CalibrationDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
model = DSMRegressor(max_epochs=60, random_state=0).fit(X_train, y_train)
for name, value in model.summary().items():
    print(f"{name}: {value}")
CalibrationDisplay.from_estimator(model)
plt.show()

# %%
# Samples that the fit has not seen at all: fewer, so the bands are wider.
CalibrationDisplay.from_estimator(model, X_test, y_test)
plt.show()

# %%
# Intervals that are twice as narrow as they should be: both ends of the histogram are high, and the
# coverage is below the diagonal.
centre = model.predict_quantiles(X_test, [0.5])[:, 0]
pit = model.cdf(X_test, centre + 2 * (y_test - centre))
CalibrationDisplay.from_predictions(pit)
plt.show()
