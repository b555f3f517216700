"""Box occlusion: score cubes of voxels, coarse lattices first, and map the drops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.flat_maps import why_occlusions_are_flat
from napari_cnnvis.explain.record import Record
from napari_cnnvis.explain.remap import remapped
from napari_cnnvis.explain.scoring.baselines import Baseline
from napari_cnnvis.explain.scoring.occluded_scan import Limits, OccludedScan
from napari_cnnvis.explain.scoring.occlusions import Subset
from napari_cnnvis.explain.scoring.region_scores import OcclusionScores
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.conform import Conformed
from napari_cnnvis.scan.head import head_of
from napari_cnnvis.scan.smoothing import smoothed
from napari_cnnvis.scan.volume import Scan, Volume, channels_of

__all__ = ["BoxScores", "run_boxes"]

#: centres are scored on lattices of these steps one after the other (times the stride), so
#: that a map of the whole head is there soon and gets finer
_REFINEMENT = (8, 4, 2, 1)


@dataclass(frozen=True, eq=False)
class BoxScores(OcclusionScores):
    """The scores of boxes; ``n_regions`` is their number.

    Attributes
    ----------
    centres : array, int64, shape (n_boxes, 3)
        On the model's grid; of an even size the voxel after the middle.
    even : bool
        Whether boxes have an even size and lie apart, so that their middle is between voxels.
    inside : array, bool, shape (i, j, k)
        Voxels of the model's grid that get a value.
    conformed : Conformed
        The way back to the scan's grid.
    """

    centres: np.ndarray
    even: bool
    inside: np.ndarray
    conformed: Conformed

    def map(
        self,
        target: int,
        quantity: str = "drop",
        score: str = "probability",
        baseline: str | None = None,
    ) -> np.ndarray:
        """The map: a box's value at its middle; a voxel between middles has the nearest one's.

        Parameters
        ----------
        target, quantity, score, baseline
            As in `values`.

        Returns
        -------
        array, float32, shape of the scan
            0 outside ``inside``, and everywhere as long as nothing is scored.
        """
        values = self.values(target, quantity, score, baseline)
        known = np.isfinite(values)
        result = np.zeros(self.inside.shape, np.float32)
        if known.any():
            away = np.ones(self.inside.shape, bool)
            # all voxels about the middle, so that the others find the nearest middle
            for back in np.ndindex((2, 2, 2) if self.even else (1, 1, 1)):
                place = tuple(np.maximum(self.centres[known] - back, 0).T)
                away[place] = False
                result[place] = values[known]
            if away[self.inside].any():
                nearest = ndimage.distance_transform_edt(
                    away, return_distances=False, return_indices=True
                )
                result = result[tuple(nearest)]
            result[~self.inside] = 0
        return self.conformed.back(result)

    def covered(self) -> np.ndarray:
        """Where the map has values: bool, shape of the scan."""
        return self.conformed.back(self.inside, order=0) > 0


class _Boxes:
    """Cubes of voxels, cut off at the volume's edges, each replaced by each baseline."""

    def __init__(
        self, centres: np.ndarray, size: int, baselines: Sequence[Baseline], shape: tuple[int, ...]
    ) -> None:
        self._baselines, self._shape = baselines, shape
        self._replaces = [b.replaces.reshape(-1) for b in baselines]
        low = np.maximum(centres - size // 2, 0)
        boxes = np.stack([low, np.minimum(centres - size // 2 + size, shape)], axis=-1)
        changed = [_any_inside(baseline.replaces, boxes) for baseline in baselines]
        self.centre = np.concatenate([np.flatnonzero(c) for c in changed])
        self.baseline = np.repeat(np.arange(len(baselines)), [c.sum() for c in changed])
        self.boxes = boxes[self.centre]

    def voxels(self, index: int) -> np.ndarray:
        (a, b), (c, d), (e, f) = self.boxes[index]
        _, height, width = self._shape
        rows = np.arange(a, b)[:, None] * height + np.arange(c, d)
        voxels = (rows.ravel()[:, None] * width + np.arange(e, f)).ravel()
        return voxels[self._replaces[self.baseline[index]][voxels]]

    def values(self, index: int) -> np.ndarray:
        return self._baselines[self.baseline[index]].values(self.voxels(index))


def run_boxes(
    how: Any,
    model: Model,
    volume: Scan,
    target: int | str,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    mask: np.ndarray | None = None,
    engine: str = "auto",
    batch_size: int | None = None,
) -> Attribution:
    """See `napari_cnnvis.box_sensitivity`; `how` has its parameters."""
    limits = Limits(progress, cancel, how.time_budget)
    scan = OccludedScan(model, volume, how.baseline)
    index = model.class_index(target)
    conformed = scan.conformed
    reference = channels_of(volume)[0]
    where = _inside(how.inside, mask, reference, conformed)
    centres = _centres(where, how.stride)
    occlusions = _Boxes(centres, how.size, scan.baselines, conformed.data.shape)
    scorer, report = scan.scorer(occlusions, engine, how.precision, batch_size)
    shape = (len(scan.names), len(centres), len(scorer.clean_logits))
    occluded = np.full(shape, np.nan, dtype=np.float32)
    occluded[:] = scorer.clean_logits  # boxes that are as the baseline change nothing
    occluded[occlusions.baseline, occlusions.centre] = np.nan

    record = Record.of_run(
        how,
        model,
        volume,
        conformed,
        index,
        boxes_scored=len(occlusions.boxes),
        engine=report.to_dict(),
    )

    def so_far(partial: bool = True) -> Callable[[], Attribution]:
        kept = occluded.copy()

        def make() -> Attribution:
            scores = BoxScores(
                *(scorer.clean_logits, kept, scan.names, model.outputs),
                *(centres, how.size % 2 == 0 and how.stride > 1, where, conformed),
            )
            data = smoothed(
                scores.map(index, how.quantity, how.score),
                scores.covered(),
                reference.spacing,
                how.smooth,
            )
            flat = why_occlusions_are_flat(
                data, kept, scorer.clean_logits, len(occlusions.boxes), how.score
            )
            return Attribution(
                data,
                reference.affine,
                record,
                reference,
                partial=partial,
                notes=(*conformed.notes, report.text, *flat),
                regions=scores,
            )

        return make

    def scored() -> Any:
        for members in _coarse_to_fine(centres[occlusions.centre], how.stride):
            for some, logits in scorer.score(Subset(occlusions, members)):
                yield members[some], logits

    done, total = 0, len(occlusions.boxes)
    for members, logits in limits.batches(scored(), total, "scoring boxes", so_far):
        occluded[occlusions.baseline[members], occlusions.centre[members]] = logits
        done += len(members)
    made = so_far(partial=done < total)()
    return made if how.shown is None else remapped(made, how, index)


def _inside(
    inside: str, mask: np.ndarray | None, volume: Volume, conformed: Conformed
) -> np.ndarray:
    if inside == "everywhere":
        return np.ones(conformed.data.shape, bool)
    if inside == "head":
        where = head_of(conformed)
    else:
        if mask is None:
            raise MethodError(
                "The boxes were inside a mask that was given in Python; run box_sensitivity with "
                "inside=mask there."
            )
        if mask.shape != volume.shape:
            raise MethodError(
                f"The mask has {mask.shape} voxels, but the scan {volume.shape}; give one of the "
                "scan's shape."
            )
        where = conformed.mask(mask)
    if not where.any():
        raise MethodError("The mask holds no voxel that the network sees, so there is no box.")
    return where


def _centres(where: np.ndarray, stride: int) -> np.ndarray:
    """Voxels of a lattice that lie inside; the one nearest to the middle if none does."""
    lattice = np.zeros(where.shape, bool)
    lattice[tuple(slice(min(stride // 2, n - 1), None, stride) for n in where.shape)] = True
    centres = np.argwhere(where & lattice)
    if len(centres):
        return centres
    places = np.argwhere(where)
    away = ((places - places.mean(axis=0)) ** 2).sum(axis=1)
    return places[[away.argmin()]]


def _coarse_to_fine(centres: np.ndarray, stride: int) -> list[np.ndarray]:
    """Indices of the centres in the order of ever finer lattices, each centre once."""
    if not len(centres):
        return []
    cell = (centres - centres.min(axis=0)) // stride
    rank = np.full(len(centres), len(_REFINEMENT))
    for number, step in reversed(list(enumerate(_REFINEMENT))):
        rank[(cell % step == 0).all(axis=1)] = number
    return [m for r in range(len(_REFINEMENT)) if len(m := np.flatnonzero(rank == r))]


def _any_inside(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether each box (n, 3, 2) holds any voxel of a mask, by a summed volume."""
    sums = np.pad(mask, ((1, 0), (1, 0), (1, 0))).astype(np.int32)
    for axis in range(3):
        np.cumsum(sums, axis=axis, out=sums)
    total = np.zeros(len(boxes), np.int64)
    for z in (0, 1):
        for y in (0, 1):
            for x in (0, 1):
                corner = sums[boxes[:, 0, z], boxes[:, 1, y], boxes[:, 2, x]]
                total += corner * (1 if (z + y + x) % 2 else -1)
    return total > 0
