"""
Imputing missing values several times
=====================================

A single guess for a missing value hides how uncertain it is, and may lie where no value ever is.
``TableDensityEstimator`` draws missing values given what is seen in the sample; several draws show
the uncertainty.
"""

# %%
# A simulated trial: the response grows with the dose in some patients, and not at all in others,
# who are more frequent in one of two wards. Three in ten responses are then removed, and the truth
# kept for comparison.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.impute import KNNImputer

from sklearn_dsm import TableDensityEstimator

random = np.random.default_rng(0)
n = 300
ward = random.choice(["north", "south"], size=n)
dose = random.uniform(0, 10, size=n)
responds = random.uniform(size=n) < np.where(ward == "north", 0.7, 0.4)
response = 5 + dose * responds + 0.5 * random.normal(size=n)
table = pd.DataFrame({"ward": ward, "dose": dose, "response": response.round(2)})
truth = table["response"].copy()
removed = random.uniform(size=n) < 0.3
table.loc[removed, "response"] = np.nan

# %%
# The distribution is fitted to the table with its holes. If it is right, the truth has any rank
# among 19 draws with the same probability, and lies between the smallest and the largest of them in
# nine of ten cases. ``KNNImputer`` has the wards as a number, and all numbers with unit variance.
model = TableDensityEstimator(max_epochs=150, random_state=0).fit(table)
draws = np.stack(
    [each["response"] for each in model.impute(table[removed], n_imputations=19, random_state=0)]
)
low, high = draws.min(0), draws.max(0)
inside = (low <= truth[removed]) & (truth[removed] <= high)

numbers = table.assign(ward=ward == "north").astype(float)
scaled = (numbers - numbers.mean()) / numbers.std()
guesses = KNNImputer().fit_transform(scaled)[removed, 2] * numbers["response"].std()
guesses += numbers["response"].mean()
print(f"share of the truth within the draws: {inside.mean():.2f}")
for name, found in (("mean of draws", draws.mean(0)), ("KNNImputer", guesses)):
    error = np.sqrt(np.mean((found - truth[removed]) ** 2))
    print(f"root mean square error of {name:<14} {error:.2f}")
for name, found in (("truth", truth[removed]), ("one draw", draws[0]), ("KNNImputer", guesses)):
    print(f"standard deviation of {name:<18} {np.std(found):.2f}")

# %%
# The single guesses lie between the two kinds of patients, where hardly any patient is. A draw
# belongs to one kind or the other.
figure, panels = plt.subplots(
    1, 3, figsize=(10, 3.6), sharex=True, sharey=True, layout="constrained"
)
for panel, title, found in zip(
    panels, ("truth", "one draw", "KNNImputer"), (truth[removed], draws[0], guesses), strict=True
):
    panel.scatter(dose[~removed], truth[~removed], s=6, color="lightgrey", label="seen")
    panel.scatter(dose[removed], found, s=10, color="C0", label="removed")
    panel.set(title=title, xlabel="dose")
panels[0].set_ylabel("response")
panels[0].legend()
plt.show()
