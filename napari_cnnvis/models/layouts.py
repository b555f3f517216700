"""Where a layer's channels and cells are in what it gives, and where the cells lie in the input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["LayerGrid", "Layout"]


@dataclass(frozen=True)
class LayerGrid:
    """Where a layer's cells lie: cell n along an axis is centred on input voxel start + step * n.

    The centre is that of the cell's receptive field, which is `size` input voxels wide, those
    beyond the input's edges included. Where branches of unlike reach meet, it holds them all.
    What reaches a cell through the statistics of norm layers or through attention over the whole
    map is not counted.
    """

    start: tuple[float, ...]
    step: tuple[float, ...]
    size: tuple[float, ...] = (1.0, 1.0, 1.0)

    def at(self, axis: int, start: float, step: float, size: float) -> LayerGrid:
        """The same with other numbers along one axis."""
        changed = (
            tuple(new if a == axis else old for a, old in enumerate(values))
            for values, new in ((self.start, start), (self.step, step), (self.size, size))
        )
        return LayerGrid(*changed)


@dataclass(frozen=True)
class Layout:
    """How a tensor becomes a map (1, channels, a, b, c).

    Attributes
    ----------
    cut : tuple of (dim, start, length)
        What of its axes are cells.
    sizes : tuple of int
        As it is viewed then.
    order : tuple of int
        The permutation that follows.
    shape : (int, int, int, int)
        Channels and cells.
    rolled, flipped : tuple
        What is undone at last.
    grid : LayerGrid or None
    """

    cut: tuple[tuple[int, int, int], ...]
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]
    rolled: tuple[int, ...]
    flipped: tuple[bool, ...]
    grid: LayerGrid | None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is cut away, reordered, rolled or reversed."""
        moved = any(self.rolled) or any(self.flipped) or bool(self.cut)
        return not moved and self.order == tuple(range(len(self.order)))

    def map_of(self, tensor: Tensor) -> Tensor:
        """Channels and cells (1, channels, a, b, c) of a tensor of this layout."""
        for dim, start, length in self.cut:
            tensor = tensor.narrow(dim, start, length)
        maps = tensor.reshape(self.sizes).permute(self.order).reshape(1, *self.shape)
        for along in range(3):
            if self.rolled[along]:
                maps = maps.roll(-self.rolled[along], 2 + along)
            if self.flipped[along]:
                maps = maps.flip(2 + along)
        return maps
