"""Another scan that a network takes besides the one that is explained; it is the same in each pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from napari_cnnvis.errors import MethodError
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Volume

__all__ = ["SecondScan"]


@dataclass(frozen=True)
class SecondScan:
    """A scan in a file, as the network sees it.

    Parameters
    ----------
    path : str
    spec : InputSpec
        Of the network's first scan; this one is prepared in the same way, with one channel.

    Raises
    ------
    MethodError
        If the network runs on windows, whose places a second scan does not know.
    """

    path: str
    spec: InputSpec

    def __post_init__(self) -> None:
        if self.spec.window is not None:
            raise MethodError(
                "A second scan cannot be given to a network that runs on windows; give the input a shape."
            )

    @cached_property
    def volume(self) -> Volume:
        """The scan as it lies in its file."""
        return read_volume(self.path)

    @cached_property
    def _channels(self) -> Tensor:
        data = conform(self.volume, replace(self.spec, channels=1)).channels
        return torch.from_numpy(data.copy())[None]

    def check(self, first: Volume) -> None:
        """Raise if it does not lie on the grid of the scan that is explained.

        Raises
        ------
        MethodError
        """
        if not self.volume.same_grid(first):
            raise MethodError(
                f"'{self.volume.name}' is not on the grid of '{first.name}' (its shape or affine differ), so "
                "the network cannot take both; register and resample it first."
            )

    def tensor(self, x: Tensor) -> Tensor:
        """What goes beside inputs (n, c, i, j, k): (n, 1, i, j, k).

        Where the network is only tried on inputs of another size, it is scaled to that.
        """
        if x.is_meta:
            one = torch.empty((1, 1, *x.shape[2:]), device="meta", dtype=x.dtype)
        else:
            one = self._channels.to(x)
            if one.shape[2:] != x.shape[2:]:
                one = torch.nn.functional.interpolate(one, size=tuple(map(int, x.shape[2:])))
        return one.expand(x.shape[0], *one.shape[1:])
