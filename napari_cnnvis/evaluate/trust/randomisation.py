"""Cascading randomisation of a network's parameters: does the map follow the weights?

From the output layer towards the input one layer after the other gets new random
parameters, and the map is computed again (Adebayo et al. 2018, arXiv:1810.03292). A map
that stays as it was shows the scan, not what the network learned.

All of it happens in a copy of the network, so that the weights, buffers, hooks and flags
of the user's own are never touched, whatever happens meanwhile.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.evaluate.trust.similarity import Similarity, compare_maps
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress

__all__ = [
    "Randomisation",
    "RandomisationRow",
    "cascade",
    "copy_of",
    "layers_with_parameters",
    "randomise",
]


@dataclass(frozen=True)
class RandomisationRow:
    """How alike the map stays when the layers from the output down to one are random.

    Attributes
    ----------
    layer : str
        The last layer (nearest to the input) that was made random.
    layers : int
        How many layers are random.
    similarity : Similarity
        Of the map to that of the weights as they are.
    """

    layer: str
    layers: int
    similarity: Similarity

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"layer": self.layer, "layers": self.layers, **self.similarity.to_dict()}


@dataclass(frozen=True)
class Randomisation:
    """The cascade from the output layer to the input.

    Attributes
    ----------
    rows : tuple of RandomisationRow
        From the output layer on; in the last one all layers are random.
    repeats : tuple of Similarity
        Of further networks in which all layers are random.
    n_layers : int
        Layers with parameters.
    """

    rows: tuple[RandomisationRow, ...]
    repeats: tuple[Similarity, ...]
    n_layers: int

    @property
    def remaining(self) -> float:
        """Rank correlation that is left when all layers are random, the mean over the networks.

        The larger of that of the values and of the absolute values counts; a map that has
        become empty has 0.
        """
        ends = [self.rows[-1].similarity, *self.repeats]
        return float(np.mean([end.strongest or 0.0 for end in ends]))

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "remaining": self.remaining,
            "n_layers": self.n_layers,
            "rows": [row.to_dict() for row in self.rows],
            "repeats": [similarity.to_dict() for similarity in self.repeats],
        }


def cascade(
    model: Model,
    map_of: Callable[[Model], np.ndarray | None],
    original: np.ndarray,
    inside: np.ndarray,
    example: torch.Tensor,
    *,
    stages: int = 8,
    repeats: int = 2,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Randomisation | None:
    """Randomise a network's layers from the output on, and compare its maps with the original.

    Parameters
    ----------
    model : Model
    map_of : callable
        Gives a model's map on the grid of `original`, or None if it was cancelled.
    original : array, shape (i, j, k)
        The map of the weights as they are.
    inside : array of bool, same shape
        Where the maps are compared.
    example : Tensor, shape (1, c, i, j, k)
        An input, to see in which order the layers run.
    stages : int
        The map is computed after each of at most so many groups of layers.
    repeats : int
        Networks with all layers random besides the last stage.
    seed : int
        torch's own random state is left as it is.

    Returns
    -------
    Randomisation, or None if cancelled

    Raises
    ------
    MethodError
        If the network cannot be copied or has no parameters.
    ComputeError
        If it cannot run.
    """
    random = copy_of(model)
    names = layers_with_parameters(random, example)[::-1]
    if not names:
        raise MethodError("The network has no parameters that could be made random.")
    groups = np.array_split(np.arange(len(names)), min(max(stages, 1), len(names)))
    total = len(groups) + repeats
    rows, ends = [], []
    for step in range(total):
        last = step >= len(groups)
        chosen = names if last else [names[i] for i in groups[step]]
        randomise(random, chosen, seed + step)
        if cancel is not None and cancel.is_set():
            return None
        found = map_of(random)
        if found is None:
            return None
        alike = compare_maps(original, found, inside)
        if last:
            ends.append(alike)
        else:
            rows.append(RandomisationRow(chosen[-1], int(groups[step][-1]) + 1, alike))
        if progress is not None:
            progress(Progress(step + 1, total, "making layers random"))
    return Randomisation(tuple(rows), tuple(ends), len(names))


def copy_of(model: Model) -> Model:
    """The same model with a network of its own.

    Raises
    ------
    MethodError
        If the network cannot be copied.
    """
    try:
        module = copy.deepcopy(model.module)
    except Exception as exc:  # whatever the network's own code raises
        raise MethodError(
            "The network cannot be copied, so its weights cannot be made random without "
            "changing it; load it from a file with its state_dict."
        ) from exc
    return Model(
        module,
        model.names,
        model.input_spec,
        str(model.device),
        model.architecture,
        output=model.outputs.kind,
        scores=model.scores,
        extra=model.extra,
    )


def layers_with_parameters(model: Model, example: torch.Tensor) -> list[str]:
    """Names of the modules that own parameters, in the order in which they first run.

    Those that are not called themselves come where they were registered.
    """
    owners = {
        name: module
        for name, module in model.module.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    }
    called: dict[str, None] = {}
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.setdefault(name))
        for name, module in owners.items()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        model.logits(example)
    except ComputeError:
        called.clear()  # the order of registration will do
    finally:
        for handle in handles:
            handle.remove()
    order = list(owners)
    if not all(name in called for name in order):
        return order
    return list(called)


def randomise(
    model: Model, names: Collection[str], seed: int, initialisation: str = "default"
) -> None:
    """Give modules new random parameters, in place; torch's random state is left as it is.

    Modules with ``reset_parameters`` are initialised as when they were made, their buffers
    too; parameters of others become normal noise with the deviation that they had.

    Parameters
    ----------
    model : Model
        Its network is changed: give a copy.
    names : collection of str
    seed : int
    initialisation : {"default", "he"}
        "he" then gives weights the deviation of He et al. 2015 (arXiv:1502.01852), which
        keeps a signal's strength from layer to layer, and no bias.
    """
    with _seeded(seed, model.device), torch.no_grad():
        for name in names:
            module = model.module.get_submodule(name)
            reset = getattr(module, "reset_parameters", None)
            own = dict(module.named_parameters(recurse=False))
            try:
                known = callable(reset) and reset() is None
            except Exception:  # it may want arguments
                known = False
            if not known:
                for parameter in own.values():
                    _noise(parameter)
            if initialisation == "he":
                _he(own)


def _noise(parameter: nn.Parameter) -> None:
    if not parameter.is_floating_point():
        return
    spread = float(parameter.float().std()) if parameter.numel() > 1 else 0.0
    mean = float(parameter.float().mean()) if parameter.ndim < 2 else 0.0  # scales stay about 1
    parameter.copy_(torch.randn_like(parameter) * (spread or 0.02) + mean)


def _he(own: dict[str, nn.Parameter]) -> None:
    weights = [p for p in own.values() if p.ndim > 1 and p.is_floating_point()]
    for weight in weights:
        nn.init.kaiming_normal_(weight)
    if weights and own.get("bias") is not None:
        own["bias"].zero_()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
