"""Run a network to its layers: once, or once for each window of a scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from napari_cnnvis.explain.layers.layer_maps import Piece
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.windows import window_slices
from napari_cnnvis.scan.conform import Conformed

__all__ = ["pieces"]


def pieces(
    model: Model,
    conformed: Conformed,
    maps_of: Callable[[np.ndarray], tuple[dict, dict[str, str], dict[str, str]]],
) -> Iterator[Piece]:
    """The maps of each part of a scan that the network sees at once.

    `maps_of` takes channels (c, i, j, k) and gives the cells of each layer by method, and
    by layer why they are zero and what is to be said of them.
    """
    channels = conformed.channels
    spec = model.input_spec
    if spec.window is None:
        places = [tuple(slice(0, n) for n in conformed.data.shape)]
    else:
        places = window_slices(conformed.data.shape, spec.window, spec.overlap)
    for place in places:
        yield Piece(place, *maps_of(channels[(slice(None), *place)]))
