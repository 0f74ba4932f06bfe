"""The methods of the density benchmark: this package's and its competitors'.

A method takes rows, a budget in seconds and a seed, and gives an object that has
``score_samples``. Every one chooses its settings by rows that it holds out of those given.
A ``note`` of the object, where it has one, says which settings those are, and where the
budget cut it short.
"""

from __future__ import annotations

from _methods import Method

OURS = "DSMDensityEstimator"
FAST = "DSM, fast"
FLOW, NORMAL_FLOW = "NSF", "NSF, gaussianised columns"
METHODS = {
    OURS: Method("_ours:score_matching"),
    FAST: Method("_ours:amortised"),
    "KernelDensity": Method("_kernels:kernel_density"),
    "GaussianMixture": Method("_mixtures:gaussian_mixture"),
    "BayesianGaussianMixture": Method("_mixtures:bayesian_mixture"),
    FLOW: Method("_flows:spline_flow", "zuko"),
    "MAF": Method("_flows:affine_flow", "zuko"),
    NORMAL_FLOW: Method("_flows:spline_flow_of_normal_columns", "zuko"),
    "VineDensity": Method("_vines:vine", "pyvinecopulib"),
}
