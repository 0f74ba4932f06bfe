"""
A classifier that does without features
=======================================

A density of features and class together is also a classifier: the probabilities of the classes
given the features follow by Bayes' rule. Features that a new sample lacks are integrated over, so
that no imputation is needed.
"""

# %%
# Three measurements and the cultivar of 178 wines, a quarter of which are for the test. So few
# samples take more epochs than the default.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_dsm import TableDensityEstimator

wine = load_wine(as_frame=True)
names = ["flavanoids", "color_intensity", "proline"]
table = wine.data[names].assign(cultivar=wine.target_names[wine.target])
train, test = train_test_split(table, test_size=0.25, stratify=table["cultivar"], random_state=0)

model = TableDensityEstimator(max_epochs=120, random_state=0).fit(train)
rival = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
rival.fit(train[names], train["cultivar"])
classes = np.array(model.column_types_["cultivar"]["values"])

# %%
# Accuracy and mean log-probability of the true class, where features of the test samples are
# removed by chance. ``LogisticRegression`` has the means of the features in their place.
shares = [0.0, 0.25, 0.5]
random = np.random.default_rng(0)
found = {"TableDensityEstimator": [], "LogisticRegression": []}
true_class = np.searchsorted(classes, test["cultivar"].to_numpy(dtype=str))
for share in shares:
    holed = test[names].mask(random.uniform(size=(len(test), len(names))) < share)
    for name, probability in zip(
        found,
        (model.predict_proba(holed, "cultivar"), rival.predict_proba(holed)),
        strict=True,
    ):
        accuracy = np.mean(probability.argmax(1) == true_class)
        log_probability = np.log(probability[np.arange(len(test)), true_class]).mean()
        found[name].append((accuracy, log_probability))
        print(f"{share:.0%} removed  {name:<22} {accuracy:.2f}  {log_probability:6.2f}")

# %%
# On the right the probabilities for one wine, while more and more of it becomes known.
wine_of_interest = test[test["cultivar"] == "class_0"].nsmallest(1, "flavanoids")
known = np.tri(len(names) + 1, len(names), -1, dtype=bool)
steps = pd.concat([wine_of_interest] * len(known))[names].where(known)
probabilities = model.predict_proba(steps, "cultivar")

figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for name, values in found.items():
    for panel, part in zip(panels, np.transpose(values), strict=False):
        panel.plot(shares, part, marker="o", label=name)
panels[0].set(xlabel="share of features removed", ylabel="accuracy")
panels[1].set(xlabel="share of features removed", ylabel="mean log-probability of the class")
panels[0].legend()
bottom = np.zeros(len(steps))
for name, part in zip(classes, probabilities.T, strict=True):
    panels[2].bar(range(len(steps)), part, bottom=bottom, label=name)
    bottom += part
panels[2].set_xticks(range(len(steps)), ["nothing", *(f"+ {name}" for name in names)], rotation=90)
panels[2].set(ylabel="probability", title="one wine of class_0")
panels[2].legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
