"""Tensors whose channels do not come first: what an operation sees, and channels first again.

Boxes are kept as (n, channels, i, j, k). A network may permute its maps, or split their channels
in groups; what it does then is local as long as the axes of space stay axes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

__all__ = ["CHANNELS", "PLAIN_FORM", "Form"]

#: an axis of channels; those of space are 0, 1 and 2
CHANNELS = -1


@dataclass(frozen=True)
class Form:
    """What the axes of a tensor (n, ...) are, after the first.

    Attributes
    ----------
    axes : tuple of int
        0, 1 or 2 for an axis of space, each once; -1 for channels.
    """

    axes: tuple[int, ...]

    @property
    def space(self) -> list[int]:
        """Where the three axes of space are in the tensor."""
        return [1 + self.axes.index(axis) for axis in range(3)]

    def grid(self, shape: Sequence[int]) -> list[int]:
        """Positions along each axis of space, of a tensor of this shape."""
        return [int(shape[dim]) for dim in self.space]

    def n_channels(self, shape: Sequence[int]) -> int:
        """All channels of a tensor of this shape."""
        return prod(
            int(n) for axis, n in zip(self.axes, shape[1:], strict=True) if axis == CHANNELS
        )

    def plain(self, x: Tensor) -> Tensor:
        """A tensor of this form as (n, channels, i, j, k)."""
        if self == PLAIN_FORM:
            return x
        channels = [1 + d for d, axis in enumerate(self.axes) if axis == CHANNELS]
        space = self.space
        x = x.permute(0, *channels, *space)
        return x.reshape(x.shape[0], -1, *x.shape[-3:])

    def native(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """(n, channels, i, j, k) in this form, as the operation wants it.

        `shape` is that of the whole tensor, from which the sizes of the axes of channels are.
        """
        if self == PLAIN_FORM:
            return x
        sizes = [int(n) for axis, n in zip(self.axes, shape[1:], strict=True) if axis == CHANNELS]
        x = x.reshape(x.shape[0], *sizes, *x.shape[2:])
        channels, order = iter(range(1, 1 + len(sizes))), [0]
        for axis in self.axes:
            order.append(next(channels) if axis == CHANNELS else 1 + len(sizes) + axis)
        return x.permute(order)

    def permuted(self, order: Sequence[int]) -> Form | None:
        """After a permutation of all axes; None if the batch's moves."""
        if order[0] != 0:
            return None
        return Form(tuple(self.axes[d - 1] for d in order[1:]))

    def viewed(self, before: Sequence[int], after: Sequence[int]) -> Form | None:
        """After a view from one shape to another; None if axes of space are split or merged."""
        axes: list[int] = []
        waiting = [int(n) for n in after[1:]]
        run = 1
        for axis, n in [*zip(self.axes, before[1:], strict=True), (None, 1)]:
            if axis == CHANNELS:
                run *= int(n)
                continue
            while run > 1 or (waiting and waiting[0] == 1 and (axis is None or int(n) != 1)):
                if not waiting or run % waiting[0]:
                    return None
                run //= waiting.pop(0)
                axes.append(CHANNELS)
            if axis is None:
                break
            if not waiting or waiting.pop(0) != int(n):
                return None
            axes.append(axis)
        return None if waiting else Form(tuple(axes))

    def without(self, dims: Sequence[int], kept: bool) -> Form | None:
        """After a mean or maximum over axes of channels; None if others are among them."""
        gone = {d % (1 + len(self.axes)) for d in dims}
        if any(d == 0 or self.axes[d - 1] != CHANNELS for d in gone):
            return None
        if kept:
            return self
        return Form(tuple(a for d, a in enumerate(self.axes) if d + 1 not in gone))


#: (n, channels, i, j, k)
PLAIN_FORM = Form((CHANNELS, 0, 1, 2))
