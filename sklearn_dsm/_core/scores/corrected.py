"""An exact score plus what a network has learned."""

from __future__ import annotations

from torch import Tensor

from ..noise.level import NoiseLevel
from .model import ScoreModel
from .network import NoiseNetwork


class CorrectedScore(ScoreModel):
    r"""The score of a reference plus a learned correction.

    The network works on the *noise* a row holds, :math:`\epsilon = -\sqrt v\,s`: with y the
    row divided by the level's scale, the score is
    :math:`s_{ref}(x) - c(y, \lambda) / \sqrt v`. A network that returns zero leaves the
    reference as it is.

    Parameters
    ----------
    reference : ScoreModel
        What is corrected, and in any case what the loss is measured against.
    network : NoiseNetwork
        Maps rows (..., n, d) and a log-SNR of shape () or (n, 1) to an output (..., n, d).
        One built with ``whole=True`` gives the whole score. Both are given the context.
    """

    def __init__(self, reference: ScoreModel, network: NoiseNetwork):
        super().__init__()
        self.reference = reference
        self.network = network
        self.residual = not network.whole

    def noise_and_correction(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The noise the reference sees in the rows, and what this model adds to it."""
        reference = -level.v.sqrt() * self.reference.score(x, level, context)
        output = self.network(x / level.scale, level.log_snr, context)
        return reference, output if self.residual else output - reference

    def noise_correction_and_divergence(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`noise_and_correction`, and the correction's exact divergence (..., n) in x."""
        output, trace = self.network.forward_and_divergence(x / level.scale, level.log_snr, context)
        trace = trace / level.scale.squeeze(-1)
        score, base = self.reference.score_and_divergence(x, level, context)
        noise, sigma = -level.v.sqrt() * score, level.v.sqrt()
        if self.residual:
            return noise, output, trace
        return noise, output - noise, trace + sigma.squeeze(-1) * base

    def score(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        learned: Tensor = (
            -self.network(*self._inputs(x, level, context)).to(x.dtype) / level.v.sqrt()
        )
        return learned + self.reference.score(x, level, context) if self.residual else learned

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        noise, diagonal = self.network.forward_and_jacobian_diagonal(
            *self._inputs(x, level, context)
        )
        factor = -level.v.sqrt().reciprocal()
        score, diagonal = factor * noise.to(x.dtype), factor / level.scale * diagonal.to(x.dtype)
        if not self.residual:
            return score, diagonal
        base = self.reference.score_and_jacobian_diagonal(x, level, context)
        return base[0] + score, base[1] + diagonal

    def score_and_divergence(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        noise, trace = self.network.forward_and_divergence(*self._inputs(x, level, context))
        factor = -level.v.sqrt().reciprocal()
        score = factor * noise.to(x.dtype)
        divergence = (factor / level.scale).squeeze(-1) * trace.to(x.dtype)
        if not self.residual:
            return score, divergence
        base = self.reference.score_and_divergence(x, level, context)
        return base[0] + score, base[1] + divergence

    def _inputs(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the network sees, in its own precision, which may be below the rows'."""
        dtype = next((weight.dtype for weight in self.network.parameters()), x.dtype)
        return (x / level.scale).to(dtype), level.log_snr.to(dtype), context
