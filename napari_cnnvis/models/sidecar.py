"""The JSON beside a checkpoint that says what the checkpoint does not."""

from __future__ import annotations

import json
from dataclasses import replace

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile, check_header

__all__ = ["with_sidecar"]


def with_sidecar(file: CheckpointFile) -> CheckpointFile:
    """The file with its header completed by the JSON beside it with its name, if there is one."""
    sidecar = file.path.with_suffix(".json")
    if file.path.is_dir() or not sidecar.is_file():
        return file
    try:
        header = check_header(json.loads(sidecar.read_text()), sidecar)
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(
            f"{sidecar}, which goes with {file.path.name}, is not readable JSON ({exc}); correct or "
            "remove it."
        ) from exc
    return replace(
        file,
        header={**header, **file.header},
        notes=(*file.notes, f"completed by {sidecar.name}"),
    )
