"""What a user had to say about a checkpoint that does not say it itself, remembered by its content."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.progress import stop_if_cancelled
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.writing import atomic_path

__all__ = ["Recipe", "file_hash", "remember", "remembered"]

#: bytes that are read at once
_PIECE = 1 << 22


@dataclass(frozen=True)
class Recipe:
    """How to take a checkpoint; None or "" where the file itself is to say it.

    Attributes
    ----------
    arch : str
        As for `load_model`.
    arch_by_user : bool
        The user typed it just now; False for what was remembered or stands in a map's
        record, which then may name listed networks only. Never kept.
    class_names : tuple of str
    output : str
        "softmax", "sigmoid", "regression" or "".
    input_spec : InputSpec or None
    scores : str
        Which part of the network's output is the scores.
    extra : dict
        Further arguments of the network.
    more_files : tuple of str
        Other files with weights of the same network.
    """

    arch: str = ""
    class_names: tuple[str, ...] = ()
    output: str = ""
    input_spec: InputSpec | None = None
    arch_by_user: bool = False
    scores: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    more_files: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Recipe:
        """The recipe of plain values, such as `to_dict` gives.

        Raises
        ------
        TypeError, ValueError, VolumeError
            If they are none.
        """
        spec = stored.get("input_spec")
        return cls(
            arch=str(stored.get("arch", "")),
            class_names=tuple(map(str, stored.get("class_names", ()))),
            output=str(stored.get("output", "")),
            input_spec=None if spec is None else InputSpec(**spec),
            scores=str(stored.get("scores", "")),
            extra=dict(stored.get("extra", {})),
            more_files=tuple(map(str, stored.get("more_files", ()))),
        )

    def to_dict(self) -> dict[str, Any]:
        """What is kept, as plain values."""
        return {
            "arch": self.arch,
            "class_names": self.class_names,
            "output": self.output,
            "input_spec": None if self.input_spec is None else self.input_spec.to_dict(),
            "scores": self.scores,
            "extra": self.extra,
            "more_files": self.more_files,
        }


def file_hash(path: Path, cancel: threading.Event | None = None) -> str:
    """SHA-256 of a checkpoint's content (first 32 hex digits); of a folder: of its files' names and sizes.

    Parameters
    ----------
    path : Path
        A plain file, or the folder of a MONAI bundle or a ClinicaDL MAPS.
    cancel : threading.Event, optional

    Raises
    ------
    CheckpointError
        If it is none of these.
    Cancelled
        When it was cancelled.
    """
    from napari_cnnvis.models.formats.read import check_kind, parts_of

    digest = hashlib.sha256()
    if check_kind(path).is_dir():
        for part in parts_of(path):
            about = part.stat()
            digest.update(
                f"{part.relative_to(path)} {about.st_size} {about.st_mtime_ns}\n".encode()
            )
        return digest.hexdigest()[:32]
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            stop_if_cancelled(cancel, f"Loading {path.name}")
            digest.update(piece)
    return digest.hexdigest()[:32]


def remembered(digest: str) -> Recipe:
    """What was remembered for a file of this hash; an empty recipe if nothing was."""
    try:
        stored = json.loads(_place(digest).read_text())
        return Recipe.from_dict(stored)
    except (OSError, ValueError, TypeError, AttributeError, VolumeError):
        return Recipe()


def remember(digest: str, recipe: Recipe) -> None:
    """Keep a recipe for the next time; where nothing can be written, nothing is kept."""
    place = _place(digest)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(place) as temporary:
            temporary.write_text(json.dumps(recipe.to_dict(), indent=2) + "\n")
    except (OSError, VolumeError):
        return


def _place(digest: str) -> Path:
    folder = Path(platformdirs.user_config_dir("napari-cnnvis", appauthor=False))
    return folder / "checkpoints" / f"{digest}.json"
