"""What the panel Trust tests: a map in the viewer, its scan, and its network, loaded again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.maps import MapLayer, map_of
from napari_cnnvis._napari.layers.one_volume import shape_of
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.session.rerun import plan_rerun
from napari_cnnvis._napari.widgets.layer_picker import is_scan
from napari_cnnvis.errors import MethodError

__all__ = ["Subject", "is_of", "subject_of"]


@dataclass(frozen=True, eq=False)
class Subject:
    """All that a test needs; made on the main thread, opened in a worker.

    Attributes
    ----------
    record : dict
        The map's provenance.
    values : array, shape (i, j, k)
        The map.
    scans : sequence of layers
        One for each channel.
    taken : sequence of snapshots
        Of the scans.
    regions : RegionScores or None
        What the map's regions scored, if it was made with regions.
    loaded : LoadedCheckpoint or None
        The network of the session.
    """

    record: dict[str, Any]
    values: np.ndarray
    scans: tuple[Any, ...]
    taken: tuple[Any, ...]
    regions: Any
    loaded: Any

    def volumes(self) -> Any:
        """The scan: one volume, or a tuple with one for each channel.

        Raises
        ------
        VolumeError
            If a layer is not one plain 3D image.
        """
        volumes = tuple(layer_to_volume(*taken) for taken in self.taken)
        return volumes[0] if len(volumes) == 1 else volumes

    def attribution(self, volumes: Any) -> Any:
        """The map as its method gave it."""
        from napari_cnnvis.explain.attribution import Attribution

        first = volumes[0] if isinstance(volumes, tuple) else volumes
        record = dict(self.record)
        partial = bool(record.pop("partial", False))
        return Attribution(
            self.values, first.affine, record, first, partial=partial, regions=self.regions
        )

    def model(self, device: str) -> Any:
        """A copy of the map's network, so that the session can go on with its own.

        Raises
        ------
        CnnVisError
            If the network is neither loaded nor in a file that can be read.
        """
        from napari_cnnvis.models.cache import CheckpointCache
        from napari_cnnvis.models.model import Model

        rerun = plan_rerun(self.record, self.scans, self.loaded)
        if rerun.path is not None:
            return CheckpointCache().load(Path(rerun.path), rerun.recipe, device=device).model
        model = self.loaded.model
        return Model(
            copy.deepcopy(model.module),
            rerun.recipe.class_names or None,
            rerun.recipe.input_spec,
            str(model.device),
            model.architecture,
            model.training,
            output=rerun.recipe.output or None,
            arch=model.arch,
            path=model.path,
            scores=rerun.recipe.scores or None,
            extra=rerun.recipe.extra or None,
            more_files=model.more_files,
        )


def subject_of(
    layer: Any,
    layers: Iterable[Any],
    loaded: Any,
    with_head: Callable[[Any], tuple[Any, dict[str, Any]]] = snapshot,
) -> Subject:
    """What is needed to test the map of a layer.

    Parameters
    ----------
    layer : napari.layers.Image
        An overlay.
    layers : iterable of layers
        Those in the viewer.
    loaded : LoadedCheckpoint or None
        The network that is loaded now, if any.
    with_head : callable
        Takes a snapshot of the scan, with its head mask if it has one of its own.

    Raises
    ------
    MethodError
        If the map's record does not say what was run, or the scan is not there any more.
    """
    from napari_cnnvis.explain.record import Record

    map_ = map_of(layer)
    known = Record.read(None if map_ is None else map_.provenance)
    known.request()
    record = dict(known.values)
    if not (record.get("scan") or {}).get("name") or not record.get("model"):
        raise MethodError(
            "The map's record does not say which scan and network it belongs to; run the method again in "
            "the panel Explain CNN."
        )
    there = {other.name: other for other in layers if is_scan(other)}
    names = [place["name"] for place in (record["scan"], *record["scan"].get("other_channels", ()))]
    missing = [name for name in names if name not in there]
    if missing:
        raise MethodError(f"Open the map's scan '{missing[0]}' first.")
    scans = tuple(there[name] for name in names)
    if shape_of(scans[0]) != map_.values.shape:
        raise MethodError(
            f"The map is not one of '{names[0]}' as it is now: their voxels differ. Open the scan that "
            "it was made from."
        )
    taken = (with_head(scans[0]), *(snapshot(scan) for scan in scans[1:]))
    return Subject(record, map_.values, scans, taken, map_.scores, loaded)


def is_of(report: Any, map_: MapLayer) -> bool:
    """Whether a report is of the map that a layer shows now, and not of an earlier one."""
    tested, now = report.attribution.data, map_.values
    return tested is now or (tested.shape == now.shape and bool((tested == now).all()))
