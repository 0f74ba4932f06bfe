"""The tuned constants of model selection, each with the figures it rests on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """Shares are of the seconds of a fit, and figures in files of ``benchmarks/results``.

    What is called "share" lasts so long; what is called "until" ends when so much is over.

    Attributes
    ----------
    mixture_share : float
        What mixtures take in all spaces together before one of them leads. model_selection.txt:
        by then the leading space is that of the end on every table.
    leading_until : float
        When the mixture of the leading space, which goes on after that, rests as well.
        model_selection.txt.
    grown_until : float
        When the best base density stops growing for good, which leaves the rest to a network.
        density.txt, gaussian_mixture_50: it still gains at half of the time.
    asked_for_until : float
        The same of a mixture that was asked for.
    flow_share : float
        What a first training of an autoregressive flow may take, one with each number of layers.
        model_selection.txt: on the funnel it is then ahead of everything else.
    flow_epochs : int
        The same where time is not limited; as many as 60 s allow for the funnel.
    grown_flow_share : float
        What each training of the flow takes that grows. density.txt, funnel_10.
    flow_epochs_to_tell : int
        Of fewer the gains say nothing of later ones. NOTES.md, protein and funnel_10 in 6 s.
    flow_layers : tuple of int
        One layer suits features that depend on those before them; a second goes the other way.
    flow_rows_per_feature : int
        Fewer do not determine the flow's weights. density.txt: below it no table gains.
    pruned_between : tuple of float
        The shares of a training between which it is judged, after every epoch, whether less is to
        be expected of it than of the best base density. model_selection.txt: no network that wins
        in the end is pruned. After that a base density has too little time left to grow in; flows
        are judged until they end.
    training_until : float
        When training ends; what follows it takes time as well.
    min_train_rows : int
        Fewer cannot be learned from.
    searched_rows, searched_numbers : int
        Where time is limited, most samples, and most numbers in them, to which base densities are
        fitted; networks are trained on all samples. sizes.txt, 200 x 100000: with all of them, the
        transforms alone take longer than the fit may.
    n_folds : int
        Of the cross-validation that chooses marginal transforms of tables with few rows.
    mixture_sizes : tuple of int
        Numbers of components, tried in turn until two bring nothing. density.txt,
        gaussian_mixture_50 and two_moons: joined mixtures have up to 63 components.
    mixture_rows, rows_per_covariance : int
        Most samples a mixture is first fitted to, and most for each entry of a covariance in the
        iterations after that: more take time that a network needs.
    min_component_rows : int
        A component of fewer samples, or of no more than features, is left out.
    more_iterations : int
        Of those, and of a refit on training and validation samples.
    enough_validation_rows : int
        With fewer the validation set cannot weigh mixtures against each other, and the Bayesian
        information criterion chooses one.
    reg_covar : float
        In units of whitened features.
    min_share, max_joined_numbers : float, int
        Shares in a joined mixture below which one is left out, and the most numbers in the
        covariances of those that stay, which the score of a sample takes time with.
    stacking_iterations : int
        Of the shares; they converge long before.
    max_gain_ratio : float
        The most that a size of a mixture, or a doubling of a flow's time, is expected to gain, in
        gains of the one before.
    """

    mixture_share: float = 0.05
    leading_until: float = 0.1
    grown_until: float = 0.85
    asked_for_until: float = 0.5
    flow_share: float = 0.07
    flow_epochs: int = 25
    grown_flow_share: float = 0.2
    flow_epochs_to_tell: int = 4
    flow_layers: tuple[int, ...] = (1, 2)
    flow_rows_per_feature: int = 150
    pruned_between: tuple[float, float] = (0.2, 0.5)
    training_until: float = 0.93
    min_train_rows: int = 10
    searched_rows: int = 100_000
    searched_numbers: int = 5_000_000
    n_folds: int = 5
    mixture_sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12, 15, 18)
    mixture_rows: int = 10000
    rows_per_covariance: int = 20
    min_component_rows: int = 5
    more_iterations: int = 20
    enough_validation_rows: int = 200
    reg_covar: float = 1e-5
    min_share: float = 0.02
    max_joined_numbers: int = 2**17
    stacking_iterations: int = 200
    max_gain_ratio: float = 0.7


TUNING = Tuning()
