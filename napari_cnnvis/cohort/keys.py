"""Under which keys results are kept: what a scan, a model and a request hold, not what they are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.reading import source_file
from napari_cnnvis.scan.opening import files_of
from napari_cnnvis.scan.volume import Volume

__all__ = ["ResultKeys", "scan_hash"]


def scan_hash(path: Path) -> str:
    """SHA-256 of a scan's file, or of all files of a pair (32 hex digits).

    A file that was not written to since it was last asked for is not read again.

    Raises
    ------
    VolumeError
        If it cannot be read.
    """
    name, number = source_file(str(path))
    try:
        about = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files_of(Path(name))]
        return _digest([_content_hash(*one) for one in about] + [number] * (number is not None))
    except OSError as exc:
        raise VolumeError(f"{path} cannot be read: {exc.strerror or exc}.") from exc


@lru_cache(maxsize=100_000)
def _content_hash(path: str, size: int, written: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


#: what a table says of a scan, by column
Columns = Sequence[tuple[str, str]]


class ResultKeys:
    """Keys of a model's results.

    They follow from the weights, the architecture, the input and the classes; the
    model's file, its name and the device do not count. The package's version does, so
    that results of other code are not taken.

    Parameters
    ----------
    model : Model
        As it is now: make new keys after its weights were changed.
    """

    def __init__(self, model: Any) -> None:
        self._class_index, self._for_row = model.class_index, model.for_row
        self._extra = model.extra
        code = getattr(model.module, "code", "")
        self._model = _digest(
            {
                "version": version("napari-cnnvis"),
                "weights": model.weights_hash(),
                "architecture": [model.architecture, model.arch, str(model.module)],
                "code": code if isinstance(code, str) else "",
                "input": model.input_spec.to_dict(),
                "output": model.outputs.kind,
                "classes": list(model.class_names),
                "reading": [model.scores, model.extra] if model.scores or model.extra else [],
            }
        )

    def prediction(self, scan: str, columns: Columns = ()) -> str:
        """Key of the prediction for a scan of this hash, with these columns in its table."""
        return _digest(["prediction", self._model, scan, *self._of_row(columns)])

    def _of_row(self, columns: Columns) -> list[Any]:
        """Further arguments of the network that are the scan's own."""
        row = self._for_row(dict(columns))
        return [] if row.extra == self._extra else [row.extra]

    def attribution(
        self,
        scan: str,
        request: ExplainRequest,
        orientation: str | None = None,
        head: np.ndarray | None = None,
        columns: Columns = (),
    ) -> str:
        """Key of the map for a scan of this hash.

        Parameters
        ----------
        scan : str
        request : ExplainRequest
            Every parameter counts; a class counts as the same by index and by name.
        orientation : str, optional
            The axes that the map lies on, if not the file's.
        head : array of bool, optional
            The scan's head mask, if it carries one.
        columns : sequence of (str, str), optional
            What the study's table says of the scan.

        Raises
        ------
        MethodError
            If the model has no such class, or all layers are asked for at once.
        """
        how = request.how
        if getattr(how, "layer", None) == "all":
            raise MethodError("One map a scan can be kept; choose one layer.")
        values = {name: getattr(how, name) for name in how.parameters()}
        parts = {name: _plain(value) for name, value in values.items()}
        parts |= {"method": how.key, "target": self._class_index(request.target)}
        own = [] if head is None else [_hash(head)]
        return _digest(["map", self._model, scan, parts, orientation, *own, *self._of_row(columns)])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Volume):
        digest = hashlib.sha256(np.ascontiguousarray(value.data))
        digest.update(value.affine.tobytes())
        place = [value.data.shape, value.orientation_known, value.stored_orientation]
        return {"volume": digest.hexdigest(), "place": place, "name": value.name}
    return value.item() if isinstance(value, np.generic) else value


def _hash(mask: np.ndarray) -> list[Any]:
    return [mask.shape, hashlib.sha256(np.ascontiguousarray(mask)).hexdigest()]


def _digest(parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
