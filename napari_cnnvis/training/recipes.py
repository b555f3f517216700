"""How a network is trained: the published protocol, and a modern one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from napari_cnnvis.errors import MethodError

__all__ = ["PRECISIONS", "RECIPES", "Recipe", "make_recipe"]

#: what networks compute in; "mixed" is float16 on a GPU and bfloat16 on a CPU
PRECISIONS = ("single", "mixed")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    name : str
        "paper" or "modern".
    optimiser : {"adam", "sgd", "adamw"}
        "sgd" has Nesterov momentum 0.9.
    rate : float
        The learning rate, or its peak.
    batch, epochs : int
    one_cycle : bool
        The rate rises for a quarter of the steps and falls to 0 [1]_; else it is constant.
    weight_decay : float
    initialise : bool
        Orthogonal weights scaled to outputs of variance 1, layer by layer (LSUV [2]_).
    normalise : bool
        Normalisation while training that is folded into the layers at the end: after
        the convolutions of a network that has none, and before the last layer of one
        with global average pooling. The network that is saved has its usual layers.
    augment : bool
        Random left-right flips, small rotations, scalings and shifts, and changes of
        contrast, brightness and noise, on the device.
    validation : float
        Share of the training scans that is kept to choose the best epoch, to stop early
        and to calibrate; 0 trains to the last epoch.
    patience : int
        Epochs without a better validation loss before training stops.
    refit : bool
        Refit the last layer at the end by logistic regression, if that lowers the
        validation loss.
    calibrate : bool
        A temperature and a bias of each class, found on the validation scans [3]_ and
        folded into the last layer.

    References
    ----------
    .. [1] L. N. Smith, N. Topin, "Super-convergence", arXiv:1708.07120, 2017.
    .. [2] D. Mishkin, J. Matas, "All you need is a good init", arXiv:1511.06422, 2015.
    .. [3] C. Guo et al., "On calibration of modern neural networks",
       arXiv:1706.04599, 2017.
    """

    name: str
    optimiser: str
    rate: float
    batch: int
    epochs: int
    one_cycle: bool = False
    weight_decay: float = 0.0
    initialise: bool = False
    normalise: bool = False
    augment: bool = False
    validation: float = 0.0
    patience: int = 0
    refit: bool = False
    calibrate: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("epochs", 1), ("patience", 0)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise MethodError(f"{name} is {getattr(self, name)!r}; give {least} or more.")
        if not self.rate > 0:
            raise MethodError(f"The learning rate is {self.rate!r}; give a number above 0.")
        if not 0 <= self.validation < 1:
            raise MethodError(
                f"The share of scans to validate on is {self.validation!r}; give 0 to below 1."
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def _paper(architecture: str) -> Recipe:
    """Korolev et al. (arXiv:1701.06643): VoxVGG and plain networks by Adam, others by SGD."""
    if architecture == "VoxVGG":
        return Recipe("paper", "adam", rate=2.7e-5, batch=5, epochs=150)
    return Recipe("paper", "sgd", rate=1e-3, batch=3, epochs=70)


def _modern(_: str) -> Recipe:
    return Recipe(
        "modern",
        "adamw",
        rate=1e-3,
        batch=4,
        epochs=40,
        one_cycle=True,
        weight_decay=0.01,
        initialise=True,
        normalise=True,
        augment=True,
        validation=0.15,
        patience=10,
        refit=True,
        calibrate=True,
    )


#: recipes by name: callables that take the name of the architecture
RECIPES = {"paper": _paper, "modern": _modern}


def make_recipe(name: str, architecture: str, **changes: Any) -> Recipe:
    """A recipe for an architecture, with some of its values changed (None: as it is).

    Raises
    ------
    MethodError
        If there is no such recipe or value, or a value is impossible.
    """
    if name not in RECIPES:
        raise MethodError(f"There is no recipe '{name}'; those are {', '.join(RECIPES)}.")
    unknown = set(changes) - {field.name for field in fields(Recipe)}
    if unknown:
        raise MethodError(f"A recipe has no {', '.join(sorted(unknown))}.")
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(RECIPES[name](architecture), **given)
