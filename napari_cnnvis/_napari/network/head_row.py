"""The head of the scan: found in it, or a mask of the user's own; and what it looks like."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QSizePolicy, QWidget
from superqt.utils import signals_blocked

from napari_cnnvis._napari.layers.heads import head_arguments
from napari_cnnvis._napari.layers.place import lies_on_grid
from napari_cnnvis._napari.session.scan_heads import HeadFile, KnownHead
from napari_cnnvis._napari.session.session import Session
from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis.scan.volume import HEAD_FOUND

__all__ = ["HeadRow"]

_KINDS = "Masks (*.nii *.nii.gz *.mgz *.mgh);;All files (*)"
_TIP = (
    "Which voxels are the head: supervoxels and boxes stay inside it, and occluded voxels are filled "
    "from it. It is found in the scan; or take a mask of your own that is not 0 inside the head: a "
    "Labels layer on the scan's grid, or a file."
)
_SHOW_TIP = (
    "Show the head on the scan, as a layer. To correct it, duplicate that layer, edit the copy and "
    "choose the copy in this row."
)


class _HeadPicker(QComboBox):
    """Lists the heads that the session's scan can have; which one is chosen, the session knows."""

    file_wanted = Signal()

    def __init__(self, viewer: Any, session: Session) -> None:
        super().__init__()
        self._layers, self._session = viewer.layers, session
        #: the layer that only shows the head
        self.shown: Any = None
        events = viewer.layers.events
        self._sources = [events.inserted, events.removed, events.reordered, events.renamed]
        for source in self._sources:
            source.connect(self.refresh)
        session.scan_changed.connect(self.refresh)
        session.heads.changed.connect(self._on_changed)
        self.activated.connect(self._on_activated)
        self.refresh()

    def disconnect_viewer(self) -> None:
        """Stop following the layer list."""
        for source in self._sources:
            source.disconnect(self.refresh)
        self._sources = []

    def showPopup(self) -> None:
        """List what there is now; layers may have been moved."""
        self.refresh()
        super().showPopup()

    def refresh(self, event: Any = None) -> None:
        """List what can be chosen, and show what is."""
        scan = self._session.scan
        choice = self._session.heads.choice(scan)
        listed = [(HEAD_FOUND, None)]
        if scan is not None:
            fitting = [layer for layer in self._layers if lies_on_grid(layer, scan)]
            listed += [(layer.name, layer) for layer in fitting if layer != self.shown]
        if isinstance(choice, HeadFile):
            listed.append((f"{choice.name} (file)", choice))
        with signals_blocked(self):
            self.clear()
            for text, one in listed:
                self.addItem(text, one)
            self.addItem("from a file…")
            chosen = [number for number, (_, one) in enumerate(listed) if one == choice]
            self.setCurrentIndex(chosen[0] if chosen else 0)

    def _on_changed(self, scan: Any) -> None:
        if scan == self._session.scan:
            self.refresh()

    def _on_activated(self, index: int) -> None:
        wants_file, chosen = index == self.count() - 1, self.itemData(index)
        self.refresh()  # until a mask is read, nothing has changed
        if self._session.scan is None:
            return
        if wants_file:
            self.file_wanted.emit()
        else:
            self._session.heads.choose(self._session.scan, chosen)


class HeadRow(QWidget):
    """Chooses the head of the session's scan, and shows it as a layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    session : Session

    Attributes
    ----------
    picker : QComboBox
    show_button : QCheckBox
    layer : layer or None
        The one that shows the head.
    """

    def __init__(self, viewer: Any, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._session = viewer, session
        self._dialogs = FileDialogs(self, "head folder")
        self.layer: Any = None
        self.picker = _HeadPicker(viewer, session)
        self.picker.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.picker.setMinimumWidth(90)
        self.show_button = QCheckBox("Show")
        self.show_button.setToolTip(f"<p>{_SHOW_TIP}</p>")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.picker, 1)
        row.addWidget(self.show_button)
        self._describe("")
        self.picker.file_wanted.connect(self._ask_file)
        self.show_button.toggled.connect(self._on_show)
        session.scan_changed.connect(self._on_scan)
        session.heads.changed.connect(self._on_head)
        session.heads.known.connect(self._on_known)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._on_removed)
        self.destroyed.connect(lambda: self.disconnect_viewer())

    def disconnect_viewer(self) -> None:
        """Stop following the layer list."""
        self.picker.disconnect_viewer()
        self._removed.disconnect(self._on_removed)

    def _ask_file(self) -> None:
        path = self._dialogs.open_file("Open a head mask", _KINDS)
        if path and self._session.scan is not None:
            self._session.heads.open(self._session.scan, path)

    # --- what is shown ---------------------------------------------------------------

    def _on_show(self, wanted: bool) -> None:
        if not wanted:
            self._remove()
        elif self._session.scan is None:
            self.show_button.setChecked(False)
        else:
            self._session.heads.look(self._session.scan)

    def _on_scan(self) -> None:
        """The session has another scan: the head that is shown goes there."""
        self._describe("")
        if self.show_button.isChecked():
            self._remove()
            self._on_show(True)

    def _on_head(self, scan: Any) -> None:
        if scan == self._session.scan:
            self._describe("")
            if self.show_button.isChecked():
                self._session.heads.look(scan)

    def _on_known(self, known: KnownHead) -> None:
        if known.scan != self._session.scan:
            return
        self._describe(known.text)
        if self.show_button.isChecked():
            self._put(known)
            self._session.said.emit(known.text)

    def _put(self, known: KnownHead) -> None:
        arguments = head_arguments(known.mask, known.scan)
        if self.layer is not None:
            self.layer.data = arguments["data"]
            return
        selected = set(self._viewer.layers.selection)
        self.layer = self._viewer.add_labels(**arguments)
        self.layer.editable = False
        self.picker.shown = self.layer
        self.picker.refresh()
        self._viewer.layers.selection = selected

    def _remove(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        """The layer was removed by hand."""
        if self.layer is not None and event.value == self.layer:
            self.layer = None
            self.show_button.setChecked(False)

    def _describe(self, text: str) -> None:
        self.picker.setToolTip(f"<p>{text}</p><p>{_TIP}</p>" if text else f"<p>{_TIP}</p>")
