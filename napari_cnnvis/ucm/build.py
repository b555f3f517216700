"""Volume -> Hierarchy: watershed basins, merged by boundary, intensity, size and position."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.progress import Progress, stop_if_cancelled
from napari_cnnvis.scan.head import head_of
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.basins import basins
from napari_cnnvis.ucm.boundary.gradient import between_voxels, gradient
from napari_cnnvis.ucm.criterion import MergeCriterion
from napari_cnnvis.ucm.hierarchy import Hierarchy
from napari_cnnvis.ucm.merging import join_tiny, merge_tree
from napari_cnnvis.ucm.options import BOUNDARIES, FINEST
from napari_cnnvis.ucm.region_graph import RegionGraph

__all__ = ["build_hierarchy", "default_counts"]

#: what the strongest gPb adds to the gradient, per mm: as much as a sharp border of tissues
_GPB_WEIGHT = 0.05
_STEPS = ("finding the head", "measuring boundaries", "growing supervoxels", "merging supervoxels")


def build_hierarchy(
    volume: Volume,
    boundary: str = "gradient",
    criterion: MergeCriterion = MergeCriterion(),  # noqa: B008 (frozen)
    smallest: float = 8.0,
    counts: Sequence[int] | None = None,
    device: str = "cpu",
    cancel: threading.Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Hierarchy:
    """Nested supervoxels of a scan, from tens of thousands of regions to one.

    Watershed basins inside the head, tiny ones joined, are merged pair by pair; see
    `MergeCriterion` for which come first, and for the references.

    Parameters
    ----------
    volume : Volume
        With a head mask of its own (`Volume.with_head`), regions lie inside that.
    boundary : str
        "gradient", or "gpb": the gradient and the globalised boundary strength of 3DUCM,
        which takes longer (Yang, Sethi, Rangarajan and Ranka, ACCV 2016).
    criterion : MergeCriterion
    smallest : float
        Regions below this many mm3 are joined to a neighbour before anything else.
    counts : sequence of int, optional
        Numbers of regions of the levels that sensitivity uses; see `default_counts`.
    device : str
        Where "gpb" is computed.
    cancel : threading.Event, optional
        When set, stops soon.
    progress : callable, optional
        Called with a `Progress` before each step.

    Returns
    -------
    Hierarchy

    Raises
    ------
    MethodError
        If there is no such boundary strength.
    VolumeError
        If the volume is constant and carries no head mask.
    Cancelled
        If building was cancelled.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> hierarchy = cv.build_hierarchy(volume)
    >>> int(hierarchy.cut(12).max())
    12
    """
    if boundary not in BOUNDARIES:
        raise MethodError(
            f"There is no boundary strength {boundary!r}; choose one of {', '.join(BOUNDARIES)}."
        )

    def begin(number: int) -> None:
        stop_if_cancelled(cancel, "Building the supervoxels")
        if progress is not None:
            progress(Progress(number, len(_STEPS), _STEPS[number]))

    begin(0)
    head = head_of(volume)
    box = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(head))
    inside = head[box]
    data = volume.data[box] / (float(np.percentile(np.abs(volume.data[head]), 99)) or 1.0)
    begin(1)
    faces = gradient(data, volume.spacing)
    if boundary == "gpb":
        from napari_cnnvis.ucm.boundary.gpb import globalised_boundary  # needs torch

        strength = globalised_boundary(data, volume.spacing, inside, device=device, cancel=cancel)
        x, y, z = between_voxels(strength)
        faces = (
            faces[0] + _GPB_WEIGHT * x,
            faces[1] + _GPB_WEIGHT * y,
            faces[2] + _GPB_WEIGHT * z,
        )
    begin(2)
    labels = basins(data, inside)
    grid = np.ogrid[tuple(slice(n) for n in labels.shape)]
    centres = [
        axis.astype(np.float32) * step for axis, step in zip(grid, volume.spacing, strict=True)
    ]
    graph = RegionGraph.of_labels(
        labels,
        [criterion.feature(data, inside), *centres],
        faces,
        float(np.prod(volume.spacing)),
    )
    region, graph = join_tiny(graph, criterion, smallest)
    begin(3)
    parents, altitudes = merge_tree(graph, criterion, cancel)
    leaves = np.zeros(volume.shape, np.int32)
    leaves[box] = np.concatenate([[0], region + 1])[labels]
    counts = [int(n) for n in counts or default_counts(len(graph.sizes))]
    hierarchy = Hierarchy.from_tree(leaves, parents, altitudes, counts)
    return replace(hierarchy, origin={"boundary": boundary, "counts": counts})


def default_counts(
    n_leaves: int, finest: int = FINEST, coarsest: int = 12, levels: int = 8
) -> list[int]:
    """Numbers of regions spread evenly in their logarithm, fine to coarse, no two equal."""
    finest = min(finest, n_leaves)
    coarsest = min(coarsest, finest)
    counts = np.geomspace(finest, coarsest, levels).round().astype(int)
    return sorted(set(counts.tolist()), reverse=True)
