"""One small network for each field, which sees any of the other fields."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .heads import N_OUTPUTS
from .layout import Layout

# Linear combinations of inputs that go to the outputs as they are.
N_LINEAR = 8
ALL = slice(None)


class FieldNetworks(nn.Module):
    """Networks of all fields and members, computed together.

    A network sees the fields before its own, and of those after it the ones that it is shown.

    Parameters
    ----------
    layout : Layout
    n_members : int
    width : int
        Of the two hidden layers.
    dropout : float
    """

    before: Tensor
    after: Tensor

    def __init__(
        self,
        layout: Layout,
        n_members: int,
        width: int,
        dropout: float,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        fields, owner = layout.fields, layout.input_fields
        self.n_members, self.width, self.dropout = n_members, width, dropout
        # What drops units out.
        self.generator: torch.Generator | None = None
        columns, order = np.array([field.column for field in fields]), np.arange(len(fields))
        others = columns[:, None] != columns
        earlier = order[:, None] < order
        for name, visible in (("before", earlier & others), ("after", ~earlier & others)):
            mask = visible[owner].astype(np.float32)
            self.register_buffer(name, torch.from_numpy(mask)[:, None, :, None])
        self.of_numbers = [f for f, field in enumerate(fields) if not field.n_states]
        self.of_states = [f for f, field in enumerate(fields) if field.n_states]
        shape, n_last = (n_members, len(fields)), width + N_LINEAR

        def start(*size, scale):
            return nn.Parameter(scale * torch.randn(size, generator=generator))

        # About two inputs of a column are not 0.
        self.first = start(len(owner), *shape, n_last, scale=(2 * len(layout.codes)) ** -0.5)
        self.first_bias = nn.Parameter(torch.zeros(*shape, n_last))
        self.second = start(*shape, width, width, scale=width**-0.5)
        self.second_bias = nn.Parameter(torch.zeros(*shape, 1, width))
        numbers = (n_members, len(self.of_numbers))
        self.numbers = nn.Parameter(torch.zeros(*numbers, n_last, N_OUTPUTS))
        self.numbers_bias = nn.Parameter(torch.zeros(*numbers, 1, N_OUTPUTS))
        sizes = [fields[f].n_states for f in self.of_states]
        self.states = nn.ParameterList(torch.zeros(n_members, n_last, size) for size in sizes)
        self.states_bias = nn.ParameterList(torch.zeros(n_members, 1, size) for size in sizes)

    def hidden(
        self, inputs: Tensor, shown: Tensor | None, fields: list[int], members: slice = ALL
    ) -> Tensor:
        """What the last layers see (n_members, len(fields), n, width + N_LINEAR)."""
        weight = self.first[:, members][:, :, fields]
        bias = self.first_bias[members][:, fields]
        first = inputs @ (weight * self.before[:, :, fields]).flatten(1)
        if shown is not None:
            first = first + shown @ (weight * self.after[:, :, fields]).flatten(1)
        # Members and fields first, samples in the middle.
        first = (first.view(len(inputs), *bias.shape) + bias).permute(1, 2, 0, 3)
        hidden = self._active(first[..., : self.width])
        more = hidden @ self.second[members][:, fields] + self.second_bias[members][:, fields]
        return torch.cat([hidden + self._active(more), first[..., self.width :]], -1)

    def forward(
        self, inputs: Tensor, shown: Tensor | None = None, members: slice = ALL
    ) -> tuple[Tensor, list[Tensor]]:
        """Outputs of the networks of all fields.

        Parameters
        ----------
        inputs : Tensor of shape (n, n_inputs)
        shown : Tensor of shape (n, n_inputs), optional
            Inputs of later fields, 0 where these are not shown.
        members : slice
            Which members are asked.

        Returns
        -------
        numbers : Tensor of shape (n_members, n_numbers, n, N_OUTPUTS)
        states : list of Tensor of shape (n_members, n, n_states)
        """
        last = self.hidden(inputs, shown, list(range(self.first.shape[2])), members)
        numbers = last[:, self.of_numbers] @ self.numbers[members] + self.numbers_bias[members]
        states = zip(self.of_states, self.states, self.states_bias, strict=True)
        return numbers, [last[:, f] @ w[members] + bias[members] for f, w, bias in states]

    def of_field(self, f: int, inputs: Tensor, shown: Tensor | None = None) -> Tensor:
        """Outputs (n_members, n, size) of one network."""
        last = self.hidden(inputs, shown, [f])[:, 0]
        if f in self.of_numbers:
            k = self.of_numbers.index(f)
            return last @ self.numbers[:, k] + self.numbers_bias[:, k]
        k = self.of_states.index(f)
        return last @ self.states[k] + self.states_bias[k]

    def _active(self, x: Tensor) -> Tensor:
        active = functional.silu(x)
        if not self.training or not self.dropout:
            return active
        kept = torch.empty_like(active).bernoulli_(1 - self.dropout, generator=self.generator)
        return active * kept / (1 - self.dropout)

    def units(self) -> list[tuple[Tensor, list[int]]]:
        """Parameters with the fields along their axis of fields, for those with one field: one."""
        every = list(range(self.first.shape[2]))
        found = [(self.first.transpose(0, 1).transpose(1, 2), every)]
        found += [(part, every) for part in (self.first_bias, self.second, self.second_bias)]
        found += [(part, self.of_numbers) for part in (self.numbers, self.numbers_bias)]
        for f, weight, bias in zip(self.of_states, self.states, self.states_bias, strict=True):
            found += [(weight[:, None], [f]), (bias[:, None], [f])]
        return found
