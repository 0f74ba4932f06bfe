"""The law of a whole table: a chain of conditional laws, its marginals, and draws from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from .coding import MAX_SCORE
from .fitting import Batch, tensors
from .heads import Normals, draw_scores, draw_states, log_states, normals, pooled
from .layout import HOLE, STATE, VALUE, Layout, Samples
from .nets import N_LINEAR, FieldNetworks
from .uniforms import CHOICE, N_SEQUENCES, PLACE, Common, Independent

# Numbers that are held at once.
CHUNK_NUMBERS = 2**23
# Draws of missing values for each sample, doubled until its log-probability is as exact as this.
FIRST_DRAWS, MAX_DRAWS, LARGEST_ERROR = 64, 512, 0.005
# A share of every proposal is wide, so that few draws do not miss what it thinks unlikely.
WIDE_SHARE = 0.1
# Candidates of which one is chosen by importance where values are given.
N_CANDIDATES = 32
MAX_REDRAWS = 200


class Condition(NamedTuple):
    """What is known of a column without knowing its value.

    Attributes
    ----------
    states : ndarray of int
        Those allowed.
    low, high : float
        Ends of the interval of scores.
    """

    states: np.ndarray
    low: float
    high: float


class Draws(NamedTuple):
    """Samples whose missing values are drawn.

    Attributes
    ----------
    samples : Samples
    terms : ndarray of shape (n, n_fields)
        Log-probability of each field given those before it.
    log_proposal : ndarray of shape (n,)
        Of what was drawn.
    """

    samples: Samples
    terms: np.ndarray
    log_proposal: np.ndarray

    @property
    def log_weight(self) -> np.ndarray:
        """What the mean of exp(log_weight) over draws is the probability of: what was seen."""
        return self.terms.sum(1) - self.log_proposal


class TableLaw:
    r"""The product of each field's law given the fields before it.

    .. math:: p(x) = \prod_f p_f(x_f \mid x_1, \ldots, x_{f-1})

    Missing values are integrated over by importance sampling. The proposals are the laws that the
    same networks give for a field when later fields are shown to them as well. If these were exact,
    all weights would be equal.

    Parameters
    ----------
    layout : Layout
    networks : FieldNetworks
    frequencies : list of ndarray
        Of the states of each field, with one more for states that the fit has not seen.
    """

    def __init__(self, layout: Layout, networks: FieldNetworks, frequencies: list[np.ndarray]):
        self.layout, self.networks = layout, networks.double().eval()
        self.frequencies = frequencies
        self.device = next(networks.parameters()).device
        numbers = networks.n_members * layout.n_fields * (networks.width + N_LINEAR)
        self.chunk = max(64, CHUNK_NUMBERS // numbers)

    def log_probability(
        self, samples: Samples, conditions: dict[int, Condition]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities (n,) of what is seen and standard errors (n,) of these."""
        drawn = self._to_draw(samples, conditions, everything=False)
        found, error = np.zeros(len(samples)), np.zeros(len(samples))
        whole = np.flatnonzero(~drawn.any(1))
        for rows in self._chunks(whole):
            found[rows] = self.terms(samples.take(rows)).sum(1)
        rest, n_draws = np.flatnonzero(drawn.any(1)), FIRST_DRAWS
        log_weight, n_done = np.full((len(rest), MAX_DRAWS), -np.inf), 0
        uniforms = Common(self.layout.n_fields, MAX_DRAWS)
        place = np.arange(len(rest))
        while len(place) and n_done < MAX_DRAWS:
            uniforms.turn(n_done, n_draws)
            for part in self._chunks(place, n_draws):
                each = self.draw(samples, rest[part], n_draws, conditions, uniforms, False)
                weights = each.log_weight.reshape(len(part), n_draws)
                log_weight[part, n_done : n_done + n_draws] = weights
            n_done += n_draws
            found[rest[place]], error[rest[place]] = _log_mean(log_weight[place, :n_done])
            place = place[error[rest[place]] > LARGEST_ERROR]
            n_draws = n_done
        return found, error

    def terms(self, samples: Samples) -> np.ndarray:
        """Log-probabilities (n, n_fields) of fields given those before; 0 without value."""
        found = np.zeros(samples.have.shape)
        batch = tensors(self.layout, samples, torch.float64)
        with torch.no_grad():
            numbers, states = self.networks(batch.inputs.to(self.device))
            for k, f in enumerate(self.networks.of_numbers):
                found[:, f] = self._of_numbers(f, numbers[:, k].cpu(), batch, samples)
            for f, outputs in zip(self.networks.of_states, states, strict=True):
                law = self._state_law(f, outputs.cpu())
                found[:, f] = np.take_along_axis(law, samples.state[:, [f]], 1)[:, 0]
        return np.where(samples.have, found, 0.0)

    def explained(self, samples: Samples) -> np.ndarray:
        """Contributions (n, n_fields), which add up to the log-probabilities."""
        missing = self._to_draw(samples, {}, everything=False)
        found, total = np.zeros(samples.have.shape), self.log_probability(samples, {})[0]
        uniforms, n_draws = Common(self.layout.n_fields, FIRST_DRAWS), FIRST_DRAWS
        whole, rest = np.flatnonzero(~missing.any(1)), np.flatnonzero(missing.any(1))
        for rows in self._chunks(whole):
            found[rows] = self.terms(samples.take(rows))
        for rows in self._chunks(rest, n_draws):
            each = self.draw(samples, rows, n_draws, {}, uniforms, everything=False)
            log_weight = each.log_weight.reshape(len(rows), n_draws)
            share = np.exp(log_weight - logsumexp(log_weight, axis=1, keepdims=True))
            terms = each.terms.reshape(len(rows), n_draws, -1)
            seen = np.where(missing[rows], 0.0, np.einsum("nd,ndf->nf", share, terms))
            left = (total[rows] - seen.sum(1)) / missing[rows].sum(1)
            found[rows] = seen + missing[rows] * left[:, None]
        return found

    def draw(
        self,
        samples: Samples,
        rows: np.ndarray,
        n_draws: int,
        conditions: dict[int, Condition],
        uniforms: Common | Independent,
        everything: bool,
    ) -> Draws:
        """Repeat samples and draw what is missing, all of it or what matters to the rest."""
        filled = samples.take(np.repeat(rows, n_draws))
        wanted = self._to_draw(filled, conditions, everything)
        inputs = torch.from_numpy(self.layout.inputs(filled))
        log_proposal = np.zeros(len(filled))
        # A single draw is not weighted, so it must be from the law itself.
        wide = WIDE_SHARE if n_draws > 1 else 0.0
        for f in range(self.layout.n_fields):
            need = np.flatnonzero(wanted[:, f] & self._applies(filled, f))
            if not len(need):
                continue
            state, score, log_q = self._drawn(f, inputs[need], conditions, need, uniforms, wide)
            self.layout.write(filled, f, need, state, score)
            log_proposal[need] += log_q(filled, need)
            block = self.layout.field_inputs(filled, f, need)
            inputs[torch.from_numpy(need), self.layout.inputs_of(f)] = torch.from_numpy(block)
        return Draws(filled, self.terms(filled), log_proposal)

    def chosen(
        self,
        samples: Samples,
        conditions: dict[int, Condition],
        random: np.random.RandomState,
        n_candidates: int = N_CANDIDATES,
    ) -> Samples:
        """One draw of all that is missing for each sample, by importance among candidates."""
        found = samples.take(np.arange(len(samples)))
        is_missing = self._to_draw(samples, conditions, everything=True).any(1)
        # Without anything known that comes later, the first candidate is a draw from the law.
        matters = self._to_draw(samples, conditions, everything=False).any(1) | bool(conditions)
        for rows, n_draws in ((is_missing & ~matters, 1), (is_missing & matters, n_candidates)):
            for part in self._chunks(np.flatnonzero(rows), n_draws):
                each = self.draw(samples, part, n_draws, conditions, Independent(random), True)
                picked = _picked(each.log_weight.reshape(len(part), n_draws), random)
                best = each.samples.take(np.arange(len(part)) * n_draws + picked)
                for target, values in zip(found, best, strict=True):
                    target[part] = values
        return found

    def _to_draw(self, samples: Samples, conditions, everything: bool) -> np.ndarray:
        """Fields (n, n_fields) of columns that are not seen, and come before some that are."""
        fields = self.layout.fields
        missing, known = np.zeros_like(samples.have), samples.have.copy()
        for f, field in enumerate(fields):
            hole = self.layout.of_column(field.column, HOLE)
            if field.part == HOLE:
                missing[:, f] = ~samples.have[:, f]
                continue
            state = self.layout.of_column(field.column, STATE)
            seen = samples.have[:, f if state is None else state]
            missing[:, f] = ~seen
            if hole is not None:
                missing[:, f] &= ~(samples.have[:, hole] & (samples.state[:, hole] == 1))
            if field.column in conditions:
                known[:, f] |= missing[:, f]
        if everything:
            return missing
        later = np.flip(np.logical_or.accumulate(np.flip(known, 1), 1), 1)
        return missing & later

    def _applies(self, filled: Samples, f: int) -> np.ndarray:
        """Whether samples have a value to be drawn, given the fields before."""
        field = self.layout.fields[f]
        found = np.ones(len(filled), dtype=bool)
        hole = self.layout.of_column(field.column, HOLE)
        if hole is not None and field.part != HOLE:
            found &= filled.state[:, hole] == 0
        state = self.layout.of_column(field.column, STATE)
        if field.part == VALUE and state is not None:
            found &= filled.state[:, state] == self.layout.fields[state].n_states - 1
        return found

    @torch.no_grad()
    def _drawn(self, f: int, inputs: Tensor, conditions, rows: np.ndarray, uniforms, wide: float):
        """States, scores, and the function that gives their log-probability."""
        field, n = self.layout.fields[f], len(inputs)
        outputs = self.networks.of_field(f, inputs.to(self.device), inputs.to(self.device)).cpu()
        condition = conditions.get(field.column)
        if field.n_states:
            # States that the fit has not seen are never drawn.
            log_law = self._state_law(f, outputs)[:, : field.n_states]
            allowed = np.zeros(field.n_states)
            if field.part == HOLE and condition is not None:
                allowed[1] = -np.inf
            elif condition is not None:
                allowed[:] = -np.inf
                allowed[condition.states] = 0.0
            log_law = log_law + allowed
            log_law -= logsumexp(log_law, axis=1, keepdims=True)
            with np.errstate(divide="ignore"):
                even = np.log(wide) + allowed - np.log(np.isfinite(allowed).sum())
            log_law = np.logaddexp(np.log1p(-wide) + log_law, even)
            state = draw_states(np.exp(log_law), uniforms.get(f, CHOICE, rows))
            return state, np.zeros(n), lambda filled, need: log_law[np.arange(n), state]
        code, law = self.layout.codes[field.column], pooled(normals(outputs))
        law = law if not wide else _widened(law, wide)
        # Neighbours by choice are neighbours by value, as quasi-random points want it.
        order = law.mean.argsort(-1)
        law = Normals(*(part.gather(-1, order) for part in law))
        ends = (condition.low, condition.high) if condition else (-MAX_SCORE, MAX_SCORE)
        low, high = (np.full(n, end) for end in ends)
        score, again = np.empty(n), np.arange(n)
        for attempt in range(MAX_REDRAWS):
            part = Normals(*(each[again] for each in law))
            numbers = (uniforms.get(f, k, rows[again], attempt) for k in (CHOICE, PLACE))
            score[again] = draw_scores(part, low[again], high[again], *numbers)
            again = again[code.is_point_cell(score[again])]
            if not len(again):
                break
        log_total = self._log_total(law, code, *ends)
        step = code.type.step

        def log_q(filled, need):
            if step:
                low, high = (torch.from_numpy(part[need, f]) for part in (filled.low, filled.high))
                return law.log_mass(low, high).numpy() - log_total
            scores = torch.from_numpy(filled.score[need, f])
            return law.log_density(scores).numpy() + filled.log_slope[need, f] - log_total

        state = np.full(n, code.n_states - 1)
        return state, score, log_q

    def _log_total(self, law: Normals, code, low: float, high: float) -> np.ndarray:
        """Log-probability (n,) of an interval less the cells in it that are point masses."""
        shape = law.mean.shape[:-1]

        def mass(ends):
            low, high = (torch.full(shape, float(end), dtype=torch.float64) for end in ends)
            return torch.exp(law.log_mass(low, high))

        total = mass((low, high)).numpy()
        for a, b in code.point_cells:
            if a < high and b > low:
                total = total - mass((max(a, low), min(b, high))).numpy()
        return np.log(np.maximum(total, 1e-300))

    def _of_numbers(self, f: int, outputs: Tensor, batch: Batch, samples: Samples) -> np.ndarray:
        law, code = pooled(normals(outputs)), self.layout.codes[self.layout.fields[f].column]
        if code.type.step:
            found = law.log_mass(batch.low[:, f], batch.high[:, f]).numpy()
            if len(code.point_cells):
                found = found - self._log_total(law, code, -MAX_SCORE, MAX_SCORE)
        else:
            found = law.log_density(batch.score[:, f]).numpy()
        return found + samples.log_slope[:, f]

    def _state_law(self, f: int, outputs: Tensor) -> np.ndarray:
        """Log-probabilities (n, n_states + 1); the last is of states that were not seen."""
        frequency = self.frequencies[f]
        known = np.maximum(frequency[:-1], 1e-300)
        law = log_states(outputs, torch.from_numpy(np.log(known / known.sum()))).numpy()
        with np.errstate(divide="ignore"):
            unseen = np.full((len(law), 1), np.log(frequency[-1]))
        return np.hstack([law + np.log1p(-frequency[-1]), unseen])

    def _chunks(self, rows: np.ndarray, n_draws: int = 1):
        size = max(1, self.chunk // n_draws)
        return (rows[first : first + size] for first in range(0, len(rows), size))


def _widened(law: Normals, share: float) -> Normals:
    """A pooled mixture with a larger share of its last component, the column's own law."""
    log_weight = law.log_weight.clone()
    log_weight[..., -1] = torch.logaddexp(
        log_weight[..., -1], torch.full_like(log_weight[..., -1], np.log(share))
    )
    return law._replace(log_weight=torch.log_softmax(log_weight, -1))


def _picked(log_weight: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One candidate (n,) of each sample by weights (n, n_candidates)."""
    top = log_weight.max(1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError(
            "What is given has no probability under the fitted law, so there is nothing to draw "
            "from. Widen the ranges, or check the values that are given."
        )
    return draw_states(np.exp(log_weight - top), random.uniform(size=len(top)))


def _log_mean(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms (n,) of means over draws, and their standard errors (n,)."""
    top = log_weight.max(1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    weight = np.exp(log_weight - top)
    mean = weight.mean(1)
    by_sequence = weight.reshape(len(weight), -1, N_SEQUENCES).mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = by_sequence.std(1, ddof=1) / np.sqrt(N_SEQUENCES) / mean
        return top[:, 0] + np.log(mean), np.nan_to_num(error)
