"""
Counts have probabilities
=========================

A count has no density. With ``y_step=1``, ``DSMRegressor`` gives each count a probability, and
intervals and samples are counts.
"""

# %%
# Simulated numbers of bicycles that are hired in an hour. Some hours are wet, which the features do
# not say, so the counts vary more than Poisson counts would.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import poisson
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split

from sklearn_dsm import DSMRegressor

random = np.random.default_rng(0)
hour = random.uniform(0, 24, size=700)
wet = random.uniform(size=700) < 0.25
rate = (2 + 14 * np.exp(-0.5 * ((hour - 17) / 3) ** 2)) * np.where(wet, 0.25, 1)
y = random.poisson(rate)
X_train, X_test, y_train, y_test = train_test_split(hour[:, None], y, random_state=0)
model = DSMRegressor(y_step=1, y_bounds=(0, None), max_iter=40, random_state=0)
model.fit(X_train, y_train)

# %%
# Mean log-probability of the counts of the test set, beside Poisson distributions whose mean is
# predicted by boosted trees.
boosted = HistGradientBoostingRegressor(loss="poisson", max_iter=40).fit(X_train, y_train)
poisson_score = poisson(boosted.predict(X_test)).logpmf(y_test).mean()
print(f"DSMRegressor           {model.score_samples(X_test, y_test).mean():.3f} nats per sample")
print(f"Poisson, boosted trees {poisson_score:.3f}")
low, high = model.predict_interval(X_test, coverage=0.9).T
print(f"90 % intervals hold    {np.mean((low <= y_test) & (y_test <= high)):.0%}")

# %%
# At five in the afternoon, dry and wet hours are two groups.
counts = np.arange(32)
at = np.full((len(counts), 1), 17.0)
probability = np.exp(model.score_samples(at, counts))
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
hours = np.linspace(0, 24, 100)[:, None]
low, high = model.predict_interval(hours, coverage=0.9).T
left.scatter(X_test[:, 0], y_test, s=8, color="grey", label="test samples")
left.fill_between(hours[:, 0], low, high, alpha=0.3, step="mid", label="90 % interval")
left.plot(hours, model.predict(hours), label="mean")
left.set(xlabel="hour", ylabel="count")
left.legend()
right.bar(counts, probability, label="DSMRegressor")
mean = boosted.predict([[17.0]])[0]
right.plot(counts, poisson(mean).pmf(counts), "k.", label="Poisson")
right.set(xlabel="count at 17:00", ylabel="probability")
right.legend()
plt.show()
