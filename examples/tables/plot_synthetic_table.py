"""
A synthetic table
=================

``TableDensityEstimator.sample`` gives a table with the columns, types and roundings of the table of
the fit. The memorisation report tells whether the synthetic samples stand closer to those of the
fit than they should.
"""

# %%
# Five columns of the diabetes data. Half of the patients are kept out of the fit. Most blood
# pressures are whole numbers, but a few are means with two decimals; a step of 1 says that these
# are rounded.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from sklearn_dsm import TableDensityEstimator

table = load_diabetes(as_frame=True, scaled=False).frame
table = table[["sex", "age", "bmi", "bp", "target"]].astype({"sex": int, "age": int})
table["sex"] = table["sex"].map({1: "a", 2: "b"})
train, other = train_test_split(table, test_size=0.5, random_state=0)

types = {"bp": {"kind": "cells", "step": 1}}
model = TableDensityEstimator(types, max_epochs=200, random_state=0).fit(train)
synthetic = model.sample(len(train), random_state=0)
print(train.head(4).to_string(index=False))
print(synthetic.head(4).to_string(index=False))
for name, kind in model.column_types_.items():
    print(f"{name:<8} {kind['kind']:<9} step {kind.get('step', '-')}")

# %%
# Nothing is memorised where a half of the synthetic samples is closer to the training samples than
# to the others, and where log-probabilities and distances do not tell who was in the fit, which are
# areas of .5 under the ROC curve. Here the shares and areas are a little above .5: a fit to few
# samples knows these somewhat better than others.
for name, value in model.memorisation_report(train, other, random_state=0).items():
    print(f"{name:<32} {value:8.3f}")

# %%
# The distributions of single columns, and of three columns together.
tables = {"real": train, "synthetic": synthetic}
figure, panels = plt.subplots(2, 4, figsize=(11, 5.5), layout="constrained")
for panel, name in zip(panels[0], ["age", "bmi", "bp", "target"], strict=True):
    bins = np.linspace(table[name].min(), table[name].max(), 13)
    panel.hist(train[name], bins=bins, alpha=0.4, label="real")
    panel.hist(synthetic[name], bins=bins, histtype="step", color="C1", label="synthetic")
    panel.set(xlabel=name)
panels[0, 3].legend()
for panel, (label, data, y) in zip(
    panels[1],
    [(label, data, y) for y in ("target", "bp") for label, data in tables.items()],
    strict=True,
):
    for sex, color in (("a", "C2"), ("b", "C3")):
        some = data[data["sex"] == sex]
        panel.scatter(some["bmi"], some[y], s=6, color=color, label=f"sex {sex}")
    panel.set(xlabel="bmi", ylabel=y, title=label)
    panel.set(xlim=(16, 44), ylim=(table[y].min() * 0.9, table[y].max() * 1.05))
panels[1, 0].legend()
plt.show()
