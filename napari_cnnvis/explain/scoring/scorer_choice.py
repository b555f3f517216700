"""Which way of scoring a network allows, checked by computing some regions both ways."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.explain.common_parameters import ENGINES, PRECISIONS
from napari_cnnvis.explain.parameter import check_choice
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer, RegionScorer
from napari_cnnvis.explain.scoring.incremental.classify import Program, classify
from napari_cnnvis.explain.scoring.incremental.engine import IncrementalScorer, kept_bytes
from napari_cnnvis.explain.scoring.incremental.trace import CannotTrace, trace
from napari_cnnvis.explain.scoring.occlusions import Occlusions, Subset
from napari_cnnvis.explain.scoring.window_passes import WindowScorer
from napari_cnnvis.explain.scoring.worth import PassTimes
from napari_cnnvis.models.execution import OutOfMemory
from napari_cnnvis.models.model import Model

__all__ = ["EngineReport", "choose_scorer"]

#: largest difference of a logit from a full pass, relative to the largest logit and at least
#: to 1, up to which the incremental engine is believed
_BELIEVED = 1e-4
#: share of the work of full passes from which on incremental passes do not pay
_NOT_WORTH = 0.8
#: regions from which on it pays to try in which layout a full pass is faster
_MANY = 100
#: share of the free memory that kept outputs may take
_MEMORY = 0.7
_NOT_TOGETHER = (
    "one at a time, since what the network says of one scan depends on what else is in the batch"
)
_IN_SINGLE = " They are in single precision."


@dataclass(frozen=True)
class EngineReport:
    """How occluded volumes are scored, and what is known of it.

    Attributes
    ----------
    engine : {"incremental", "full passes", "single passes", "windows"}
    text : str
        The same in plain words, for the user.
    multiply_adds, full_multiply_adds : float or None
        Of all regions, with this engine and with full passes; None if not known.
    largest_difference : float or None
        Of any logit of the regions that were computed both ways.
    kept_bytes : int
        Memory of the kept outputs.
    """

    engine: str
    text: str
    multiply_adds: float | None = None
    full_multiply_adds: float | None = None
    largest_difference: float | None = None
    kept_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for provenance."""
        return asdict(self)


def choose_scorer(
    model: Model,
    clean: Tensor,
    occlusions: Occlusions,
    engine: str = "auto",
    precision: str = "single",
    batch_size: int | None = None,
) -> tuple[RegionScorer, EngineReport]:
    """The incremental engine where it is possible, right and cheaper; else full passes.

    Parameters
    ----------
    model : Model
    clean : Tensor, shape (1, c, i, j, k)
        The volume.
    occlusions : Occlusions
    engine : {"auto", "incremental", "full"}
        "incremental" also where it is not cheaper.
    precision : {"single", "half"}
        "half" computes the incremental passes in float16 (bfloat16 on a CPU).
    batch_size : int, optional
        For full passes.

    Raises
    ------
    MethodError
        If there is no such engine or precision.
    ComputeError
        If the network cannot run.
    """
    check_choice(engine, ENGINES, "an engine")
    check_choice(precision, PRECISIONS, "a precision")

    def full(reason: str, size: int | None = batch_size) -> tuple[RegionScorer, EngineReport]:
        if len(occlusions.boxes) >= _MANY:
            model.use_faster_layout(clean)
        scorer = FullPassScorer(model, clean, size)
        single = _IN_SINGLE if precision == "half" else ""
        return scorer, EngineReport(
            "full passes" if size != 1 else "single passes",
            f"Full passes for each region: {reason}.{single}",
        )

    if model.input_spec.window is not None:
        return _by_windows(model, clean, occlusions, precision)
    if not len(occlusions.boxes):
        return full("there is nothing to occlude")
    if batch_size != 1 and not model.takes_batches(clean):
        return full(_NOT_TOGETHER, 1)
    if engine == "full":
        return full("as asked for")
    timed = engine == "auto" and precision == "single"
    times = PassTimes(model, clean, occlusions.boxes)
    if timed and not times.may_pay():
        return full("working out what each region changes would take longer than it saves")
    try:
        began = time.perf_counter()
        program = classify(trace(model.module, clean, model.reading))
        times.traced(time.perf_counter() - began)
        needed = kept_bytes(program, clean)
        free = _free_memory(clean.device)
        if needed > _MEMORY * free:
            return full(
                f"keeping its layers' outputs takes {needed / 1e9:.1f} GB, and only "
                f"{free / 1e9:.1f} GB are free"
            )
        scorer = IncrementalScorer(program, clean.to(_dtype(clean, precision)))
        cones = scorer.cones(occlusions.boxes)
        work, full_work = cones.multiply_adds(), program.work * len(occlusions.boxes)
        if timed and work.sum() > _NOT_WORTH * full_work:
            return full(f"computing only what changes would not be cheaper{_why(program)}")
        chosen = _probes(work, times.probes)
        probes = Subset(occlusions, chosen)
        began = time.perf_counter()
        ours = _logits(scorer, probes)
        seconds = time.perf_counter() - began
        if timed and not times.pays(seconds, work, chosen):
            return full(
                f"computing only what changes took longer where it was tried{_why(program)}"
            )
        difference = float(np.abs(ours - _logits(FullPassScorer(model, clean, 1), probes)).max())
    except CannotTrace as exc:
        return full(str(exc))
    except OutOfMemory:
        return full("there is not enough memory to keep its layers' outputs")
    except ComputeError:
        return full("its traced operations could not be run one by one")
    if precision == "single":
        limit = _BELIEVED * max(1.0, float(np.abs(scorer.clean_logits).max()))
        if not difference <= limit:
            return full(
                f"computing only what changes gave other results (by {difference:.1e}) for this "
                "network"
            )
    fewer = full_work / max(work.sum(), 1)
    n, several = len(probes.boxes), len(probes.boxes) > 1
    text = (
        f"Only what a region can change was computed: {fewer:.{fewer < 10:d}f} times fewer "
        f"multiply-adds than full passes. {n} region{'s, the largest among them,' * several} computed "
        f"both ways differ{'s' * (not several)} by {difference:.1e} at most (logits)."
    )
    if precision == "half":
        text += f" Computed in {str(scorer.dtype).removeprefix('torch.')}."
    report = EngineReport(
        "incremental",
        text + _share(program),
        float(work.sum()),
        float(full_work),
        difference,
        scorer.kept_bytes,
    )
    return scorer, report


def _by_windows(
    model: Model, clean: Tensor, occlusions: Occlusions, precision: str
) -> tuple[RegionScorer, EngineReport]:
    scorer = WindowScorer(model, clean)
    passes, every = scorer.passes(occlusions), scorer.full_passes(occlusions)
    text = f"Only windows that a region touches were run: {passes} of {every} passes."
    text += _IN_SINGLE if precision == "half" else ""
    work = model.layers().multiply_adds
    return scorer, EngineReport("windows", text, passes * work, every * work, 0.0)


def _probes(work: np.ndarray, most: int) -> np.ndarray:
    """Regions to compute both ways: the largest, and of middling, of much and of little work."""
    order, n = np.argsort(work, kind="stable"), len(work)
    return np.unique(order[[n - 1, n // 2, n * 9 // 10, n // 10][:most]])


def _logits(scorer: RegionScorer, occlusions: Occlusions) -> np.ndarray:
    logits = np.empty((len(occlusions.boxes), len(scorer.clean_logits)), np.float32)
    for members, scores in scorer.score(occlusions):
        logits[members] = scores
    return logits


def _dtype(clean: Tensor, precision: str) -> torch.dtype:
    if precision == "single":
        return clean.dtype
    return torch.bfloat16 if clean.device.type == "cpu" else torch.float16


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _share(program: Program) -> str:
    why = _why(program)
    return f" Part of the network is computed in full{why}." if why else ""


def _why(program: Program) -> str:
    operation = program.mixing()
    if operation is None:
        return ""
    stack = operation.node.meta.get("nn_module_stack") or {}
    path = [name.removeprefix("L__self___") for name, _ in stack.values() if name]
    inside = path[-1].partition(".")[2] if path else ""  # the first part is the tracer's own
    where = f" in '{inside}'" if inside else ""
    name = getattr(operation.node.target, "__name__", "an operation").split(".")[0]
    does = "mixes all positions" if operation.mixes else "cannot be followed box by box"
    return f", because {name}{where} {does}"
