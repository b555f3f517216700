"""A map's record as a Python script that makes the map again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_cnnvis.explain.common_parameters import SCORES
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import Parameter
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import HEAD_FOUND

__all__ = ["Script"]


@dataclass(frozen=True)
class Script:
    """The script of a map.

    Attributes
    ----------
    values : mapping
        The map's record, checked and complete.
    method : type of Method
    """

    values: Mapping[str, Any]
    method: type[Method]

    def text(self, output: str) -> str:
        """The script; the map is written to `output`."""
        values, method = self.values, self.method
        lines = ["import napari_cnnvis as cv", ""]
        scans = [values["scan"], *values["scan"].get("other_channels", [])]
        names = _scan_names(scans)
        lines += [f"{name} = {_read(scan)}" for name, scan in zip(names, scans, strict=True)]
        lines += [
            f"{name} = {name}.with_head({_head(scan)}"
            for name, scan in zip(names, scans, strict=True)
            if scan.get("head", HEAD_FOUND) != HEAD_FOUND
        ]
        lines += _model(values["model"])
        arguments = ["model", "volume" if len(scans) == 1 else f"[{', '.join(names)}]"]
        if not method.function:
            arguments.append(repr(method.key))
        if method.takes_hierarchy:
            lines.append(f"hierarchy = {_hierarchy(values.get('hierarchy') or {})}")
            arguments.append("hierarchy" if method.function else "hierarchy=hierarchy")
        arguments.append(f"target={values['class_name']!r}")
        arguments += self._arguments()
        lines.append(f"result = cv.{method.function or 'explain'}(")
        lines += [f"    {argument}," for argument in arguments]
        lines.append(")")
        if values.get("partial"):
            lines.append("# the run was stopped early; this script runs it to its end")
        lines.append(f"result.save({output!r})")
        return "\n".join(lines) + "\n"

    def _arguments(self) -> list[str]:
        """The parameters as the record says them; what is None is left out."""
        given = []
        for name, parameter in self.method.parameters().items():
            value = self.values.get(parameter.stored)
            if value is None or (name == "score" and value not in SCORES):
                continue
            given.append(f"{name}={self._value(parameter, value)}")
        return given

    def _value(self, parameter: Parameter, value: Any) -> str:
        if parameter.kind != "baselines":
            return repr(value)
        sources = self.values.get("baseline_sources") or {}
        texts = [
            _read_file(sources[one]) if one in sources else repr(parameter.read([one])[0])
            for one in value
        ]
        return f"[{', '.join(texts)}]"


def _scan_names(scans: list[Any]) -> list[str]:
    return ["volume", *(f"volume_{n}" for n in range(2, len(scans) + 1))]


def _read(scan: dict[str, Any]) -> str:
    if not scan.get("source"):
        return 'cv.read_volume("scan.nii.gz")  # TODO: the file of ' + repr(scan.get("name"))
    text = _read_file(scan["source"])
    axes = scan.get("axes")
    if axes and axes != scan.get("stored_axes"):
        text += f".reoriented({axes!r}, remember=True)"  # as the viewer lays it out
    return text


def _head(scan: dict[str, Any]) -> str:
    if scan.get("head_source"):
        return f"{_read_file(scan['head_source'])})"
    return f'cv.read_volume("head.nii.gz"))  # TODO: the head mask {scan["head"]!r}'


def _read_file(source: str) -> str:
    path, index = source_file(source)
    return f"cv.read_volume({path!r}{'' if index is None else f', index={index}'})"


def _model(model: dict[str, Any]) -> list[str]:
    spec = model.get("input") or {}
    default = InputSpec().to_dict()
    changed = {k: v for k, v in spec.items() if v != default.get(k)}
    fields = ", ".join(
        f"{k}={tuple(v) if isinstance(v, list) else v!r}" for k, v in changed.items()
    )
    if model.get("path"):
        files = [model["path"], *(model.get("more_files") or ())]
        lines = ["model = cv.load_model(", f"    {files if len(files) > 1 else files[0]!r},"]
    else:
        lines = ["model = cv.load_model(", '    "net.pt",  # TODO: the checkpoint']
    if model.get("arch"):
        lines.append(f"    arch={model['arch']!r},")
    if model.get("names"):
        lines.append(f"    class_names={model['names']!r},")
    lines.append(f"    input_spec=cv.InputSpec({fields}),")
    if model.get("output"):
        lines.append(f"    output={model['output']!r},")
    lines += [f"    {name}={model[name]!r}," for name in ("scores", "extra") if model.get(name)]
    lines.append(")")
    return lines


def _hierarchy(origin: dict[str, Any]) -> str:
    if "boundary" in origin:
        return f"cv.build_hierarchy(volume, boundary={origin['boundary']!r}, counts={origin.get('counts')!r})"
    if origin.get("files"):
        files = origin["files"][0] if len(origin["files"]) == 1 else origin["files"]
        return f"cv.Hierarchy.read({files!r}, background={origin.get('background')!r})"
    return 'cv.Hierarchy.load("tree.npz")  # TODO: the regions that were given'
