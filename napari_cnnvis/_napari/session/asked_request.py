"""Which method is asked for: what a form says, or said last."""

from __future__ import annotations

import contextlib
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_cnnvis._napari.widgets.preferences import preference
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.request import ExplainRequest

__all__ = ["AskedRequest"]

#: milliseconds of quiet after a choice in the form before others hear of it
_QUIET = 300


class AskedRequest(QObject):
    """Takes the request from a form while there is one."""

    #: another method or parameter was chosen
    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._forms: list[Any] = []
        #: what counts while there is no form
        self.last: ExplainRequest | None = None
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(_QUIET)
        self._quiet.timeout.connect(self.changed)

    @property
    def form(self) -> Any:
        """The newest form, or None."""
        return self._forms[-1] if self._forms else None

    @property
    def regions_layer(self) -> Any:
        """The Labels layer whose regions are to be occluded, or None."""
        return None if self.form is None else self.form.hierarchy.layer

    @property
    def settling(self) -> bool:
        """Whether something was chosen just now, and `changed` is yet to come."""
        return self._quiet.isActive()

    def request(self) -> ExplainRequest:
        """The method and its parameters: of the form, or the last ones, or the Preferences'.

        Raises
        ------
        CnnVisError
            If what the form says does not fit together.
        """
        if self.form is not None:
            return self.form.request()
        return self.last or ExplainRequest(preference("method"), 0)

    def follow(self, form: Any) -> None:
        """Take the request from a form, a `MethodForm`, until it is left."""
        if form in self._forms:
            return
        self._forms.append(form)
        for signal in _signals_of(form):
            signal.connect(self._quiet.start)

    def leave(self, form: Any) -> None:
        """A form is closed; what it said last still counts."""
        if form not in self._forms:
            return
        self._forms.remove(form)
        with contextlib.suppress(RuntimeError):  # Qt has destroyed it
            with contextlib.suppress(CnnVisError):
                self.last = form.request()
            for signal in _signals_of(form):
                signal.disconnect(self._quiet.start)


def _signals_of(form: Any) -> list[Any]:
    return [form.view_changed, form.head_only_changed, form.method.currentIndexChanged]
