"""Ask for files to open and to save; each dialog begins in the folder of the last one."""

from __future__ import annotations

import os
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_cnnvis._napari.widgets.preferences import recall, remember
from napari_cnnvis.errors import VolumeError

__all__ = ["FileDialogs"]


class FileDialogs:
    """The dialogs of one panel.

    Parameters
    ----------
    parent : QWidget
    key : str
        Under which the folder is remembered, also for the next time napari is started.
    """

    def __init__(self, parent: QWidget, key: str) -> None:
        self._parent, self._key = parent, key

    @property
    def folder(self) -> str:
        """Where the next dialog begins; "" for where Qt likes."""
        return recall(self._key)

    def remember(self, folder: str | Path) -> None:
        """Begin the next dialog in this folder."""
        remember(self._key, str(folder))

    def open_file(self, title: str, kinds: str) -> str:
        """The file that was chosen; "" if none was."""
        path, _ = QFileDialog.getOpenFileName(self._parent, title, self.folder, kinds)
        return self._chosen(path)

    def open_files(self, title: str, kinds: str) -> list[str]:
        """The files that were chosen."""
        paths, _ = QFileDialog.getOpenFileNames(self._parent, title, self.folder, kinds)
        return [self._chosen(path) for path in paths]

    def open_folder(self, title: str) -> str:
        """The folder that was chosen; "" if none was."""
        return self._chosen(QFileDialog.getExistingDirectory(self._parent, title, self.folder))

    def save_in(self, title: str) -> str:
        """The folder to save several files in; "" if none was chosen."""
        folder = QFileDialog.getExistingDirectory(self._parent, title, self.folder)
        if folder:
            self.remember(folder)
        return folder

    def save_file(self, title: str, kinds: str, whole: bool = True) -> str:
        """The path to save at, with the ending of its kind; "" if none was chosen.

        The dialog has asked about the file that is there, if any.

        Parameters
        ----------
        title, kinds : str
            As for `QFileDialog.getSaveFileName`.
        whole : bool
            Add the kind's ending to every other one, not only to names without one.

        Raises
        ------
        VolumeError
            If a file is there that the dialog did not ask about, because the ending was added.
        """
        path, kind = QFileDialog.getSaveFileName(self._parent, title, self.folder, kinds)
        ending = kind.rpartition("*")[2].rstrip(")") if "*" in kind else ""
        has_one = path.lower().endswith(ending) if whole else bool(os.path.splitext(path)[1])
        if not path or not ending or has_one:
            return self._chosen(path)
        if os.path.lexists(path + ending):
            raise VolumeError(
                f"{path + ending} exists already. Choose another name, or choose that file itself "
                "to replace it."
            )
        return self._chosen(path + ending)

    def _chosen(self, path: str) -> str:
        if path:
            self.remember(Path(path).parent)
        return path
