"""Deletion and insertion curves of a map, beside those of controls.

Voxels leave the scan in the order of the map, the most important first, and become a
baseline (deletion); or they come back into the baseline scan in that order (insertion).
The faster the score falls (rises), the better the map knows what the network uses
(RISE [1]_).

Taking out any part changes a score, and large coherent parts change it more than single
voxels, so that blurry maps do well whatever they show. The curves therefore stand beside
those of random maps *of the same grain*: surrogates with the map's own power spectrum and
random phases [2]_, the usual null for smooth brain maps [3]_. Orders of single random
voxels are no fair control, as they only destroy texture; they are kept as what a mask of
the brain would give, a map that knows no more than where the brain is.

References
----------
.. [1] V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized input sampling for explanation of
   black-box models", arXiv:1806.07421.
.. [2] J. Theiler et al., "Testing for nonlinearity in time series: the method of surrogate
   data", Physica D 58, 1992.
.. [3] R. D. Markello, B. Misic, "Comparing spatial null models for brain maps", NeuroImage
   236, 2021.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import integrate, stats

from napari_cnnvis.evaluate.trust.edges import edge_map
from napari_cnnvis.evaluate.trust.removal_orders import StepOcclusions, fractions_of, surrogates
from napari_cnnvis.explain.scoring.occluded_scan import OccludedScan
from napari_cnnvis.explain.scoring.occlusions import Occlusions, Subset
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.progress import Progress

__all__ = [
    "SCORES",
    "Curves",
    "Removal",
    "affordable",
    "removal_curves",
    "score_of",
]

#: what a curve can show; "log_odds" is the logarithm of p / (1 - p), which does not saturate
SCORES = ("log_odds", "probability", "logit", "log_prob")
#: steps and random orders where nothing speaks against them, and at least
_STEPS, _ORDERS = (24, 10), (20, 6)
#: multiply-adds that the curves may take before steps and orders are saved: minutes
_WORK = {"cpu": 1.2e13, "cuda": 1e15}
#: boxes up to this share of the brain's box may be cheaper with the incremental engine
_NEAR = 0.5
#: occlusions from which on it pays to trace the network for them
_WORTH_TRACING = 16


@dataclass(frozen=True, eq=False)
class Curves:
    """Deletion or insertion curves of a map and of its controls.

    Attributes
    ----------
    kind : {"deletion", "insertion"}
    fractions : array, float64, shape (n,)
        Share of the brain's voxels that were taken out (deletion) or put back (insertion);
        from 0 to 1.
    map : array, float64, shape (n,)
        The score, voxels in the order of the map.
    random : array, float64, shape (n_orders, n)
        In random orders of the map's own grain; the later half are the earlier ones in
        reverse. Deletion and insertion have the same orders in the same rows.
    brain : array, float64, shape (n,)
        In the order of a map that knows nothing but where the brain is: single voxels
        at random.
    edges : array, float64, shape (n,)
        In the order of the scan's edges, strongest first.
    """

    kind: str
    fractions: np.ndarray
    map: np.ndarray
    random: np.ndarray
    brain: np.ndarray
    edges: np.ndarray

    def area(self, curve: np.ndarray) -> np.ndarray:
        """Area under one or more curves (..., n), by the trapezoidal rule, in units of the score."""
        return integrate.trapezoid(curve, self.fractions, axis=-1)

    def change(self, curve: np.ndarray) -> np.ndarray:
        """Mean over the curve of how much the score moved in the direction that is sought.

        Deletion: how far it fell below the scan's; insertion: how far it rose above the
        baseline's. A better order changes more.
        """
        moved = self.area(curve) - np.asarray(curve)[..., 0]
        return -moved if self.kind == "deletion" else moved

    @property
    def normalised(self) -> float | None:
        """Area of the map's curve where the scan's score is 1 and the baseline's 0.

        None where the two are as good as the same.
        """
        scan, empty = self.map[0], self.map[-1]
        if self.kind == "insertion":
            scan, empty = empty, scan
        if abs(scan - empty) < 1e-9:
            return None
        return float((self.area(self.map) - empty) / (scan - empty))

    @property
    def times(self) -> float | None:
        """How many times as much the map changes as a random order; None if that is nothing."""
        random = float(self.change(self.random).mean())
        return float(self.change(self.map)) / random if random > 0 else None

    @property
    def z(self) -> float:
        """Deviations by which the map's change lies above that of the random orders."""
        random = self.change(self.random)
        return float((self.change(self.map) - random.mean()) / max(random.std(ddof=1), 1e-12))

    def to_dict(self) -> dict[str, Any]:
        """Areas and what follows from them, and the curves, as plain values."""
        random = self.change(self.random)
        return {
            "area": float(self.area(self.map)),
            "area_normalised": self.normalised,
            "area_random": [float(a) for a in self.area(self.random)],
            "area_brain": float(self.area(self.brain)),
            "area_edges": float(self.area(self.edges)),
            "change": float(self.change(self.map)),
            "change_random_mean": float(random.mean()),
            "change_random_sd": float(random.std(ddof=1)) if len(random) > 1 else None,
            "change_brain": float(self.change(self.brain)),
            "change_edges": float(self.change(self.edges)),
            "times_random": self.times,
            "z": self.z,
            "fractions": self.fractions.tolist(),
            "map": self.map.tolist(),
            "random": self.random.tolist(),
            "brain": self.brain.tolist(),
            "edges": self.edges.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Removal:
    """Deletion and insertion of one map.

    Attributes
    ----------
    deletion, insertion : Curves
    score : {"log_odds", "probability", "logit", "log_prob", "value"}
        What the curves show.
    baseline : str
        What a deleted voxel becomes.
    engine : str
        How the scans were scored, in plain words.
    """

    deletion: Curves
    insertion: Curves
    score: str
    baseline: str
    engine: str

    @property
    def gain(self) -> tuple[float, np.ndarray]:
        """The insertion's area minus the deletion's: the map's, and those of the random orders.

        An order in reverse gains exactly the negative, in any network, so that random
        orders gain 0 on average.
        """
        return self.gain_of(self.deletion.map, self.insertion.map), self.gain_of(
            self.deletion.random, self.insertion.random
        )

    def gain_of(self, deleted: np.ndarray, put_back: np.ndarray) -> Any:
        """The gain of orders (..., n) from their two curves."""
        return self.insertion.area(put_back) - self.deletion.area(deleted)

    @property
    def z(self) -> float:
        """Deviations by which the map's gain lies above that of the random orders, which is 0."""
        own, random = self.gain
        return float(own / max(np.sqrt(np.mean(random**2)), 1e-12))

    @property
    def p(self) -> float:
        """One-sided: how likely another random order gains as much as the map (Student's t).

        An order and its reverse count once.
        """
        return float(stats.t.sf(self.z, len(self.deletion.random) // 2))

    @property
    def as_good(self) -> int:
        """How many of the random orders gain at least as much as the map."""
        own, random = self.gain
        return int((random >= own).sum())

    def to_dict(self) -> dict[str, Any]:
        """All curves and areas as plain values."""
        return {
            "z": self.z,
            "p": self.p,
            "random_orders_as_good": self.as_good,
            "score": self.score,
            "baseline": self.baseline,
            "engine": self.engine,
            "deletion": self.deletion.to_dict(),
            "insertion": self.insertion.to_dict(),
        }


def removal_curves(
    model: Model,
    scan: OccludedScan,
    map_: np.ndarray,
    target: int,
    head: np.ndarray,
    *,
    steps: int,
    random_orders: int,
    score: str = "log_odds",
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Removal | None:
    """Deletion and insertion curves of a map and of its controls.

    Parameters
    ----------
    model : Model
    scan : OccludedScan
        The scan with one baseline.
    map_ : array, float32, shape of the model's grid
        Higher counts as more important, with its sign. Voxels with the same value are
        taken in a random order of the map's grain.
    target : int
        The class.
    head : array of bool, shape of the model's grid
        The voxels that are taken out; those that the baseline leaves as they are do not
        count.
    steps : int
        Points of a curve besides its ends, finer near both.
    random_orders : int
        At least 2; an even number is run, as each order is run in reverse, too.
    score : one of `SCORES`
        A regression has one score only, the value.
    seed : int
    progress, cancel
        As in `sensitivity`.

    Returns
    -------
    Removal, or None if cancelled

    Raises
    ------
    ComputeError
        If the network cannot run.
    """
    (baseline,) = scan.baselines
    inside = head & baseline.replaces
    flat = np.flatnonzero(inside)
    rng = np.random.default_rng(seed)
    random = surrogates(map_, inside, 1 + max(random_orders // 2, 1), rng)
    values = np.where(inside, map_, 0)
    edges = edge_map(scan.conformed.data, scan.conformed.spacing)
    down = flat[np.lexsort((random[0][flat], -values.ravel()[flat]))]
    by_edges = flat[np.argsort(-edges.ravel()[flat], kind="stable")]
    brain = rng.permutation(flat)
    chance = [flat[np.argsort(-r[flat], kind="stable")] for r in random[1:]]
    # an insertion passes the states of the deletion in reverse order; so each is run both ways
    orders = [down, *chance, by_edges]
    orders = np.stack([*orders, *(order[::-1] for order in orders), brain])
    fractions = fractions_of(steps)
    counts = np.round(fractions[1:-1] * len(flat)).astype(np.int64)
    occlusions = StepOcclusions(orders, counts, baseline, inside.shape)
    scored = _scored(scan, occlusions, progress, cancel)
    if scored is None:
        return None
    clean, logits, engine = scored
    middle = score_of(model.outputs, logits[:-1], target, score).reshape(len(orders), -1)
    ends = score_of(model.outputs, np.stack([clean, logits[-1]]), target, score)
    curves = np.column_stack([np.full(len(orders), ends[0]), middle, np.full(len(orders), ends[1])])
    there, back, by_brain = np.split(curves, [len(chance) + 2, 2 * len(chance) + 4])
    random_curves = np.concatenate([there[1:-1], back[1:-1]])
    deletion = Curves("deletion", fractions, there[0], random_curves, by_brain[0], there[-1])
    there, back, by_brain = (part[:, ::-1] for part in (there, back, by_brain))
    random_curves = np.concatenate([back[1:-1], there[1:-1]])
    insertion = Curves("insertion", fractions, back[0], random_curves, by_brain[0], back[-1])
    name = score if model.outputs.has_probabilities else "value"
    return Removal(deletion, insertion, name, scan.names[0], engine)


def affordable(model: Model, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Steps and random orders that a network allows within minutes; fewer for heavy ones."""
    budget = _WORK["cuda" if model.device.type == "cuda" else "cpu"]
    passes = budget / max(model.layers(shape).multiply_adds, 1.0)
    if model.input_spec.window is not None:
        passes /= 8  # windows that overlap by a half cover each voxel eight times
    steps = int(np.clip(passes // (5 + _ORDERS[1]), _STEPS[1], _STEPS[0]))
    return steps, int(np.clip(passes // steps - 5, _ORDERS[1], _ORDERS[0]) // 2 * 2)


def score_of(outputs: Outputs, logits: np.ndarray, target: int, score: str) -> np.ndarray:
    """Scores, float64, shape (n,), of raw outputs (n, n_outputs)."""
    raw = torch.from_numpy(np.asarray(logits, np.float64))
    if score != "log_odds" or not outputs.has_probabilities:
        return outputs.score(raw, target, "logit" if score == "log_odds" else score).numpy()
    log_p = outputs.score(raw, target, "log_prob").clamp(max=-1e-15)
    return (log_p - torch.log(-torch.expm1(log_p))).numpy()


def _scored(
    scan: OccludedScan,
    occlusions: Occlusions,
    progress: Callable[[Progress], None] | None,
    cancel: threading.Event | None,
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Raw outputs of the scan and of all occlusions, and how they were made."""
    volumes = np.ptp(occlusions.boxes, axis=2).prod(axis=1)
    near = volumes <= _NEAR * volumes[-1]
    if near.sum() < _WORTH_TRACING:
        near[:] = False
    logits, clean, done, how = None, None, 0, []
    for members, engine in ((np.flatnonzero(near), "auto"), (np.flatnonzero(~near), "full")):
        if not len(members):
            continue
        part = Subset(occlusions, members)
        scorer, report = scan.scorer(part, engine, "single", None)
        how.append(f"{len(members)} by {report.engine}")
        clean = scorer.clean_logits
        if logits is None:
            logits = np.empty((len(volumes), len(clean)), np.float32)
        for batch, scores in scorer.score(part):
            logits[members[batch]] = scores
            done += len(batch)
            if progress is not None:
                progress(Progress(done, len(volumes), "taking voxels out"))
            if cancel is not None and cancel.is_set():
                return None
    return clean, logits, f"{len(volumes)} scans scored: {', '.join(how)}"
