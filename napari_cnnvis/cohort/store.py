"""Results on disk, so that what was computed once is there at once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import platformdirs

from napari_cnnvis.cohort.predictions import Prediction
from napari_cnnvis.errors import CnnVisError, VolumeError
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.writing import atomic_path

__all__ = ["DEFAULT_LIMIT", "ResultStore"]

#: bytes that the results may take
DEFAULT_LIMIT = 5_000_000_000
#: files of a process that died while it wrote are removed after so many seconds
_ABANDONED = 86_400
#: what damaged files raise when they are read
_DAMAGED = (EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_DAMAGED += (zipfile.BadZipFile, zlib.error, struct.error)
Result = TypeVar("Result")


class ResultStore:
    """Predictions and maps in a folder, by the keys of `ResultKeys`.

    Files are written beside their place and moved there, so that several processes can
    share a folder. What cannot be read is removed and counts as absent. When the limit is
    passed, what was not used for longest is removed.

    Parameters
    ----------
    folder : path-like, optional
        By default the folder of the user's caches.
    limit : int
        Bytes.

    Examples
    --------
    >>> from napari_cnnvis.cohort import ResultStore
    >>> ResultStore("results").prediction("0" * 64) is None
    True
    """

    def __init__(self, folder: str | os.PathLike | None = None, limit: int = DEFAULT_LIMIT) -> None:
        cache = platformdirs.user_cache_dir("napari-cnnvis", appauthor=False)
        self.folder = Path(cache) / "results" if folder is None else Path(folder)
        self.limit = limit
        self._lock = threading.Lock()
        self._unseen: float = np.inf  # bytes written since the folder was looked through

    # --- predictions -----------------------------------------------------------------

    def prediction(self, key: str) -> Prediction | None:
        """What is kept under a key, or None."""

        def read(path: Path) -> Prediction:
            kept = json.loads(path.read_text())
            values = np.array(kept["values"], np.float32)
            if values.ndim != 1 or values.size == 0:
                raise ValueError
            return Prediction(values, tuple(map(str, kept["notes"])))

        return self._read(self._place(key, ".json"), read)

    def put_prediction(self, key: str, prediction: Prediction) -> None:
        """Keep a prediction.

        Raises
        ------
        CnnVisError
            If it cannot be written.
        """
        kept = {
            "values": [float(v) for v in prediction.values],
            "notes": list(prediction.notes),
        }
        self._write(self._place(key, ".json"), json.dumps(kept).encode())

    # --- maps --------------------------------------------------------------------------

    def has_attribution(self, key: str) -> bool:
        """Whether there is a map under a key; it may still turn out to be damaged."""
        return self._place(key, ".npz").is_file()

    def attribution(self, key: str, source: Volume) -> Any:
        """The map that is kept under a key, or None.

        Parameters
        ----------
        key : str
        source : Volume
            The scan that it is a map of.

        Returns
        -------
        Attribution or None
            The same values, provenance (as JSON gives it back) and notes as were put
            there; without scores of regions, which are not kept.
        """
        from napari_cnnvis.explain.attribution import Attribution
        from napari_cnnvis.explain.record import Record

        def read(path: Path) -> Attribution:
            with zipfile.ZipFile(path) as archive:
                record = json.loads(archive.read("record.json"))
                data = _array(archive.read("data.npy"))
                native = "native.npy" in archive.namelist()
                cells = _array(archive.read("native.npy")) if native else None
            if data.shape != source.shape or data.dtype != np.float32:
                raise ValueError
            known, notes = Record.read(record["provenance"]), tuple(record["notes"])
            known.values["class_name"]
            return Attribution(
                data, source.affine, known, source, cells, bool(record["partial"]), notes
            )

        return self._read(self._place(key, ".npz"), read)

    def put_attribution(self, key: str, attribution: Any) -> None:
        """Keep a map; see `attribution`.

        Raises
        ------
        CnnVisError
            If it cannot be written.
        """
        record = {
            "provenance": attribution.provenance,
            "partial": attribution.partial,
            "notes": list(attribution.notes),
        }
        arrays = {"data": attribution.data, "native": attribution.native}
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("record.json", json.dumps(record))
            for name, array in arrays.items():
                if array is not None:
                    with archive.open(f"{name}.npy", "w") as file:
                        np.lib.format.write_array(file, np.ascontiguousarray(array), (1, 0), False)
        self._write(self._place(key, ".npz"), content.getvalue())

    # --- the folder ----------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes that the results take."""
        return sum(size for _, size, _ in self._files())

    def clear(self) -> None:
        """Remove every result."""
        for _, _, path in self._files():
            if not path.name.startswith("."):  # being written
                _remove(path)

    def _place(self, key: str, ending: str) -> Path:
        return self.folder / key[:2] / f"{key}{ending}"

    def _read(self, path: Path, read: Callable[[Path], Result]) -> Result | None:
        try:
            result = read(path)
        except OSError:
            return None
        except _DAMAGED:
            _remove(path)
            return None
        with contextlib.suppress(OSError):  # removed meanwhile, or a folder that is not ours
            os.utime(path)  # used just now
        return result

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except (OSError, VolumeError) as exc:
            reason = exc.__cause__ if isinstance(exc, VolumeError) else exc
            raise CnnVisError(
                f"Results cannot be kept in {self.folder}: {getattr(reason, 'strerror', None) or exc}. "
                "Free some space there, or correct its permissions."
            ) from exc
        with self._lock:
            self._unseen += len(content)
            if self._unseen > self.limit / 100:
                self._unseen = 0
                self._trim(path)

    def _trim(self, newest: Path) -> None:
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for used, size, path in files:
            abandoned = path.name.startswith(".")
            if abandoned:
                if time.time() - used / 1e9 > _ABANDONED:
                    _remove(path)
            elif total > self.limit and path != newest:
                _remove(path)
                total -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """When each file was last used, its bytes, and its path."""
        files = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                if not name.endswith((".json", ".npz")):
                    continue
                try:
                    about = path.stat()
                except OSError:  # removed by another process
                    continue
                files.append((about.st_mtime_ns, about.st_size, path))
        return files


def _array(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # open in another process, on Windows
        path.unlink(missing_ok=True)
