"""What a MONAI bundle's preprocessing asks of a scan: the same steps, in the same order."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, fields
from typing import Any

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.models.formats.monai_config import NotPlain, Step
from napari_cnnvis.scan.steps.grids import Orientation
from napari_cnnvis.scan.steps.step import InputStep
from napari_cnnvis.scan.steps.text import INPUT_STEPS

__all__ = ["input_of", "output_of"]

#: transforms that leave a scan's values and grid as they are
_HARMLESS = {
    "AddChannel", "AsChannelFirst", "CastToType", "ConcatItems", "DeleteItems",
    "EnsureChannelFirst", "EnsureType", "Identity", "SelectItems", "ToDevice", "ToNumpy", "ToTensor",
}  # fmt: skip
#: arguments that change nothing of a single scan
_UNIMPORTANT = {
    "allow_missing_keys", "end_coord_key", "ensure_same_shape", "start_coord_key",
}  # fmt: skip
#: arguments of MONAI that a step may have only with these values, as if they were not there
_LEFT_OUT: dict[str, dict[str, tuple[Any, ...]]] = {
    "Orientation": {"labels": (None, [["L", "R"], ["P", "A"], ["I", "S"]])},
    "Spacing": {
        "diagonal": (False,), "scale_extent": (False,), "recompute_affine": (False,),
        "min_pixdim": (None,), "max_pixdim": (None,),
    },
    "ClipIntensityPercentiles": {"sharpness_factor": (None,), "return_clipping_values": (False,)},
    "CropForeground": {"return_coords": (False,)},
}  # fmt: skip
_FLOAT = re.compile(r"(\$\s*)?((np|numpy|torch)\.)?float(32|64)?")
_ABOVE = re.compile(r"\$\s*lambda\s+(\w+)\s*:\s*\1\s*>\s*(-?[\d.]+(?:e-?\d+)?)\s*")
_OF_LABELS = ("label", "mask", "seg", "pred")


class _NotReproduced(Exception):
    """A transform, or one of its arguments, that is none of this package's steps."""


def input_of(steps: list[Step]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fields of `InputSpec` that transforms amount to, and what has to be said of them.

    Parameters
    ----------
    steps : list of Step
        In the order they are applied.

    Returns
    -------
    fields : dict
        "steps" as text where there are any; "intensity" always.
    notes : tuple of str
        What differs from the transforms, among it the names of those left out.
    """
    found: list[InputStep] = []
    left_out: list[str] = []
    notes: list[str] = []
    for step in steps:
        if _is_for_labels(step):
            continue
        try:
            if step.get("lazy", False):  # steps after it would be resampled together with it
                left_out.append(f"{step.written}(lazy=True)")
            found += _read(step, notes)
        except (_NotReproduced, NotPlain, VolumeError, TypeError, ValueError):
            left_out.append(step.written)
    if left_out:
        one = len(left_out) == 1
        notes.append(
            f"the bundle also applies {_few(left_out)}, which {'is' if one else 'are'} not reproduced"
        )
    texts = {"steps": [str(step) for step in found]} if found else {}
    return {**texts, "intensity": "none"}, tuple(notes)


def _few(names: list[str]) -> str:
    different = list(dict.fromkeys(names))
    more = len(different) - 8
    return ", ".join(different[:8]) + (f" and {more} more" if more > 0 else "")


def _is_for_labels(step: Step) -> bool:
    keys = _keys(step)
    return bool(keys) and not _images(keys)


def _keys(step: Step) -> list[str]:
    try:
        keys = step.get("keys")
    except NotPlain:
        return []
    return [keys] if isinstance(keys, str) else [str(key) for key in keys or []]


def _images(keys: list[str]) -> list[int]:
    """The places of the keys that are no labels."""
    return [n for n, key in enumerate(keys) if not any(word in key.lower() for word in _OF_LABELS)]


def _read(step: Step, notes: list[str]) -> list[InputStep]:
    """What a transform does; nothing for one that only loads or converts."""
    arguments = _Arguments(step)
    if step.name == "LoadImage":
        arguments.check_type("dtype")
        if arguments.get("reverse_indexing", False):
            raise _NotReproduced
        return [Orientation("RAS")] if arguments.get("as_closest_canonical", False) else []
    if step.name in _HARMLESS:
        arguments.check_type("dtype")
        return []
    kind = INPUT_STEPS.get(step.name)
    if kind is None:
        raise _NotReproduced
    given: dict[str, Any] = {}
    if step.name == "Orientation" and arguments.get("as_closest_canonical", False):
        return [Orientation("RAS")]
    if step.name == "CropForeground":
        given, said = _foreground(step, arguments)
        notes += said
    elif step.name == "Spacing" and "dtype" in step.arguments:
        given["dtype"] = arguments.float_type("dtype")
    else:
        arguments.check_type("dtype")
    arguments.forget(
        "lazy", "dtype", "as_closest_canonical", "select_fn", "source_key", "constant_values"
    )
    for name in arguments.left():
        value = arguments.get(name)
        if name in (one.name for one in fields(kind)):
            given.setdefault(name, value)
        elif value not in _LEFT_OUT.get(step.name, {}).get(name, ()):
            raise _NotReproduced
    if "constant_values" in step.arguments:
        given["value"] = arguments.get("constant_values")
    if len(arguments.images) > 1 and "channel_wise" in (one.name for one in fields(kind)):
        given["channel_wise"] = True  # each key is a scan of its own
    return [kind(**given)]


def _foreground(step: Step, arguments: _Arguments) -> tuple[dict[str, Any], list[str]]:
    """What CropForeground is given, and what is assumed of it."""
    given: dict[str, Any] = {}
    source = step.get("source_key")
    keys = [_keys(step)[n] for n in arguments.images]
    if source is not None and source not in keys:
        raise _NotReproduced
    if len(keys) > 1:
        given["channel_indices"] = keys.index(source)
    select = step.arguments.get("select_fn")
    if select is not None:
        above = _ABOVE.fullmatch(str(select))
        if above is None:
            raise _NotReproduced
        given["threshold"] = float(above[2])
    said = []
    if "allow_smaller" not in step.arguments and any(_each(step.get("margin", 0))):
        said.append(
            f"{step.written} has a margin: it goes beyond the scan's edge as in MONAI 1.5 and later "
            "(allow_smaller=False)"
        )
    return given, said


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


@dataclass
class _Arguments:
    """A transform's arguments for the scan, where there may be a list with one for each key."""

    step: Step
    done: set[str] = dataclasses.field(default_factory=lambda: {"keys", *_UNIMPORTANT})

    @property
    def images(self) -> list[int]:
        return _images(_keys(self.step))

    #: those that MONAI's dictionary transforms take for each key
    _OF_KEYS = ("mode", "padding_mode", "align_corners", "dtype", "anti_aliasing")

    def left(self) -> list[str]:
        """Names that were not dealt with."""
        names = [n for n in self.step.arguments if not n.startswith("_")]
        return [name for name in names if name not in self.done]

    def forget(self, *names: str) -> None:
        """These are dealt with."""
        self.done |= set(names)

    def get(self, name: str, default: Any = None) -> Any:
        """The value for the scans.

        Raises
        ------
        _NotReproduced
            If it differs between them.
        """
        return self._one(name, self.step.get(name, default))

    def _one(self, name: str, value: Any) -> Any:
        if name not in self._OF_KEYS or not isinstance(value, list | tuple) or not self.images:
            return value
        values = [value[n] for n in self.images]
        if any(v != values[0] for v in values):
            raise _NotReproduced
        return values[0]

    def float_type(self, name: str) -> str:
        """ "float32" or "float64"; code that names one is understood."""
        raw = self._one(name, self.step.arguments.get(name))
        if raw is None:
            return "float32"
        if not isinstance(raw, str) or not _FLOAT.fullmatch(raw.strip()):
            raise _NotReproduced
        return "float64" if raw.strip().endswith("64") else "float32"

    def check_type(self, name: str) -> None:
        """Raise unless values stay floating-point numbers."""
        if name in self.step.arguments:
            self.float_type(name)


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
