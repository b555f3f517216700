"""The rows of a localisation benchmark, and the folder in which they are kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.evaluate.localisation import LocalisationScores
from napari_cnnvis.writing import atomic_path

__all__ = ["METRICS", "MapFacts", "RowStore", "ScoreRow", "write_csv"]

#: the scores of a row, and how they are called
METRICS = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "best_dice": "best Dice",
    "mass_accuracy": "mass accuracy",
    "rank_accuracy": "rank accuracy",
    "pointing_hit": "pointing hit",
}


@dataclass(frozen=True)
class MapFacts:
    """What a map is.

    Attributes
    ----------
    method : str
        As people call it, such as "Grad-CAM".
    setting : str
        What else tells it from other maps of the method, such as "blur, mean, margin 6 mm".
    layer : str
        The target layer, "" if it has none.
    recommended : bool
        Whether that is the one that the package recommends.
    cells : str
        Cells of the layer, such as "7 x 7 x 7".
    cell_mm : float
        Side of a cell in mm (geometric mean of the three sides); 0 if there is no layer.
    seconds : float
        What the map took. A map that shares its run with others (Grad-CAM of all layers,
        or baselines and joins) has the time of the whole run.
    """

    method: str
    setting: str = ""
    layer: str = ""
    recommended: bool = False
    cells: str = ""
    cell_mm: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one map against one region of one scan."""

    model: str
    scan: str
    facts: MapFacts
    region: str
    scores: LocalisationScores

    @classmethod
    def header(cls) -> list[str]:
        """The columns of `cells`."""
        names = [field.name for field in fields(MapFacts)]
        return ["model", "scan", *names, "region", *(f.name for f in fields(LocalisationScores))]

    def cells(self) -> list[Any]:
        """The values, plain, in the order of `header`."""
        facts, scores = astuple(self.facts), astuple(self.scores)
        return [self.model, self.scan, *facts, self.region, *scores]


class RowStore:
    """Keeps the rows of each run of a method on a scan in a file of its own.

    A run that was killed goes on where it was: what is here is not computed again.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    CnnVisError
        If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise CnnVisError(
                f"The folder {folder} cannot be made: {exc.strerror or exc}."
            ) from exc

    def get(self, key: str, model: str, scan: str) -> list[ScoreRow] | None:
        """The rows under a key, for a model and a scan of these names; None if there are none."""
        try:
            kept = json.loads((self._folder / f"{key}.json").read_text())
            return [
                ScoreRow(
                    model,
                    scan,
                    MapFacts(**one["facts"]),
                    one["region"],
                    LocalisationScores(**one["scores"]),
                )
                for one in kept
            ]
        except (OSError, ValueError, TypeError, KeyError):
            return None  # not there, or damaged: it is computed again

    def put(self, key: str, rows: Sequence[ScoreRow]) -> None:
        """Keep rows; there are all of them in the file, or it is not there."""
        text = json.dumps(
            [
                {"facts": asdict(r.facts), "region": r.region, "scores": asdict(r.scores)}
                for r in rows
            ]
        )
        with atomic_path(self._folder / f"{key}.json") as temporary:
            temporary.write_text(text)


def write_csv(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Write a table; numbers with six digits.

    Raises
    ------
    VolumeError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for line in lines:
            writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in line])
