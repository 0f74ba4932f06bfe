"""The tuned constants of model selection, each with the figures it rests on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """Shares are of ``max_fit_time``, and figures in files of ``benchmarks/results``.

    Attributes
    ----------
    mixture_share : float
        What mixtures take in all spaces together before one of them leads. model_selection.txt:
        by then the leading space is that of the end on every table.
    leading_share : float
        When the mixture of the leading space stops growing for the first time. model_selection.txt.
    grown_share : float
        When the best base density stops growing for good, which leaves the rest to a network.
        density.txt, gaussian_mixture_50: it still gains at half of the time.
    asked_for_share : float
        The same of a mixture that was asked for.
    flow_share : float
        What a first training of an autoregressive flow may take, one with each number of layers.
        model_selection.txt: on the funnel it is then ahead of everything else.
    flow_epochs : int
        The same where time is not limited; as many as 60 s allow for the funnel.
    grown_flow_share : float
        What each training of the flow takes that grows. density.txt, funnel_10.
    flow_layers : tuple of int
        One layer suits features that depend on those before them; a second goes the other way.
    flow_rows_per_feature : int
        Fewer do not determine the flow's weights. density.txt: below it no table gains.
    training_share : float
        When training ends; what follows it takes time as well.
    min_train_rows : int
        Fewer cannot be learned from.
    n_folds : int
        Of the cross-validation that chooses marginal transforms of tables with few rows.
    """

    mixture_share: float = 0.05
    leading_share: float = 0.1
    grown_share: float = 0.85
    asked_for_share: float = 0.5
    flow_share: float = 0.07
    flow_epochs: int = 25
    grown_flow_share: float = 0.2
    flow_layers: tuple[int, ...] = (1, 2)
    flow_rows_per_feature: int = 150
    training_share: float = 0.93
    min_train_rows: int = 10
    n_folds: int = 5


TUNING = Tuning()
