"""What the tests of one report share: the map, the scan, the baseline, the hierarchy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.trust.class_contrast import ClassContrast, class_contrast
from napari_cnnvis.evaluate.trust.deletion import Removal, removal_curves
from napari_cnnvis.evaluate.trust.edges import EdgeControl, compare_with_edges
from napari_cnnvis.evaluate.trust.network_response import NetworkResponse, network_response
from napari_cnnvis.evaluate.trust.randomisation import Randomisation, cascade
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.parameter import Baseline
from napari_cnnvis.explain.remap import remapped
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.run import explain
from napari_cnnvis.explain.scoring.baselines import make_baselines
from napari_cnnvis.explain.scoring.occluded_scan import OccludedScan
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import HEAD_FOUND, Scan, channels_of
from napari_cnnvis.ucm.build import build_hierarchy
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["TrustRun"]


class TrustRun:
    """What the tests of one report share."""

    def __init__(
        self,
        model: Model,
        volume: Scan,
        what: ExplainRequest | Attribution,
        hierarchy: Hierarchy | None,
        baseline: Baseline | None,
        seed: int,
        progress: Callable[[Progress], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self.model, self.volume, self.seed = model, volume, seed
        self._progress, self.cancel = progress, cancel
        self.doing = "the map"
        self.notes: list[str] = []
        self._hierarchy = hierarchy
        self.request: ExplainRequest | None = None
        if isinstance(what, Attribution):
            self.attribution = what
            self._read_record()
        else:
            if getattr(what.how, "layer", None) == "all":
                raise MethodError("Choose one layer; a report is of one map.")
            self.request = what
            self.attribution = self._explained(model, what)
        self.target = model.class_index(self.attribution.provenance["class_name"])
        first = channels_of(volume)[0]
        if self.attribution.data.shape != first.shape:
            raise MethodError(
                f"The map has {self.attribution.data.shape} voxels, but the scan {first.shape}; give "
                "the scan that the map was made from."
            )
        self.scan = OccludedScan(model, volume, self._baseline(baseline))
        if len(self.scan.given) != 1:
            raise MethodError("Give one baseline for the deletion curves.")

    def _read_record(self) -> None:
        """What the map's record says of how it was made."""
        record = self.attribution.provenance
        try:
            self.request = self.attribution.record.request()
        except MethodError as exc:
            self.notes.append(
                f"The map cannot be computed again, so the tests that need it were left out. {exc}"
            )
            return
        weights = (record.get("model") or {}).get("weights_sha256")
        if weights is not None and weights != self.model.weights_hash():
            self.notes.append(
                "The map was made by a network with other weights than this one; what is tested is "
                "whether it is true of this one."
            )
        first = channels_of(self.volume)[0]
        own = (record.get("scan") or {}).get("head", first.head_name)
        if own != first.head_name:
            self.notes.append(
                f"The map was made with the head {_called(own)}, and is tested with the head "
                f"{_called(first.head_name)}."
            )
        if record.get("shown") or record.get("level_weights"):
            self.notes.append(
                "The map is a view of its run (a baseline or weights of levels were chosen); it is "
                "compared with maps without that choice."
            )

    def _baseline(self, given: Baseline | None) -> Any:
        if given is not None:
            return given
        if self.request is not None and self.request.how.occludes:
            own = self.request.how.baseline
            if len(own) == 1:
                return own[0]
        return "blur"

    @property
    def cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    def progress(self, progress: Progress) -> None:
        if self._progress is not None:
            self._progress(replace(progress, what=f"{self.doing}: {progress.what}"))

    @property
    def signed(self) -> bool:
        """Whether the map tells what speaks against the class."""
        return bool((self.attribution.data < 0).any())

    @cached_property
    def head(self) -> np.ndarray:
        """All that is not background, on the model's grid."""
        scan = self.scan.conformed
        return make_baselines(scan.channels, "border", scan.spacing, scan.heads).replaces

    @cached_property
    def inside(self) -> np.ndarray:
        """The same on the scan's grid."""
        return self.scan.conformed.back(self.head, order=0) > 0.5

    @property
    def hierarchy(self) -> Hierarchy | None:
        """For sensitivity, made once."""
        if self._hierarchy is None and self.request.how.takes_hierarchy:
            own = getattr(getattr(self, "attribution", None), "regions", None)
            if own is not None:
                self._hierarchy = own.hierarchy
            else:
                self._hierarchy = self._made_again()
        return self._hierarchy

    def _made_again(self) -> Hierarchy:
        record = {} if not hasattr(self, "attribution") else self.attribution.provenance
        origin = record.get("hierarchy") or {}
        if origin.get("files"):
            files = origin["files"]
            return Hierarchy.read(files if len(files) > 1 else files[0], origin["background"])
        how = {name: origin[name] for name in ("boundary", "counts") if name in origin}
        first = channels_of(self.volume)[0]
        return build_hierarchy(first, **how, progress=self.progress, cancel=self.cancel)

    def _explained(self, model: Model, request: ExplainRequest) -> Attribution:
        hierarchy = self.hierarchy
        return explain(
            model,
            self.volume,
            request,
            hierarchy=hierarchy,
            progress=self.progress,
            cancel=self.cancel,
        )

    def _again(self, model: Model, request: ExplainRequest) -> np.ndarray | None:
        found = self._explained(model, request)
        return None if self.cancelled else found.data

    def _asked(self) -> ExplainRequest:
        if self.request is None:
            raise MethodError("How the map was made is not known.")
        return self.request

    def response(self, networks: int) -> NetworkResponse | None:
        return network_response(
            self.model,
            self.scan,
            self.target,
            self.head,
            networks=networks,
            seed=self.seed,
            progress=self.progress,
            cancel=self.cancel,
        )

    def edges(self) -> EdgeControl:
        first = channels_of(self.volume)[0]
        return compare_with_edges(
            self.attribution.data, first.data, first.spacing, self.inside, self.seed
        )

    def contrast(self) -> ClassContrast | None:
        request = self._asked()

        def map_of(other: ExplainRequest) -> np.ndarray | None:
            if self.attribution.regions is None:
                return self._again(self.model, other)
            return remapped(self.attribution, other.how, other.target).data

        return class_contrast(
            self.model.outputs,
            self.model.class_names,
            request,
            self.target,
            self.attribution.data,
            map_of,
            self.model.predict(self.volume)
            if self.model.outputs.has_probabilities
            else np.zeros(0),
            self.inside,
            self.progress,
            self.cancel,
        )

    def randomisation(self, stages: int, repeats: int) -> Randomisation | None:
        request = self._asked()
        return cascade(
            self.model,
            lambda random: self._again(random, request),
            self.attribution.data,
            self.inside,
            self.model.tensor(self.scan.conformed.channels),
            stages=stages,
            repeats=repeats,
            seed=self.seed,
            progress=self.progress,
            cancel=self.cancel,
        )

    def removal(self, steps: int, random_orders: int, score: str) -> Removal | None:
        values = self.scan.conformed.labels(self.attribution.data)
        if self.attribution.provenance.get("quantity") == "probability":
            values = -values  # a low score with the region occluded means that it matters
        return removal_curves(
            self.model,
            self.scan,
            values,
            self.target,
            self.head,
            steps=steps,
            random_orders=random_orders,
            score=score,
            seed=self.seed,
            progress=self.progress,
            cancel=self.cancel,
        )


def _called(head: str) -> str:
    return head if head == HEAD_FOUND else f"of the mask '{head}'"
