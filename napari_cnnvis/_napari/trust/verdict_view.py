"""The verdict on a map: one line in large words, and what each test found."""

from __future__ import annotations

from html import escape
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QGroupBox, QLabel, QVBoxLayout, QWidget

__all__ = ["VerdictBox"]

#: sign and colour of passed, failed and undecided; readable on dark and on light
_SIGNS = {True: ("✔", "#2fa35a"), False: ("✘", "#e0512f"), None: ("?", "#cc8d1a")}
_GREY = "#8a8a8a"


class VerdictBox(QGroupBox):
    """Shows a `TrustReport` in words."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Verdict", parent)
        self.verdict = QLabel()
        self.said = QLabel()
        self.findings: list[QLabel] = []
        for label in (self.verdict, self.said):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._rows = QGridLayout()
        self._rows.setColumnStretch(1, 1)
        self._rows.setHorizontalSpacing(8)
        column = QVBoxLayout(self)
        column.addWidget(self.verdict)
        column.addLayout(self._rows)
        column.addWidget(self.said)

    def show_hint(self, text: str) -> None:
        """Show no report, and what to do for one."""
        self._clear()
        self.verdict.setText(text)
        self.said.hide()

    def show_report(self, report: Any, stale: bool) -> None:
        """Show a report; a stale one, of an earlier map in the same layer, in grey."""
        self._clear()
        sign, colour = _SIGNS[report.passed]
        colour = _GREY if stale else colour
        self.verdict.setText(
            f"<span style='font-size:x-large; font-weight:600; color:{colour}'>{sign}&nbsp;</span>"
            f"<span style='font-size:large; font-weight:600; color:{colour}'>"
            f"{escape(report.verdict)}</span>"
        )
        for finding in report.findings:
            self._add(finding, stale)
        notes = list(report.notes)
        if report.partial:
            notes.insert(0, "Stopped before all tests were done.")
        if stale:
            notes.insert(0, "⚠ The map was changed after this test; test it again.")
        self.said.setText(" ".join(notes))
        self.said.setVisible(bool(notes))

    def _add(self, finding: Any, stale: bool) -> None:
        sign, colour = _SIGNS[finding.passed]
        icon = QLabel(f"<b style='color:{_GREY if stale else colour}'>{sign}</b>")
        text = QLabel(f"<b>{escape(finding.title)}.</b> {escape(finding.sentence)}")
        text.setWordWrap(True)
        for label in (icon, text):
            label.setToolTip(f"<p>{escape(finding.how)}</p>")  # a paragraph, so that it wraps
        row = len(self.findings)
        top = Qt.AlignmentFlag.AlignTop
        self._rows.addWidget(icon, row, 0, top)
        self._rows.addWidget(text, row, 1, top)
        self.findings.append(text)

    def _clear(self) -> None:
        while (item := self._rows.takeAt(0)) is not None:
            item.widget().hide()
            item.widget().deleteLater()
        self.findings = []
