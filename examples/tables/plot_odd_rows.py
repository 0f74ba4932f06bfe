"""
Why is this sample odd?
=======================

A low log-density says that a sample is unusual, and ``explain`` says why: the log-density is a sum
with a term for each column, the logarithm of the density of its value given those before it.
"""

# %%
# Body and blood measurements of 442 diabetes patients. Two samples are spoilt by a typing error:
# each value is common by itself, but does not go together with the others.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from sklearn_dsm import TableDensityEstimator

columns = {
    "sex": "sex",
    "age": "age",
    "bmi": "body mass index",
    "s1": "cholesterol",
    "s2": "LDL",
    "s3": "HDL",
}
table = load_diabetes(as_frame=True, scaled=False).data[list(columns)].rename(columns=columns)
train, test = train_test_split(table, test_size=0.3, random_state=0)
test = test.reset_index(drop=True)
high, low = test["LDL"].idxmax(), test["LDL"].idxmin()
test.loc[high, "LDL"], test.loc[low, "LDL"] = test.loc[low, "LDL"], test.loc[high, "LDL"]

model = TableDensityEstimator(max_epochs=150, random_state=0).fit(train)
terms = model.explain(test)
total = model.score_samples(test)
print("the terms add up to the log-density:", np.allclose(terms.sum(1), total))

# %%
# Terms of different columns have different units. Less the median of its column, a term says how
# much less likely the value is than that of a usual sample.
relative = terms - np.median(terms, axis=0)
odd = np.argsort(total)[:8]
for row in odd[:3]:
    column = table.columns[relative[row].argmin()]
    spoilt = " (spoilt)" if row in (high, low) else ""
    print(f"sample {row}{spoilt}: {column} = {test.loc[row, column]:g}, {relative[row].min():.1f}")

# %%
# On the left the eight least likely samples, on the right two columns of all.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
limit = np.abs(relative[odd]).max()
image = left.imshow(relative[odd], cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
for i, row in enumerate(odd):
    for j, name in enumerate(table.columns):
        dark = abs(relative[row, j]) > 0.6 * limit
        text = f"{test.loc[row, name]:g}"
        left.text(j, i, text, ha="center", va="center", color="white" if dark else "black")
left.set_xticks(range(table.shape[1]), table.columns, rotation=30, ha="right")
left.set_yticks(range(len(odd)), [f"sample {row}" for row in odd])
figure.colorbar(image, ax=left, label="term, less the median of its column")

right.scatter(train["cholesterol"], train["LDL"], s=8, color="lightgrey", label="training samples")
right.scatter(test["cholesterol"], test["LDL"], s=8, color="grey", label="test samples")
for row in odd[:3]:
    right.annotate(f"{row}", test.loc[row, ["cholesterol", "LDL"]], color="C3")
right.set(xlabel="cholesterol", ylabel="LDL")
right.legend()
plt.show()
