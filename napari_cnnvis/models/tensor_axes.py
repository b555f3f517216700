"""Which axes of a tensor are the scan's, wherever a network puts them.

Channels may come first or last, and cells may lie in a row (tokens), in windows or in batches of
slices. An axis of a tensor is written as a product of factors, each of which counts along an axis
of the scan or along none; views split and join factors, permutations move them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from napari_cnnvis.models.layouts import LayerGrid, Layout

__all__ = ["Factor", "Place", "joined", "other", "packed", "whole"]

#: of a factor that counts along none of the scan's axes
NONE = -1


@dataclass(frozen=True)
class Factor:
    """A factor of a tensor's axis.

    Attributes
    ----------
    size : int
    axis : int
        The scan's axis along which it counts, or -1.
    step : int
        Cells from one entry to the next.
    inside : tuple of Factor
        Of an axis with more than cells on it (a class token, padding): what the cells are.
    before : int
        Entries before the cells.
    """

    size: int
    axis: int = NONE
    step: int = 1
    inside: tuple[Factor, ...] = ()
    before: int = 0

    @property
    def counts(self) -> bool:
        """Whether it counts along an axis of the scan."""
        return self.axis != NONE or bool(self.inside)

    def split(self, outer: int) -> tuple[Factor, Factor] | None:
        """Two factors, the first of size `outer`; None if it cannot be split so."""
        if self.inside or self.size % outer:
            return None
        inner = self.size // outer
        return replace(self, size=outer, step=self.step * inner), replace(self, size=inner)


Axis = tuple[Factor, ...]


@dataclass(frozen=True)
class Place:
    """What the axes of a tensor are, and where its cells lie in the input.

    Attributes
    ----------
    axes : tuple of tuple of Factor
        For each axis of the tensor; empty for one of length 1.
    grid : LayerGrid or None
        None if it was not followed; cells are then spread evenly.
    rolled : (int, int, int)
        By how many cells the scan's axes are rolled.
    flipped : (bool, bool, bool)
        Which of them were reversed before that.
    lost : bool
        Cells were put into another order that is not known, so that it is no map any more.
    """

    axes: tuple[Axis, ...]
    grid: LayerGrid | None
    rolled: tuple[int, ...] = (0, 0, 0)
    flipped: tuple[bool, ...] = (False, False, False)
    lost: bool = False

    @classmethod
    def of_input(cls, shape: Sequence[int]) -> Place:
        """Of an input (1, channels, i, j, k)."""
        return cls.with_channels_first(shape, LayerGrid((0.0,) * 3, (1.0,) * 3))

    @classmethod
    def with_channels_first(cls, shape: Sequence[int], grid: LayerGrid | None) -> Place:
        """Of a tensor (n, channels, i, j, k)."""
        return cls(
            (other(shape[0]), other(shape[1]), *(whole(n, a) for a, n in enumerate(shape[2:]))),
            grid,
        )

    @property
    def counts(self) -> bool:
        """Whether any axis is the scan's."""
        return any(factor.counts for axis in self.axes for factor in axis)

    def with_axis(self, dim: int, axis: Axis) -> Place:
        """The same with another axis at `dim`."""
        return replace(self, axes=(*self.axes[:dim], axis, *self.axes[dim + 1 :]))

    def whole_axis(self, dim: int) -> int:
        """Which of the scan's axes lies along `dim`, whole and by itself; -1 if none does."""
        axis = self.axes[dim]
        if len(axis) != 1 or axis[0].inside or axis[0].axis == NONE or axis[0].step != 1:
            return NONE
        factors = [p for a in self.axes for p in a if p.axis == axis[0].axis]
        return axis[0].axis if len(factors) == 1 else NONE

    def viewed(self, shape: Sequence[int]) -> Place | None:
        """After a view as another shape; None if cells and other entries are mixed up by it."""
        waiting = [factor for axis in self.axes for factor in axis if factor.size != 1][::-1]
        axes = []
        for n in shape:
            axis: list[Factor] = []
            missing = int(n)
            while missing > 1:
                if not waiting:
                    return None
                factor = waiting.pop()
                if factor.size > missing:
                    halves = factor.split(missing)
                    if halves is None:
                        return None
                    factor, rest = halves
                    waiting.append(rest)
                elif missing % factor.size:
                    return None
                axis.append(factor)
                missing //= factor.size
            axes.append(tuple(axis))
        return replace(self, axes=tuple(axes))

    def permuted(self, dims: Sequence[int]) -> Place:
        """After a permutation of the axes."""
        return replace(self, axes=tuple(self.axes[d] for d in dims))

    def taken(self, dim: int, start: int, stop: int, step: int) -> Place:
        """After a slice along `dim`; its length there is known to be more than nothing."""
        axis, n = self.axes[dim], len(range(start, stop, step))
        size = prod(factor.size for factor in axis)
        if n == size:
            return self
        if len(axis) == 1 and axis[0].inside and step == 1:
            return self.with_axis(dim, _unpacked(axis[0], start, n))
        along = self.whole_axis(dim)
        if n == 1:
            return self.with_axis(dim, ())
        if along == NONE or (step > 1 and self._moved(along)):
            return self.without(dim, n)
        place = self.with_axis(dim, whole(n, along))
        if self._moved(along):
            return replace(place, grid=None)
        return replace(place, grid=_taken(self.grid, along, start, step))

    def padded(self, dim: int, before: int, after: int) -> Place:
        """After `before` and `after` entries were put to the ends of `dim`, or taken from there."""
        axis = self.axes[dim]
        size = prod(factor.size for factor in axis)
        n = size + before + after
        if not any(factor.counts for factor in axis):
            return self.with_axis(dim, other(n))
        along = self.whole_axis(dim)
        if along == NONE:
            cells = before >= 0 and after >= 0
            return self.with_axis(dim, packed(axis, before, n)) if cells else self.without(dim, n)
        place = self.with_axis(dim, whole(n, along))
        if self._moved(along):
            return replace(place, grid=None)
        return replace(place, grid=_taken(self.grid, along, -before, 1))

    def windowed(
        self,
        dim: int,
        n: int,
        window: tuple[float, float, float, float] | None,
    ) -> Place:
        """After a convolution or pool along `dim` to `n` entries.

        `window` is (kernel, stride, padding, dilation), or None if it is not known.
        """
        before = self._with_padding_as_cells(dim)
        along = before.whole_axis(dim)
        size = prod(factor.size for factor in before.axes[dim])
        if along == NONE:
            return before if n == size else before.without(dim, n)
        place = before.with_axis(dim, whole(n, along))
        grid = before.grid
        if grid is None or window is None or (before._moved(along) and n != size):
            return replace(place, grid=None if window is None and n != size else place.grid)
        kernel, stride, padding, dilation = window
        step, reach = grid.step[along], (kernel - 1) * dilation
        start = grid.start[along] + step * (reach / 2 - padding)
        if before._moved(along):
            start = grid.start[along]
        return replace(
            place,
            grid=grid.at(along, start, step * stride, grid.size[along] + reach * step),
        )

    def rolled_by(self, dim: int, shift: int) -> Place:
        """After a roll along `dim`."""
        along = self.whole_axis(dim)
        if along == NONE:
            return self._shuffled(dim)
        rolled = tuple(r + shift * (a == along) for a, r in enumerate(self.rolled))
        n = self.axes[dim][0].size
        return replace(self, rolled=tuple(r % n if a == along else r for a, r in enumerate(rolled)))

    def flipped_along(self, dim: int) -> Place:
        """After a flip along `dim`."""
        along = self.whole_axis(dim)
        if along == NONE:
            return self._shuffled(dim)
        sign = tuple(f != (a == along) for a, f in enumerate(self.flipped))
        rolled = tuple(-r if a == along else r for a, r in enumerate(self.rolled))
        return replace(self, flipped=sign, rolled=rolled)

    def without(self, dim: int, n: int) -> Place:
        """With `n` entries along `dim` of which nothing is known; lost if cells were there."""
        counted = any(factor.counts for factor in self.axes[dim])
        return replace(self.with_axis(dim, other(n)), lost=self.lost or (counted and n > 1))

    def _shuffled(self, dim: int) -> Place:
        return self.without(dim, prod(factor.size for factor in self.axes[dim]))

    def _moved(self, along: int) -> bool:
        return bool(self.rolled[along]) or self.flipped[along]

    def _with_padding_as_cells(self, dim: int) -> Place:
        axis = self.axes[dim]
        if len(axis) != 1 or not axis[0].inside:
            return self
        factor = axis[0]
        inner = self.with_axis(dim, factor.inside)
        if inner.whole_axis(dim) == NONE:
            return self
        held = prod(p.size for p in factor.inside)
        return inner.padded(dim, factor.before, factor.size - held - factor.before)

    def layout(self) -> Layout | None:
        """How cells and channels are found in such a tensor; None if it is not a map."""
        if self.lost:
            return None
        cut, sizes, where = [], [], []
        for dim, whole_axis in enumerate(self.axes):
            axis = whole_axis
            if any(factor.inside for factor in axis):
                if len(axis) > 1:
                    return None
                axis = axis[0].inside
                length = prod(factor.size for factor in axis)
                cut.append((dim, whole_axis[0].before, length))
            if len({factor.axis == NONE for factor in axis}) > 1:
                return None  # flattened: cells and channels in one row
            for factor in axis:
                sizes.append(factor.size)
                where.append(factor)
        order = [i for i, factor in enumerate(where) if factor.axis == NONE]
        channels = prod(sizes[i] for i in order)
        shape, grid = [], self.grid
        for along in range(3):
            mine = sorted(
                (i for i, factor in enumerate(where) if factor.axis == along),
                key=lambda i: -where[i].step,
            )
            for outer, inner in itertools.pairwise(mine):
                if where[outer].step != where[inner].step * where[inner].size:
                    return None
            shape.append(prod(sizes[i] for i in mine))
            order += mine
            smallest = where[mine[-1]].step if mine else 1
            if smallest > 1 and (self._moved(along) and self.rolled[along] % smallest):
                return None
            if grid is not None and smallest > 1:
                step = grid.step[along]
                grid = grid.at(
                    along,
                    grid.start[along] + step * (smallest - 1) / 2,
                    step * smallest,
                    grid.size[along] + step * (smallest - 1),
                )
        steps = [min((p.step for p in where if p.axis == a), default=1) for a in range(3)]
        return Layout(
            tuple(cut),
            tuple(sizes),
            tuple(order),
            (channels, *shape),
            tuple(r // s for r, s in zip(self.rolled, steps, strict=True)),
            self.flipped,
            grid,
        )


def other(n: int) -> Axis:
    """An axis of `n` entries that is none of the scan's."""
    return (Factor(int(n)),) if n != 1 else ()


def whole(n: int, axis: int) -> Axis:
    """An axis of the tensor that is one of the scan's."""
    return (Factor(int(n), axis),) if n != 1 else ()


def packed(axis: Axis, before: int, n: int) -> Axis:
    """An axis of `n` entries, of which those from `before` on are as in `axis`."""
    if len(axis) == 1 and axis[0].inside:
        return (Factor(n, inside=axis[0].inside, before=before + axis[0].before),)
    return (Factor(n, inside=axis, before=before),)


def _unpacked(factor: Factor, start: int, n: int) -> Axis:
    """A slice of an axis with other entries about its cells."""
    held = prod(p.size for p in factor.inside)
    before, after = factor.before - start, start + n - factor.before - held
    if before < 0 or after < 0:
        return other(n)
    return factor.inside if not before and not after else packed(factor.inside, before, n)


def _taken(grid: LayerGrid | None, along: int, first: int, step: int) -> LayerGrid | None:
    if grid is None:
        return None
    own = grid.step[along]
    return grid.at(along, grid.start[along] + own * first, own * step, grid.size[along])


def joined(place: Place, others: Sequence[Place]) -> Place:
    """`place`, wide enough about its own centres for what others bring to the same cells."""
    grid = place.grid
    if grid is None:
        return place
    size = grid.size
    for one in others:
        if one.grid is None:
            continue
        away = (2 * abs(o - s) for o, s in zip(one.grid.start, grid.start, strict=True))
        size = tuple(max(s, o + a) for s, o, a in zip(size, one.grid.size, away, strict=True))
    return replace(place, grid=replace(grid, size=size))
