"""
Tables with missing values
==========================

``TableDensityEstimator`` fits a table with its holes. It can ignore whether a value is missing, or
model it: a value may be missing because of what it would be.
"""

# %%
# Measurements of 300 patients. Those with a high value of the first are more often sent to the
# laboratory, so the second is missing for most of the others. The mean of the values that are there
# is too high.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_dsm import TableDensityEstimator

random = np.random.default_rng(0)
n = 300
pressure = random.normal(130, 15, size=n)
marker = 2 + 0.04 * (pressure - 130) + 0.4 * random.normal(size=n)
truth = pd.DataFrame({"pressure": pressure, "marker": marker})
tested = random.uniform(size=n) < 1 / (1 + np.exp(-(pressure - 135) / 6))
table = truth.assign(marker=truth["marker"].where(tested))
print(f"marker: {tested.mean():.0%} measured")

# %%
# With ``missing="marginal"``, the default, missing values are integrated over. The distribution of
# the marker is then that of all patients.
marginal = TableDensityEstimator(max_epochs=150, random_state=0).fit(table)
samples = marginal.sample(4000, random_state=0)
print(f"mean of all patients      {truth['marker'].mean():.2f}")
print(f"mean of the measured      {table['marker'].mean():.2f}")
print(f"mean of samples           {samples['marker'].mean():.2f}")

# %%
# With ``missing="modelled"``, samples have holes where the table has them, and the log-probability
# includes that of the holes.
modelled = TableDensityEstimator(missing="modelled", max_epochs=150, random_state=0).fit(table)
holed = modelled.sample(4000, random_state=0)
print(f"samples with a hole       {holed['marker'].isna().mean():.0%}")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
bins = np.linspace(0, 4.5, 40)
left.hist(truth["marker"], bins=bins, density=True, color="lightgrey", label="all patients")
for data, label in ((table, "measured"), (samples, "samples of the fit")):
    left.hist(data["marker"].dropna(), bins=bins, density=True, histtype="step", label=label)
left.set(xlabel="marker", ylabel="density")
left.legend()
edges = np.linspace(95, 165, 11)
centres = (edges[1:] + edges[:-1]) / 2
for data, label in ((table, "table"), (holed, "samples")):
    groups = pd.cut(data["pressure"], edges, labels=centres)
    share = data["marker"].isna().groupby(groups, observed=False).mean()
    right.plot(centres, share, marker="o", label=label)
right.set(xlabel="pressure", ylabel="share of missing markers")
right.legend()
plt.show()
