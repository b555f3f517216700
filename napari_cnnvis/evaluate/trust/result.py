"""What is known of whether a map is true."""

from __future__ import annotations

from pathlib import Path

from napari_cnnvis.evaluate.trust.files import save_report
from napari_cnnvis.evaluate.trust.measured import Measured

__all__ = ["TrustReport"]


class TrustReport(Measured):
    """What is known of whether a map is true; see `Measured` for its attributes."""

    def __repr__(self) -> str:
        return f"TrustReport({self.attribution.name}: {self.verdict})"

    def save(self, folder: str | Path) -> Path:
        """Write ``trust.json``, ``curves.csv``, ``trust.png`` and ``trust.svg``; see `save_report`."""
        return save_report(self, folder)
