"""What a localisation benchmark runs on, and what a method of it gives."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_cnnvis.evaluate.benchmark.rows import MapFacts
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.volume import Volume

__all__ = ["Case", "Method", "TimedMap"]


@dataclass(frozen=True, eq=False)
class Case:
    """What a method is run on.

    Attributes
    ----------
    model : Model
    volume : Volume
    inside : array of bool, shape of the volume
        The voxels that count.
    target : int
        The class to explain.
    cancel : threading.Event
        When set, methods stop soon; what they then give is not complete.
    """

    model: Model
    volume: Volume
    inside: np.ndarray
    target: int
    cancel: threading.Event


#: a map and what it is
TimedMap = tuple[MapFacts, np.ndarray]


class Method(ABC):
    """A way to get maps from one run. Its fields are its settings, and nothing else counts."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What is being run, as people call it."""

    def applies(self, model: Model, shape: tuple[int, int, int]) -> bool:
        """Whether it can be run on this network."""
        return True

    @abstractmethod
    def maps(self, case: Case) -> Iterator[TimedMap]:
        """The maps, one after the other: shape of the scan, signed, raw."""
