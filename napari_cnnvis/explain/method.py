"""What a method is: a frozen dataclass of its parameters, in a file of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from napari_cnnvis.explain.parameter import Parameter, parameters_of
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan

if TYPE_CHECKING:
    from napari_cnnvis.models.layers import NetworkLayers
    from napari_cnnvis.models.model import Model
    from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["Method"]


class Method(ABC):
    """A way to explain a network's score; an instance holds the values of its parameters.

    A method is one file: a frozen dataclass that inherits from this class, whose fields are
    made by `napari_cnnvis.explain.parameter.parameter`. The panel's form, the options of the
    command line, the record of a map, "Copy as Python", the keys of a cohort's results and
    the page "How to read it" follow from it. Other packages add methods by the entry-point
    group ``napari_cnnvis.methods``.

    Attributes
    ----------
    key : str
        What it is called in Python and on the command line, such as "grad-cam".
    title : str
        What it is called in the viewer and in records, such as "Grad-CAM".
    tip : str
        One or two sentences on what it does.
    reading : tuple of str
        Paragraphs on how to read its maps, and what to beware of.
    function : str
        The function of `napari_cnnvis` that runs it; empty if only `explain` does.
    occludes : bool
        Whether it replaces voxels by baselines.
    takes_hierarchy : bool
        Whether it runs on the regions of a hierarchy.
    place : int
        Where it stands in lists; small numbers first.

    Raises
    ------
    MethodError
        If a parameter cannot have its value.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> method = cv.methods()["grad-cam"]
    >>> method.title, method(relu=False).relu
    ('Grad-CAM', False)
    """

    key: ClassVar[str] = ""
    title: ClassVar[str] = ""
    tip: ClassVar[str] = ""
    reading: ClassVar[tuple[str, ...]] = ()
    function: ClassVar[str] = ""
    occludes: ClassVar[bool] = False
    takes_hierarchy: ClassVar[bool] = False
    place: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        for name, parameter in self.parameters().items():
            object.__setattr__(self, name, parameter.checked(getattr(self, name)))

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """What it can be told, by name and in the order of a form."""
        return _parameters(cls)

    @classmethod
    def why_not(cls, layers: NetworkLayers) -> str:
        """Why it does not apply to a network with these layers; empty if it does."""
        return ""

    @abstractmethod
    def run(
        self,
        model: Model,
        volume: Scan,
        target: int | str,
        *,
        hierarchy: Hierarchy | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Any:
        """The map of a class: an `Attribution`, or several by name of the layer.

        Parameters
        ----------
        model : Model
        volume : Volume, or a sequence with one for each input channel
        target : int or str
            The class to explain, by index or name.
        hierarchy : Hierarchy, optional
            The regions, for methods that run on some; built from the volume by default.
        progress : callable, optional
            Called with a `Progress` now and then, with the map so far where there is one.
        cancel : threading.Event, optional
            When set, the run ends with what it has, marked partial.
        """

    def widened(self) -> Method:
        """The method so that one run gives more views than the one that is asked for."""
        return self

    def view(self, target: int | str, outcome: Any, ran: Method, ran_target: int | str) -> Any:
        """The map that is asked for out of a kept run, or None if it takes another run.

        Parameters
        ----------
        target : int or str
            The class that is asked for.
        outcome : Attribution or mapping
            What the kept run gave.
        ran, ran_target
            Method and class of the kept run.
        """
        return outcome if (self, target) == (ran, ran_target) else None

    def replaced(self, **changes: Any) -> Self:
        """The same method with other values of some parameters."""
        return replace(self, **changes)  # type: ignore[type-var]

    def plain(self) -> dict[str, Any]:
        """Its parameters as a record holds them."""
        return {p.stored: p.plain(getattr(self, n)) for n, p in self.parameters().items()}


@cache
def _parameters(method: type[Method]) -> dict[str, Parameter]:
    return parameters_of(method)
