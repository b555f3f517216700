"""The methods of a localisation benchmark: each gives its maps of one scan, timed."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from skimage.segmentation import slic

from napari_cnnvis.evaluate.benchmark.cases import Case, Method, TimedMap
from napari_cnnvis.evaluate.benchmark.options import (
    BENCHMARKED,
    CONTROLS,
    GRADIENT,
    INPUT,
    SLIC,
    BenchmarkOptions,
)
from napari_cnnvis.evaluate.benchmark.rows import MapFacts
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.parameter import Baseline, baseline_names
from napari_cnnvis.explain.remap import remap
from napari_cnnvis.explain.run import explain
from napari_cnnvis.models.layers import TargetLayer
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.build import build_hierarchy
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["methods_of", "slic_level"]

#: blur of the scan, in mm, before its edges are sought
_EDGE_SCALE = 2.0
#: how compact SLIC's supervoxels are; see the benchmark of supervoxels
_COMPACTNESS = 0.05


def methods_of(options: BenchmarkOptions) -> list[Method]:
    """The runs that options ask for; one run may give the maps of several methods."""
    o, methods = options, list[Method]()
    shown = o.scores, o.quantities, o.smooths
    if "box" in o.methods:
        methods.append(Boxes(o.baselines, *shown, o.size, o.stride))
    for margin in o.margins:
        if SLIC in o.methods:
            methods.append(SlicRegions(o.baselines, *shown, o.levels, margin))
        if "sensitivity" in o.methods:
            methods.append(UcmRegions(o.baselines, *shown, o.levels, margin, o.joins))
    if "cam" in o.methods:
        methods.append(ClassActivation(o.alignments))
    if gradient := tuple(name for name in GRADIENT if name in o.methods):
        methods.append(Gradients(gradient, o.alignments, o.layers))
    methods.extend(
        InputVoxels(key, o.baselines, o.quantities, o.smooths) for key in INPUT if key in o.methods
    )
    methods.extend(Control(name) for name in CONTROLS if name in o.methods)
    return methods


@dataclass(frozen=True, eq=False)
class _Occlusion(Method):
    """What the methods that replace voxels share."""

    baselines: tuple[Baseline, ...]
    scores: tuple[str, ...]
    quantities: tuple[str, ...]
    smooths: tuple[float, ...]

    def _views(
        self, run: Attribution, case: Case, joins: Sequence[str] = ("mean",)
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """The run's maps of each baseline, join, score, quantity and smoothing, and their names."""
        names = baseline_names(self.baselines)
        mean = [(None, f"mean of {' and '.join(names)}")] if len(names) > 1 else []
        shown = [*((name, name) for name in names), *mean]
        for (baseline, called), join, score, quantity, smooth in product(
            shown, joins, self.scores, self.quantities, self.smooths
        ):
            how = {"quantity": quantity, "score": score, "baseline": baseline}
            data = remap(run, case.target, join=join, smooth=smooth, **how).data
            parts = [called, *([join] if len(joins) > 1 or join != "mean" else []), score]
            parts += ["absolute"] if quantity == "absolute" else []
            parts += [f"smoothed {smooth:g} mm"] if smooth else []
            yield parts, data

    def _timed(self, setting: Sequence[str], data: np.ndarray, seconds: float) -> TimedMap:
        return MapFacts(self.name, ", ".join(setting), seconds=seconds), data


@dataclass(frozen=True, eq=False)
class Boxes(_Occlusion):
    """Box occlusion."""

    size: int
    stride: int

    name = BENCHMARKED["box"]

    def maps(self, case: Case) -> Iterator[TimedMap]:
        start = time.perf_counter()
        run = box_sensitivity(
            case.model,
            case.volume,
            case.target,
            size=self.size,
            stride=self.stride,
            baseline=list(self.baselines),
            cancel=case.cancel,
        )
        seconds = time.perf_counter() - start
        how = [f"{self.size} voxels", f"stride {self.stride}"]
        for parts, data in self._views(run, case):
            yield self._timed([*how, *parts], data, seconds)


@dataclass(frozen=True, eq=False)
class UcmRegions(_Occlusion):
    """Sensitivity on the ultrametric contour map."""

    levels: tuple[int, ...]
    margin: float
    joins: tuple[str, ...]

    name = BENCHMARKED["sensitivity"]

    def maps(self, case: Case) -> Iterator[TimedMap]:
        start = time.perf_counter()
        hierarchy = build_hierarchy(case.volume, cancel=case.cancel)
        run = _sensitivity(case, hierarchy, self.baselines, self.margin, self.levels)
        seconds = time.perf_counter() - start
        for parts, data in self._views(run, case, self.joins):
            how = [*_region_settings(self.levels, self.margin), *parts]
            yield self._timed(how, data, seconds)


@dataclass(frozen=True, eq=False)
class SlicRegions(_Occlusion):
    """The same on SLIC supervoxels, which do not nest: the mean of the levels' maps."""

    levels: tuple[int, ...]
    margin: float

    name = BENCHMARKED[SLIC]

    def maps(self, case: Case) -> Iterator[TimedMap]:
        start = time.perf_counter()
        totals: dict[tuple[str, ...], np.ndarray] = {}
        for count in self.levels:
            if case.cancel.is_set():
                return
            level = slic_level(case.volume, count, case.inside)
            hierarchy = Hierarchy.from_levels([level], background=0)
            run = _sensitivity(case, hierarchy, self.baselines, self.margin)
            for parts, data in self._views(run, case):
                total = totals.setdefault(tuple(parts), np.zeros(data.shape, np.float64))
                total += data / len(self.levels)
        seconds = time.perf_counter() - start
        for parts, total in totals.items():
            how = [*_region_settings(self.levels, self.margin), *parts]
            yield self._timed(how, total, seconds)


@dataclass(frozen=True, eq=False)
class ClassActivation(Method):
    """CAM, in networks with a head that allows it."""

    alignments: tuple[str, ...]

    name = BENCHMARKED["cam"]

    def applies(self, model: Model, shape: tuple[int, int, int]) -> bool:
        return model.layers(shape).cam_head is not None

    def maps(self, case: Case) -> Iterator[TimedMap]:
        for alignment in self.alignments:
            start = time.perf_counter()
            result = cam(case.model, case.volume, case.target, alignment=alignment)
            seconds = time.perf_counter() - start
            conformed = case.model.conform(case.volume)
            shape, spacing = conformed.data.shape, conformed.spacing
            head = case.model.layers(shape).cam_head
            facts = _layer_facts(self.name, case.model, head.features, shape, spacing, alignment)
            yield MapFacts(**facts, recommended=True, seconds=seconds), result.data


@dataclass(frozen=True, eq=False)
class Gradients(Method):
    """Grad-CAM and its variants at every layer, or at some: signed, all from one pass."""

    methods: tuple[str, ...]
    alignments: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        return ", ".join(BENCHMARKED[method] for method in self.methods)

    def applies(self, model: Model, shape: tuple[int, int, int]) -> bool:
        return bool(model.layers(shape).targets)

    def maps(self, case: Case) -> Iterator[TimedMap]:
        start = time.perf_counter()
        how = {"layer": "all", "relu": False}
        one_pass = explain(case.model, case.volume, self.methods[0], target=case.target, **how)
        of_pass = time.perf_counter() - start
        conformed = one_pass.conformed
        shape, spacing = conformed.data.shape, conformed.spacing
        recommended = case.model.layers(shape).recommended
        chosen = [name for name in one_pass if not self.layers or name in self.layers]
        for method, alignment, layer in product(self.methods, self.alignments, chosen):
            if case.cancel.is_set():
                return
            start = time.perf_counter()
            data = one_pass.of(method, alignment=alignment)[layer].data
            seconds = of_pass + time.perf_counter() - start
            facts = _layer_facts(
                *(BENCHMARKED[method], case.model, one_pass.layers[layer]),
                *(shape, spacing, alignment),
            )
            yield MapFacts(**facts, recommended=layer == recommended, seconds=seconds), data


@dataclass(frozen=True, eq=False)
class InputVoxels(Method):
    """A method that gives each voxel of the input a value; with the logit, as Grad-CAM."""

    key: str
    baselines: tuple[Baseline, ...]
    quantities: tuple[str, ...]
    smooths: tuple[float, ...]

    @property
    def name(self) -> str:
        return BENCHMARKED[self.key]

    def maps(self, case: Case) -> Iterator[TimedMap]:
        takes_baselines = "baseline" in INPUT[self.key].parameters()
        for baseline in self.baselines if takes_baselines else (None,):
            how = {} if baseline is None else {"baseline": baseline}
            start = time.perf_counter()
            run = explain(
                case.model, case.volume, self.key, target=case.target, cancel=case.cancel, **how
            )
            seconds = time.perf_counter() - start
            if case.cancel.is_set():
                return
            assert isinstance(run, Attribution)
            called = baseline_names([baseline]) if takes_baselines else ()
            for quantity, smooth in product(self.quantities, self.smooths):
                sign = "absolute" if quantity == "absolute" else "signed"
                data = run.voxels.map(sign, smooth, case.volume.spacing)
                parts = [*called, sign, *([f"smoothed {smooth:g} mm"] if smooth else [])]
                yield MapFacts(self.name, ", ".join(parts), seconds=seconds), data


@dataclass(frozen=True, eq=False)
class Control(Method):
    """A map that does not know the network."""

    kind: str

    @property
    def name(self) -> str:
        return CONTROLS[self.kind]

    def maps(self, case: Case) -> Iterator[TimedMap]:
        start = time.perf_counter()
        data = _CONTROL_MAPS[self.kind](case.volume, case.inside)
        yield MapFacts(self.name, seconds=time.perf_counter() - start), data


def slic_level(volume: Volume, n: int, inside: np.ndarray | None = None) -> np.ndarray:
    """About n SLIC supervoxels (scikit-image), which gives fewer than it is asked for.

    It is asked up to four times, until the number is right to 5 %.

    Parameters
    ----------
    volume : Volume
    n : int
    inside : array of bool, shape of the volume, optional
        Where supervoxels are; by default where the volume is above 0.

    Returns
    -------
    integer array, shape of the volume
        From 1; 0 outside.
    """
    inside = volume.data > 0 if inside is None else inside
    data, ask = volume.data / volume.data.max(), float(n)
    for _ in range(4):
        labels = slic(
            data,
            max(1, round(ask)),
            _COMPACTNESS,
            channel_axis=None,
            mask=inside,
            enforce_connectivity=True,
        )
        found = len(np.unique(labels[labels > 0]))
        if abs(found - n) <= 0.05 * n:
            break
        ask *= n / found
    return labels


def _sensitivity(
    case: Case,
    hierarchy: Hierarchy,
    baselines: Sequence[Baseline],
    margin: float,
    levels: Sequence[int] | None = None,
) -> Attribution:
    if levels is not None:
        coarsest = int((hierarchy.parents == np.arange(hierarchy.n_nodes)).sum())
        fitting = {min(max(n, coarsest), hierarchy.n_leaves) for n in levels}
        levels = sorted(fitting, reverse=True)
    return sensitivity(
        case.model,
        case.volume,
        hierarchy,
        case.target,
        baseline=list(baselines),
        levels=levels,
        cancel=case.cancel,
        margin=margin,
    )


def _region_settings(levels: Sequence[int], margin: float) -> list[str]:
    return [f"levels {'/'.join(map(str, levels))}", f"margin {margin:g} mm"]


def _layer_facts(
    name: str,
    model: Model,
    layer: TargetLayer,
    shape: tuple[int, ...],
    spacing: np.ndarray,
    alignment: str,
) -> dict[str, object]:
    """What `MapFacts` says of a layer; the side of its cells is that on the map."""
    step = np.divide(model.input_spec.net_shape or shape, layer.shape)
    if alignment == "receptive field" and layer.grid is not None:
        step = np.asarray(layer.grid.step)
    return {
        "method": name,
        "setting": "" if alignment == "stretch" else "cells on their receptive fields",
        "layer": layer.name,
        "cells": " x ".join(map(str, layer.shape)),
        "cell_mm": float(np.prod(step * spacing) ** (1 / 3)),
    }


def _random(volume: Volume, inside: np.ndarray) -> np.ndarray:
    """Uniform noise, of another seed for each scan."""
    seed = zlib.crc32(np.ascontiguousarray(volume.data))
    return np.random.default_rng(seed).random(volume.shape, np.float32)


def _depth(volume: Volume, inside: np.ndarray) -> np.ndarray:
    """Millimetres to the nearest voxel that does not count: the middle is always right."""
    padded = np.pad(inside, 1)
    away = ndimage.distance_transform_edt(padded, sampling=volume.spacing)
    return away[1:-1, 1:-1, 1:-1].astype(np.float32)


def _edges(volume: Volume, inside: np.ndarray) -> np.ndarray:
    """Magnitude of the scan's gradient, after a blur of 2 mm."""
    scale = _EDGE_SCALE / np.asarray(volume.spacing)
    return ndimage.gaussian_gradient_magnitude(volume.data, scale)


_CONTROL_MAPS = {"random": _random, "depth": _depth, "edges": _edges}
