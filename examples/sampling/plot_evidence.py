"""
Comparing models by their evidence
==================================

The evidence of a Bayesian model is the probability of the data, averaged over the prior. A feature
that explains nothing new spreads the prior over more coefficients than the data need, and lowers
it. ``AnnealedSampler`` estimates the evidence together with the posterior, and gives its standard
error.
"""

# %%
# The table has measurements of 569 tumours. A logistic regression says whether a tumour is
# malignant, with the prior N(0, 1) on all coefficients of standardised features. One model has the
# first four features, the other also the fractal dimension. ``BayesianLogisticRegression`` is the
# density of coefficients and data; its integral over the coefficients is the evidence. The sampler
# starts from the prior of the model, which is ``prior_scale=1.0``.
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer

from sklearn_dsm import AnnealedSampler
from sklearn_dsm.datasets import BayesianLogisticRegression

cancer = load_breast_cancer()
malignant = cancer.target == 0
measured = ["radius", "texture", "smoothness", "symmetry", "fractal dimension"]
columns = [list(cancer.feature_names).index(f"mean {name}") for name in measured]


def posterior_of(n_columns):
    return BayesianLogisticRegression(cancer.data[:, columns[:n_columns]], malignant)


samplers = {}
for n_columns in (4, 5):
    posterior = posterior_of(n_columns)
    samplers[n_columns] = AnnealedSampler(
        posterior.log_density,
        n_features=posterior.n_features,
        prior_scale=1.0,
        n_particles=500,
        n_temperatures=64,
        random_state=0,
    ).fit()
    print(
        f"{n_columns} features   log evidence {samplers[n_columns].log_normalizer_:.2f} +- "
        f"{samplers[n_columns].log_normalizer_stderr_:.2f}"
    )

# %%
# The evidence of the second model is smaller, although its best fit is better. The odds between two
# models of equal prior probability are the exponential of the difference of their log-evidences.
gain = samplers[5].log_normalizer_ - samplers[4].log_normalizer_
error = np.hypot(samplers[5].log_normalizer_stderr_, samplers[4].log_normalizer_stderr_)
print(f"odds of the model with the fractal dimension {np.exp(gain):.2f} (+- {error:.0%})")

# %%
# A nested sampler estimates the evidence by another principle. It draws from the prior under a
# rising bound on the likelihood. Here, it has the model with four features, and 100 live points.
# Where dynesty is not installed, the values are those that the function below gave with dynesty
# 3.1.0.
NESTED = (-109.45, 0.46, 21867)


def nested_evidence(posterior):
    import dynesty

    def log_likelihood(w):
        log_prior = -0.5 * (w @ w + len(w) * np.log(2 * np.pi))
        return float(posterior.log_density(torch.from_numpy(w[None]))[0]) - log_prior

    sampler = dynesty.NestedSampler(
        log_likelihood, ndtri, posterior.n_features, nlive=100, rstate=np.random.default_rng(0)
    )
    sampler.run_nested(print_progress=False)
    return sampler.results.logz[-1], sampler.results.logzerr[-1], sum(sampler.results.ncall)


try:
    log_evidence, stderr, n_calls = nested_evidence(posterior_of(4))
except ImportError:
    log_evidence, stderr, n_calls = NESTED
print(f"nested sampler  {log_evidence:.2f} +- {stderr:.2f}, {n_calls} evaluations")
ours = samplers[4]
print(
    f"annealed        {ours.log_normalizer_:.2f} +- {ours.log_normalizer_stderr_:.2f}, "
    f"{ours.n_evaluations_} evaluations with gradients"
)

# %%
# The samples show why: the coefficient of the fractal dimension may well be zero.
draws = samplers[5].sample(4000, random_state=0)
grid = np.linspace(-3, 6.5, 200)
figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), sharex=True, sharey=True, layout="constrained")
for ax, name, column in zip(axes, measured, draws.T[:5], strict=True):
    ax.hist(column, bins=np.linspace(-3, 6.5, 77), density=True, alpha=0.7, label="posterior")
    ax.plot(grid, norm.pdf(grid), color="black", lw=1, label="prior")
    ax.axvline(0, color="grey", lw=0.8)
    ax.set_title(name, fontsize=10)
figure.supxlabel("coefficient")
axes[0].set_ylabel("density")
axes[-1].legend(fontsize=9)
plt.show()
