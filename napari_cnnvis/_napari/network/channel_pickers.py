"""Which layers are a network's input channels."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout

from napari_cnnvis._napari.widgets.layer_picker import LayerPicker

__all__ = ["ChannelPickers"]


class ChannelPickers:
    """Rows of a form, one for each input channel beyond the first.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    form : QFormLayout
        Gets the rows.
    changed : Signal
        Emitted when another layer was chosen.
    """

    def __init__(self, viewer: Any, form: QFormLayout, changed: Signal) -> None:
        self._viewer, self._form, self._changed = viewer, form, changed
        self.pickers: list[LayerPicker] = []

    def show_number(self, channels: int) -> None:
        """Ask for so many channels in all."""
        while len(self.pickers) > max(channels - 1, 0):
            picker = self.pickers.pop()
            picker.disconnect_viewer()
            self._form.removeRow(picker)
        while len(self.pickers) < channels - 1:
            picker = LayerPicker(self._viewer)
            number = len(self.pickers) + 2
            picker.setToolTip(
                f"The image layer that is the network's input channel {number}, on the grid of the "
                "scan above."
            )
            picker.layer_changed.connect(self._changed.emit)
            self.pickers.append(picker)
            self._form.insertRow(len(self.pickers), f"Channel {number}", picker)

    @property
    def layers(self) -> list[Any]:
        """The chosen layers; None where none is chosen."""
        return [picker.layer for picker in self.pickers]
