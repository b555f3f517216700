"""What a MONAI bundle's preprocessing asks of a scan, in this package's words."""

from __future__ import annotations

from typing import Any

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.models.formats.monai_config import NotPlain, Step
from napari_cnnvis.scan.conform import InputSpec

__all__ = ["input_of", "output_of"]

#: transforms that leave a single scan's values and grid as they are
_HARMLESS = {
    "AddChannel", "AsChannelFirst", "CastToType", "DeleteItems", "EnsureChannelFirst",
    "EnsureType", "Identity", "LoadImage", "SelectItems", "ToDevice", "ToNumpy", "ToTensor",
}  # fmt: skip
_OF_LABELS = ("label", "mask", "seg", "pred")


def input_of(steps: list[Step]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fields of `InputSpec` that transforms amount to, and what has to be said of them.

    Parameters
    ----------
    steps : list of Step
        In the order they are applied.

    Returns
    -------
    fields : dict
        "orientation", "spacing", "shape" where known; "intensity" always.
    notes : tuple of str
        What differs from the transforms, among it the names of those left out.
    """
    fields: dict[str, Any] = {}
    left_out, padded, notes = [], [], []
    for step in steps:
        if step.name in _HARMLESS or _is_for_labels(step):
            continue
        try:
            found, note = _read(step)
            InputSpec(**found)
        except (NotPlain, VolumeError, TypeError, ValueError):
            found, note = {}, ""
        if step.name == "SpatialPad" and "shape" in found:
            padded.append((step.written, found["shape"]))
            continue
        is_there = all(fields.get(name) == value for name, value in found.items())
        if found and is_there and "intensity" not in found:
            continue  # the same once more
        if not found or (fields.keys() & found.keys()) - {"intensity"}:
            left_out.append(step.written)
            continue
        if "intensity" in fields and "intensity" in found:
            found = {"intensity": f"{fields['intensity']}, {found['intensity']}"}
        if "intensity" in fields and found.keys() - {"intensity", "orientation"}:
            notes.append(
                f"the bundle scales intensities before {step.written}; here they are scaled last, so "
                "the network's input differs"
            )
        if "shape" in fields and found.keys() & {"spacing", "orientation"}:
            notes.append(
                f"the bundle crops, pads or resizes before {step.written}; here that comes last, so "
                "the network's input differs"
            )
        if step.name == "CenterSpatialCrop" and any(n % 2 for n in found.get("shape", ())):
            notes.append(
                f"{step.written} to an odd size lies one voxel further along where the scan's is even"
            )
        if "spacing" in found or "resize" in found:
            notes.append(
                f"{step.written} is done with this package's own interpolation, so the network's "
                "input differs a little from the bundle's"
            )
        fields |= found
        notes += [note] * bool(note)
    left_out += [name for name, shape in padded if shape != fields.get("shape")]
    if left_out:
        one = len(left_out) == 1
        notes.append(
            f"the bundle also applies {', '.join(dict.fromkeys(left_out))}, which "
            f"{'is' if one else 'are'} not reproduced"
        )
    return {**fields, "intensity": fields.get("intensity", "none")}, tuple(notes)


def _is_for_labels(step: Step) -> bool:
    try:
        keys = step.get("keys")
    except NotPlain:
        return False
    keys = [keys] if isinstance(keys, str) else keys or []
    return bool(keys) and all(any(word in str(k).lower() for word in _OF_LABELS) for k in keys)


def _read(step: Step) -> tuple[dict[str, Any], str]:
    """The field that a transform sets (empty if it is not understood), and how it differs."""
    reader = _READERS.get(step.name)
    return reader(step) if reader is not None else ({}, "")


def _orientation(step: Step) -> tuple[dict[str, Any], str]:
    if step.get("as_closest_canonical", False):
        return {"orientation": "RAS"}, ""
    codes = step.get("axcodes")
    if step.get("labels") not in (None, [["L", "R"], ["P", "A"], ["I", "S"]]):
        return {}, ""
    return ({"orientation": "".join(codes)}, "") if codes else ({}, "")


def _spacing(step: Step) -> tuple[dict[str, Any], str]:
    spacing = step.get("pixdim")
    if isinstance(spacing, int | float):
        spacing = [spacing]
    if not 1 <= len(spacing) <= 3 or any(isinstance(v, bool) for v in spacing):
        return {}, ""
    return {"spacing": [*spacing, *[spacing[-1]] * (3 - len(spacing))]}, ""


def _size(step: Step, name: str = "spatial_size") -> dict[str, Any]:
    shape = step.get(name)
    if isinstance(shape, int):
        shape = [shape] * 3
    plain = isinstance(shape, list | tuple) and all(type(n) is int and n > 0 for n in shape)
    return {"shape": list(shape)} if plain and len(shape) == 3 else {}


def _pad_or_crop(step: Step) -> tuple[dict[str, Any], str]:
    return (_size(step) if step.is_given(method="symmetric") else {}), ""


def _centre_crop(step: Step) -> tuple[dict[str, Any], str]:
    return _size(step, "roi_size"), ""


def _resize(step: Step) -> tuple[dict[str, Any], str]:
    found = _size(step)
    if not found or not step.is_given(size_mode="all"):
        return {}, ""
    return {**found, "resize": True}, ""


def _normalize(step: Step) -> tuple[dict[str, Any], str]:
    if not step.get("nonzero", False) or not step.is_given(subtrahend=None, divisor=None):
        return {}, ""
    return {"intensity": "z-score-nonzero"}, ""


def _scale(step: Step) -> tuple[dict[str, Any], str]:
    return ({"intensity": "range"} if step.is_given(minv=0, maxv=1) else {}), ""


def _percentiles(step: Step) -> tuple[dict[str, Any], str]:
    given = [step.get(name) for name in ("lower", "upper", "b_min", "b_max")]
    if given != [1, 99, 0, 1] or not step.is_given(relative=False):
        return {}, ""
    note = "" if step.get("clip", False) else "the bundle does not clip intensities to 0..1"
    return {"intensity": "percentile"}, note


def _window(step: Step) -> tuple[dict[str, Any], str]:
    low, high = step.get("a_min"), step.get("a_max")
    if [step.get("b_min", None), step.get("b_max", None)] != [0, 1] or not step.get("clip", False):
        return {}, ""
    return {"intensity": f"window {float(low)!r} {float(high)!r}"}, ""


_READERS = {
    "Orientation": _orientation,
    "Spacing": _spacing,
    "Resize": _resize,
    "ResizeWithPadOrCrop": _pad_or_crop,
    "SpatialPad": _pad_or_crop,
    "CenterSpatialCrop": _centre_crop,
    "NormalizeIntensity": _normalize,
    "ScaleIntensity": _scale,
    "ScaleIntensityRange": _window,
    "ScaleIntensityRangePercentiles": _percentiles,
}


def output_of(steps: list[Step]) -> str | None:
    """What a bundle's postprocessing applies to the outputs: "softmax", "sigmoid" or None."""
    for step in steps:
        for kind in ("softmax", "sigmoid"):
            try:
                if step.name == "Activations" and step.get(kind, False) is True:
                    return kind
            except NotPlain:
                continue
    return None
