"""
A Gaussian mixture with standard errors
=======================================

``GMMScoreEstimator`` fits the mixtures of ``GaussianMixture`` and says how exact the weights, means
and covariances are.
"""

# %%
# Waiting times between eruptions are often drawn from two kinds. Here the truth is known.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from sklearn_dsm import GMMScoreEstimator

random = np.random.default_rng(0)
first = random.uniform(size=300) < 0.35
X = np.where(first, random.normal(55, 6, 300), random.normal(80, 6, 300))[:, None]
mixture = GMMScoreEstimator(2, random_state=0).fit(X)
order = mixture.means_[:, 0].argsort()
errors = mixture.standard_errors_
for name, truth in (("weights", (0.35, 0.65)), ("means", (55, 80)), ("covariances", (36, 36))):
    values, own = getattr(mixture, f"{name}_").reshape(2)[order], errors[name].reshape(2)[order]
    text = "   ".join(
        f"{v:6.2f} ± {e:4.2f} (true {t:g})" for v, e, t in zip(values, own, truth, strict=True)
    )
    print(f"{name:<12} {text}")

# %%
# The number of components by the Bayesian information criterion, and the fitted density.
sizes = range(1, 6)
fits = [GMMScoreEstimator(k, random_state=0, standard_errors=False).fit(X) for k in sizes]
bic = [fit.bic(X) for fit in fits]
print("components by BIC:", sizes[int(np.argmin(bic))])

grid = np.linspace(30, 105, 300)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.hist(X[:, 0], bins=30, density=True, color="lightgrey")
left.plot(grid, np.exp(mixture.score_samples(grid[:, None])), label="mixture")
for k in order:
    mean, error = mixture.means_[k, 0], errors["means"][k, 0]
    part = norm(mean, np.sqrt(mixture.covariances_[k, 0, 0]))
    left.plot(grid, mixture.weights_[k] * part.pdf(grid), "--", lw=1, color="C0")
    left.axvspan(mean - 1.96 * error, mean + 1.96 * error, color="C1", alpha=0.4)
left.set(xlabel="minutes", ylabel="density", title="means with 95 % intervals")
right.plot(sizes, bic, marker="o")
right.set(xlabel="components", ylabel="BIC", xticks=sizes)
plt.show()
