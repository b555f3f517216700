"""Ask where to save; the dialog has asked about the file that is there, if any."""

from __future__ import annotations

import os

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_cnnvis.errors import VolumeError

__all__ = ["ask_target"]


def ask_target(parent: QWidget, title: str, folder: str, kinds: str, whole: bool = True) -> str:
    """The path that was chosen, with the ending of its kind; "" if none was.

    Parameters
    ----------
    parent, title, folder, kinds
        As for `QFileDialog.getSaveFileName`.
    whole : bool
        Add the kind's ending to every other one, not only to names without one.

    Raises
    ------
    VolumeError
        If a file is there that the dialog did not ask about, because the ending was added.
    """
    path, kind = QFileDialog.getSaveFileName(parent, title, folder, kinds)
    ending = kind.rpartition("*")[2].rstrip(")") if "*" in kind else ""
    has_one = path.lower().endswith(ending) if whole else bool(os.path.splitext(path)[1])
    if not path or not ending or has_one:
        return path
    if os.path.lexists(path + ending):
        raise VolumeError(
            f"{path + ending} exists already. Choose another name, or choose that file itself to "
            "replace it."
        )
    return path + ending
