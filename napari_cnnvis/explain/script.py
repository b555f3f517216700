"""A map's record as a Python script that makes the map again."""

from __future__ import annotations

import math
from typing import Any

from napari_cnnvis.errors import MethodError, shortened
from napari_cnnvis.explain.record import checked_record
from napari_cnnvis.explain.request import METHODS, SCORES, ExplainRequest
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.conform import InputSpec

__all__ = ["request_of", "script_of"]

_CALLS = {
    "cam": "cam",
    "grad-cam": "grad_cam",
    "grad-cam++": "grad_cam_plus_plus",
    "hirescam": "hires_cam",
    "layercam": "layer_cam",
    "sensitivity": "sensitivity",
    "box": "box_sensitivity",
}
#: what each call takes from the record, besides model, scan and target
_TAKES = {
    "cam": ("alignment",),
    "sensitivity": ("baseline", "quantity", "score", "join", "margin", "smooth", "precision"),
    "box": ("size", "stride", "baseline", "quantity", "score", "inside", "smooth", "precision"),
}
_GRADIENT_TAKES = ("layer", "relu", "score", "alignment")


def method_of(provenance: dict[str, Any]) -> str:
    """The method's key in ``options.METHODS``.

    Raises
    ------
    MethodError
        If the record is of no method of this package.
    """
    for key, name in METHODS.items():
        if provenance.get("method") == name:
            return key
    raise MethodError(
        f"A map of '{shortened(provenance.get('method'), 60)}' is not made by a run; run one of the "
        "maps that it is made of."
    )


def _complete(provenance: dict[str, Any], *names: str) -> dict[str, Any]:
    """The record, checked, if it has these parts."""
    record = checked_record(provenance)
    missing = [name for name in names if not record.get(name)]
    if missing:
        raise MethodError(
            f"The map's record does not say its {missing[0].replace('_', ' ')}; run the method again "
            "in the panel Explain CNN."
        )
    return record


def request_of(provenance: dict[str, Any]) -> ExplainRequest:
    """The request that a map's record answers.

    Raises
    ------
    MethodError
        If the record is of no method of this package, was changed, or a baseline was a scan.
    """
    provenance = _complete(provenance, "class_name")
    method = method_of(provenance)
    names = ("layer", "relu", "alignment", "quantity", "join", "margin", "smooth", "size", "stride")
    names += ("precision",)
    given = {name: provenance[name] for name in names if name in provenance}
    if provenance.get("score") in SCORES:
        given["score"] = provenance["score"]
    if "baseline" in provenance:
        if provenance.get("baseline_sources"):
            raise MethodError(
                "One of the map's baselines was a scan; choose it in the panel and press Run."
            )
        given["baseline"] = [_plain_baseline(name) for name in provenance["baseline"]]
    if provenance.get("level_counts"):
        given["finest"] = max(provenance["level_counts"])
    return ExplainRequest(method, provenance["class_name"], **given)


def script_of(provenance: dict[str, Any], output: str = "map.nii.gz") -> str:
    """Python code that computes the map again from the same files and writes it to `output`.

    What cannot be known, such as the file of a scan that was never on disk, is marked
    with ``# TODO``.

    Parameters
    ----------
    provenance : dict
        Of an `Attribution`, or the JSON beside a saved map.
    output : str

    Raises
    ------
    MethodError
        If the record is of no method of this package, or was changed.
    """
    provenance = _complete(provenance, "class_name", "scan", "model")
    method = method_of(provenance)
    lines = ["import napari_cnnvis as cv", ""]
    scans = [provenance["scan"], *provenance["scan"].get("other_channels", [])]
    lines += [
        f"{name} = {_read(scan)}" for name, scan in zip(_scan_names(scans), scans, strict=True)
    ]
    lines += _model(provenance["model"])
    volume = "volume" if len(scans) == 1 else f"[{', '.join(_scan_names(scans))}]"
    arguments = ["model", volume]
    if method == "sensitivity":
        lines.append(f"hierarchy = {_hierarchy(provenance.get('hierarchy') or {})}")
        arguments.append("hierarchy")
    arguments.append(f"target={provenance['class_name']!r}")
    for name in _TAKES.get(method, _GRADIENT_TAKES):
        if name in provenance and (name != "score" or provenance[name] in SCORES):
            arguments.append(f"{name}={_value(name, provenance)}")
    if provenance.get("level_counts"):
        arguments.append(f"levels={provenance['level_counts']!r}")
    lines.append(f"result = cv.{_CALLS[method]}(")
    lines += [f"    {argument}," for argument in arguments]
    lines.append(")")
    lines += _view(provenance)
    if provenance.get("partial"):
        lines.append("# the run was stopped early; this script runs it to its end")
    lines.append(f"result.save({output!r})")
    return "\n".join(lines) + "\n"


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
        lines = ["model = cv.load_model(", f"    {model['path']!r},"]
    else:
        lines = ["model = cv.load_model(", '    "net.pt",  # TODO: the checkpoint']
    if model.get("arch"):
        lines.append(f"    arch={model['arch']!r},")
    if model.get("names"):
        lines.append(f"    class_names={model['names']!r},")
    lines.append(f"    input_spec=cv.InputSpec({fields}),")
    if model.get("output"):
        lines.append(f"    output={model['output']!r},")
    lines.append(")")
    return lines


def _hierarchy(origin: dict[str, Any]) -> str:
    if "boundary" in origin:
        return f"cv.build_hierarchy(volume, boundary={origin['boundary']!r}, counts={origin.get('counts')!r})"
    if origin.get("files"):
        files = origin["files"][0] if len(origin["files"]) == 1 else origin["files"]
        return f"cv.Hierarchy.read({files!r}, background={origin.get('background')!r})"
    return 'cv.Hierarchy.load("tree.npz")  # TODO: the regions that were given'


def _value(name: str, provenance: dict[str, Any]) -> str:
    value = provenance[name]
    if name == "inside":
        return "None" if value == "everywhere" else repr(value)
    if name != "baseline":
        return repr(value)
    sources = provenance.get("baseline_sources") or {}
    texts = []
    for one in value:
        if one in sources:
            texts.append(_read_file(sources[one]))
        else:
            texts.append(repr(_plain_baseline(one)))
    return f"[{', '.join(texts)}]"


def _plain_baseline(name: str) -> float | str:
    try:
        value = float(name)
    except ValueError:
        return name
    return value if math.isfinite(value) else name


def _view(provenance: dict[str, Any]) -> list[str]:
    """A view of the run other than that which the call gives by itself."""
    if "shown" not in provenance and not provenance.get("level_weights"):
        return []
    given = [f"target={provenance['class_name']!r}"]
    if "quantity" in provenance:
        given.append(f"quantity={provenance['quantity']!r}")
    if provenance.get("score") in SCORES:
        given.append(f"score={provenance['score']!r}")
    if "shown" in provenance:
        given.append(f"baseline={provenance['shown']!r}")
    if "join" in provenance:
        given.append(f"join={provenance['join']!r}")
    if provenance.get("smooth"):
        given.append(f"smooth={provenance['smooth']!r}")
    if provenance.get("level_weights"):
        given.append(f"level_weights={provenance['level_weights']!r}")
    return [f"result = cv.remap(result, {', '.join(given)})"]
