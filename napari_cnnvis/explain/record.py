"""A map's record: where it comes from, and everything that is needed to make it again."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cnnvis.errors import CnnVisError, MethodError, shortened
from napari_cnnvis.explain.common_parameters import DISAGREEMENT, SCORES
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import Parameter
from napari_cnnvis.explain.record_checks import checked_parts
from napari_cnnvis.explain.registry import methods, titled
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.script import Script
from napari_cnnvis.reading import read_small, source_file
from napari_cnnvis.scan.conform import Conformed
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Scan, Volume, channels_of
from napari_cnnvis.writing import companion

if TYPE_CHECKING:
    from napari_cnnvis.models.model import Model

__all__ = ["DIFFERENCE", "Record", "is_record", "read_record"]

#: the "method" of maps that are one map minus another
DIFFERENCE = "Difference"


@dataclass(frozen=True)
class Record:
    """What is known of a map's making, as plain values.

    Parameters
    ----------
    values : mapping
        Method, its parameters, class, model, scan, versions, time; what is found out by a
        run, such as the layer that was taken. Use `read` for what comes from outside.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> record = cv.Record({"method": "Grad-CAM", "class_name": "AD", "layer": "conv4c",
    ...                     "score": "logit", "relu": True, "versions": {}})
    >>> record.title, record.unit
    ('Grad-CAM · AD · conv4c', 'logit')
    >>> record.request().how.layer
    'conv4c'
    """

    values: Mapping[str, Any]

    @classmethod
    def of_run(
        cls,
        how: Method,
        model: Model,
        volume: Scan,
        conformed: Conformed,
        target: int,
        **found: Any,
    ) -> Record:
        """The record of a run that is under way.

        Parameters
        ----------
        how : Method
        model : Model
        volume : Volume, or a sequence with one for each input channel
        conformed : Conformed
            The scan as the network sees it.
        target : int
        **found
            What the run found out, as plain values; goes before parameters of this name.
        """
        first, *others = channels_of(volume)
        more = {"other_channels": [_place(other) for other in others]} if others else {}
        plain = how.plain()
        if "score" in plain:
            plain["score"] = model.outputs.score_name(plain["score"])
        return cls(
            {
                "method": how.title,
                "class": target,
                "class_name": model.class_names[target],
                **plain,
                **_sources(how),
                **found,
                "model": {
                    "architecture": model.architecture,
                    "path": model.path,
                    "more_files": list(model.more_files),
                    "arch": model.arch,
                    "class_names": list(model.class_names),
                    "names": list(model.names),
                    "weights_sha256": model.weights_hash(),
                    "output": model.outputs.kind,
                    "scores": model.scores,
                    "extra": model.extra,
                    "input": model.input_spec.to_dict(),
                    "grid": list(conformed.data.shape),
                    "device": str(model.device),
                },
                "scan": {**_place(first), "shape": list(first.shape), **more},
                "versions": {name: version(name) for name in ("napari-cnnvis", "torch", "numpy")},
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
        )

    @classmethod
    def read(cls, values: Any) -> Record:
        """A record that comes from a file or a layer; each part is checked.

        Raises
        ------
        MethodError
            If it is not the record of a map, or a part of it is not of the kind that a run
            writes.
        """
        if isinstance(values, Record):
            values = values.values
        if not isinstance(values, Mapping) or "method" not in values:
            raise MethodError(
                "This is not the record of a map; a map is saved as two files, with a .json."
            )
        method = titled(values["method"])
        if method is None and values["method"] != DIFFERENCE:
            names = ", ".join(m.title for m in methods().values())
            raise MethodError(
                f"The map's record names the method '{shortened(values['method'], 60)}', which "
                f"cannot be run; only {names} can."
            )
        return cls(checked_parts(values, method, methods().values()))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The record that `to_json` wrote; see `read`."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise MethodError("This is not JSON, so it is not the record of a map.") from exc
        return cls.read(values)

    def to_json(self) -> str:
        """The record as text."""
        return json.dumps(dict(self.values), indent=2) + "\n"

    def with_values(self, **changes: Any) -> Record:
        """The record with some parts changed."""
        return Record({**self.values, **changes})

    def of_view(self, how: Method, **found: Any) -> Record:
        """The record of another view of the same run, which `how` asks for."""
        plain = how.plain()
        if "score" in plain and self.values.get("score") not in SCORES:
            plain["score"] = self.values.get("score")
        return self.with_values(method=how.title, **{**plain, **found})

    # --- what it says ----------------------------------------------------------------------

    @property
    def method(self) -> type[Method]:
        """The method.

        Raises
        ------
        MethodError
            If the map was not made by a run.
        """
        found = titled(self.values.get("method"))
        if found is None:
            raise MethodError(
                f"A map of '{shortened(self.values.get('method'), 60)}' is not made by a run; run "
                "one of the maps that it is made of."
            )
        return found

    @property
    def title(self) -> str:
        """Method, class and layer or baseline; empty where nothing is known."""
        values = self.values
        if "method" not in values:
            return ""
        parts = [
            values.get("method"),
            values.get("class_name"),
            values.get("layer") or values.get("shown"),
        ]
        return " · ".join(str(part) for part in parts if part) + (
            " (partial)" if values.get("partial") else ""
        )

    @property
    def unit(self) -> str:
        """What the map's values are."""
        if "method" not in self.values:
            return ""
        score = str(self.values.get("score") or "logit")
        score = SCORES.get(score, score)
        quantity = self.values.get("quantity")
        if quantity is None:
            return score
        units = {"drop": f"drop of the {score}", "absolute": f"size of the drop of the {score}"}
        unit = units.get(quantity, f"{score} without the region")
        if self.values.get("shown") == DISAGREEMENT:
            return f"disagreement of baselines ({unit})"
        return unit

    @property
    def files(self) -> list[str]:
        """The files that the map was made from, as far as is known."""
        scan, baselines, model, hierarchy = (
            part if isinstance(part := self.values.get(name), Mapping) else {}
            for name in ("scan", "baseline_sources", "model", "hierarchy")
        )
        scans = [scan, *_list(scan.get("other_channels"))]
        sources = [
            one.get(name)
            for one in scans
            if isinstance(one, Mapping)
            for name in ("source", "head_source")
        ]
        sources += baselines.values()
        files = [source_file(source)[0] for source in sources if isinstance(source, str)]
        more = [model.get("path"), *_list(hierarchy.get("files"))]
        return [one for one in (*files, *more) if isinstance(one, str) and one]

    # --- to make the map again -------------------------------------------------------------

    def request(self) -> ExplainRequest:
        """The request that the map answers; baselines that were scans are read again.

        Raises
        ------
        MethodError
            If the map was not made by a run, or a baseline was a scan whose file is not there.
        """
        values = self._complete("class_name")
        given = {
            name: self._value(parameter)
            for name, parameter in self.method.parameters().items()
            if parameter.stored in values and self._says(parameter)
        }
        return ExplainRequest(self.method(**given), values["class_name"])

    def _says(self, parameter: Parameter) -> bool:
        """Whether a parameter's own value is there: the score of a regression has no choice."""
        return parameter.name != "score" or self.values["score"] in SCORES

    def _value(self, parameter: Parameter) -> Any:
        value = self.values[parameter.stored]
        if parameter.kind != "baselines":
            return parameter.read(value)
        sources = self.values.get("baseline_sources") or {}
        return tuple(
            self._baseline_scan(name, sources[name])
            if name in sources
            else parameter.read([name])[0]
            for name in value
        )

    def _baseline_scan(self, name: str, source: str) -> Volume:
        if not source:
            raise MethodError(
                f"The map's baseline '{name}' was a scan that is in no file; choose it in the panel "
                "and press Run."
            )
        path, index = source_file(source)
        try:
            volume = read_volume(path, index=index)
        except CnnVisError as exc:
            raise MethodError(f"The map's baseline '{name}' cannot be read again. {exc}") from exc
        axes = (self.values.get("scan") or {}).get("axes")
        return volume if not axes else volume.reoriented(axes, remember=True)

    def script(self, output: str = "map.nii.gz") -> str:
        """Python code that computes the map again from the same files and writes it to `output`.

        What cannot be known, such as the file of a scan that was never on disk, is marked
        with ``# TODO``.

        Raises
        ------
        MethodError
            If the map was not made by a run.
        """
        return Script(self._complete("class_name", "scan", "model"), self.method).text(output)

    def _complete(self, *names: str) -> Mapping[str, Any]:
        """The values, if these parts are among them."""
        missing = [name for name in names if not self.values.get(name)]
        if missing:
            raise MethodError(
                f"The map's record does not say its {missing[0].replace('_', ' ')}; run the method "
                "again in the panel Explain CNN."
            )
        return self.values


def read_record(path: str | os.PathLike) -> Record | None:
    """The record beside a map; None if there is no JSON beside it, or it is something else's.

    Raises
    ------
    MethodError
        If it is a map's record, but a part of it is not of the kind that a run writes.
    """
    values = _record_in(companion(path))
    return None if values is None else Record.read(values)


def is_record(path: Path) -> bool:
    """Whether a JSON is the record of a map."""
    return _record_in(path) is not None


def _record_in(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_small(path))
    except (OSError, ValueError, RecursionError):
        return None
    known = {"method", "class_name", "versions"}
    return content if isinstance(content, dict) and known <= set(content) else None


def _sources(how: Method) -> dict[str, Any]:
    """The files of those baselines that are scans."""
    if not how.occludes:
        return {}
    volumes = [b for b in getattr(how, "baseline", ()) if isinstance(b, Volume)]
    return {"baseline_sources": {b.name: b.source for b in volumes}}


def _list(value: Any) -> list[Any]:
    """A list of a record, and nothing for what is not one."""
    return list(value) if isinstance(value, list | tuple) else []


def _place(volume: Volume) -> dict[str, Any]:
    """Name, file, axes and head of a volume."""
    return {
        "name": volume.name,
        "source": volume.source,
        "axes": volume.orientation,
        "stored_axes": volume.stored_orientation or volume.orientation,
        "head": volume.head_name,
        "head_source": volume.head_source,
    }
