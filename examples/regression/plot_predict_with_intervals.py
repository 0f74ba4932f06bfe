"""
Predicting with intervals and densities
=======================================

``DSMRegressor`` predicts a whole density of the target for each sample: from it follow the mean,
quantiles, intervals and log-densities. Here the noise grows with the feature and is skewed, so no
constant band around the mean would be right.
"""

# %%
# A simulated target, whose conditional distribution is known: a mean that bends, plus gamma noise
# whose standard deviation grows from 0.15 to 0.75.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import gamma
from sklearn.model_selection import train_test_split

from sklearn_dsm import DSMRegressor


def noise(x):
    return gamma(2, loc=np.sin(3 * x), scale=(0.15 + 0.2 * (x + 1.5)) / np.sqrt(2))


random = np.random.default_rng(0)
x = random.uniform(-1.5, 1.5, size=520)
y = noise(x).rvs(random_state=random)
X_train, X_test, y_train, y_test = train_test_split(x[:, None], y, random_state=0)
model = DSMRegressor(max_iter=50, random_state=0).fit(X_train, y_train)

# %%
# The intervals are to hold nine in ten targets, whatever the feature. The mean log-density is
# compared with that of the known distribution, which nothing can exceed by more than chance.
low, high = model.predict_interval(X_test, coverage=0.9).T
inside = (low <= y_test) & (y_test <= high)
for name, part in (("x < 0", X_test[:, 0] < 0), ("x > 0", X_test[:, 0] > 0)):
    width = (high - low)[part].mean()
    print(f"{name}: coverage {inside[part].mean():.2f}, mean width {width:.2f}")
known = noise(X_test[:, 0]).logpdf(y_test).mean()
print(f"mean log-density {model.score_samples(X_test, y_test).mean():.2f}, known {known:.2f}")

# %%
# On the left the intervals, on the right the densities at two values of the feature, with those of
# the simulation dashed.
grid = np.linspace(-1.45, 1.45, 100)
low, high = model.predict_interval(grid[:, None], coverage=0.9).T
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.scatter(X_test[:, 0], y_test, s=6, color="grey", label="test samples")
left.plot(grid, model.predict(grid[:, None]), label="mean")
left.fill_between(grid, low, high, alpha=0.3, label="90 % interval")
left.set(xlabel="feature", ylabel="target")
left.legend()

targets = np.linspace(-1.5, 4, 300)
for value, color in ((-1.0, "C0"), (1.0, "C1")):
    repeated = np.full((len(targets), 1), value)
    density = np.exp(model.score_samples(repeated, targets))
    right.plot(targets, density, color=color, label=f"feature {value:g}")
    right.plot(targets, noise(value).pdf(targets), color=color, linestyle="--")
right.set(xlabel="target", ylabel="density")
right.legend()
plt.show()
