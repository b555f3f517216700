"""What the tests of a map measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_cnnvis.evaluate.trust.class_contrast import ClassContrast
from napari_cnnvis.evaluate.trust.deletion import Removal
from napari_cnnvis.evaluate.trust.edges import EdgeControl
from napari_cnnvis.evaluate.trust.network_response import NetworkResponse
from napari_cnnvis.evaluate.trust.randomisation import Randomisation
from napari_cnnvis.evaluate.trust.verdict import Finding
from napari_cnnvis.explain.attribution import Attribution

__all__ = ["Measured"]


@dataclass(frozen=True, eq=False)
class Measured:
    """What the tests of a map measured, and what was found.

    Attributes
    ----------
    verdict : str
        One line in plain words.
    passed : bool or None
        False if a test calls the map out, None if too little could be decided.
    findings : tuple of Finding
        In the order of how much they say.
    attribution : Attribution
        The map that was tested.
    response, edges, contrast, randomisation, removal : or None
        What the tests measured; None for those that were not run.
    notes : tuple of str
        What a reader should know, and why a test was left out.
    provenance : dict
        The map's record under "map", and the settings of the tests.
    partial : bool
        True if the run was cancelled before all tests were done.
    seconds : float
    """

    verdict: str
    passed: bool | None
    findings: tuple[Finding, ...]
    attribution: Attribution
    response: NetworkResponse | None
    edges: EdgeControl | None
    contrast: ClassContrast | None
    randomisation: Randomisation | None
    removal: Removal | None
    notes: tuple[str, ...]
    provenance: dict[str, Any]
    partial: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything but the map, as plain values."""
        measured = ("response", "edges", "contrast", "randomisation", "removal")
        return {
            "verdict": self.verdict,
            "passed": self.passed,
            "partial": self.partial,
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
            **{
                name: None if (value := getattr(self, name)) is None else value.to_dict()
                for name in measured
            },
            "provenance": self.provenance,
            "seconds": round(self.seconds, 2),
        }
