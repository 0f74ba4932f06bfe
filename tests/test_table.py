"""Tables of mixed columns: the law sums to one, and scikit-learn's contract."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_dsm import TableDensityEstimator


@parametrize_with_checks([TableDensityEstimator(max_epochs=2, random_state=0)])
def test_scikit_learn(estimator, check):
    check(estimator)
