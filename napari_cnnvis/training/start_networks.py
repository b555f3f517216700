"""The network that training begins with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_cnnvis.errors import CheckpointError, MethodError
from napari_cnnvis.models.checkpoint import open_checkpoint
from napari_cnnvis.models.networks.builtin import ARCHITECTURES, build
from napari_cnnvis.models.networks.factories import parse_architecture
from napari_cnnvis.training.weights.initialise import initialise

__all__ = ["NetworkPlan"]


@dataclass(frozen=True)
class NetworkPlan:
    """How to make the network to begin with.

    Attributes
    ----------
    net : str
        A built-in network in any case ("voxresnet"), or ``"module:callable(arguments)"``.
    n_classes : int
    start_from : str
        A checkpoint; weights of the same name and shape are taken from it. "" for none.
    freeze : tuple of str
        Beginnings of names of layers that are not trained.
    trust : bool
        Let Python code from files run.
    """

    net: str
    n_classes: int
    start_from: str = ""
    freeze: tuple[str, ...] = ()
    trust: bool = False

    @property
    def architecture(self) -> str:
        """Its name among the built-in networks, else "".

        Raises
        ------
        CheckpointError
            If it is neither a built-in network nor looks like ``module:callable``.
        """
        by_name = {name.lower(): name for name in ARCHITECTURES}
        if self.net.lower() in by_name:
            return by_name[self.net.lower()]
        if ":" not in self.net:
            raise CheckpointError(
                f"'{self.net}' is not a built-in network; those are {', '.join(ARCHITECTURES)}. "
                "Another one is given as 'module:callable(arguments)' or 'my_nets.py:MyNet()'."
            )
        return ""

    @property
    def arch(self) -> str:
        """What a checkpoint's header says of it, "" for built-in networks."""
        return "" if self.architecture else str(parse_architecture(self.net))

    @property
    def required_shape(self) -> tuple[int, int, int] | None:
        """The only input shape that fits, where the network says so."""
        return getattr(self._fresh(), "required_shape", None)

    def make(self, scans: Tensor, lsuv: bool = False) -> nn.Module:
        """The network, its weights drawn from torch's random state.

        Parameters
        ----------
        scans : Tensor, shape (n, channels, i, j, k)
            Some of those to train on.
        lsuv : bool
            Initialise the layers that do not come from a checkpoint by LSUV.

        Raises
        ------
        CheckpointError
            If nothing of `start_from` fits.
        MethodError
            If nothing is called as `freeze` says, or the network does not give a number
            for each class.
        """
        network = self._fresh()
        loaded = _load_matching(network, self.start_from, self.trust) if self.start_from else []
        _freeze(network, self.freeze)
        if lsuv:
            initialise(network, scans, keep=loaded)
        network.eval()
        with torch.no_grad():
            try:
                outputs = network(scans[:1])
            except RuntimeError as exc:
                raise MethodError(
                    f"{self.net} does not take scans of {' x '.join(map(str, scans.shape[2:]))} "
                    f"voxels: {str(exc).splitlines()[0]} Give another size with --shape."
                ) from exc
        if not isinstance(outputs, Tensor) or outputs.shape != (1, self.n_classes):
            found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise MethodError(
                f"{self.net} gives {found} where (1, {self.n_classes}) is needed, a number for "
                "each class; give it that many classes."
            )
        return network.train()

    def _fresh(self) -> nn.Module:
        if self.architecture:
            return build(self.architecture, {"n_classes": self.n_classes})
        return parse_architecture(self.net).build(self.trust, by_user=True)


def _load_matching(network: nn.Module, path: str | os.PathLike, trust: bool) -> list[str]:
    """Copy the weights of the same name and shape; returns their names."""
    stored = open_checkpoint(Path(path), None, trust).module.state_dict()
    own = network.state_dict()
    fitting = {
        name: value
        for name, value in stored.items()
        if name in own and own[name].shape == value.shape
    }
    if not any(name.endswith("weight") for name in fitting):
        raise CheckpointError(
            f"No layer of {path} has the name and size of one of this network's; start from a "
            "checkpoint of the same or a similar network."
        )
    network.load_state_dict(fitting, strict=False)
    return list(fitting)


def _freeze(network: nn.Module, beginnings: Sequence[str]) -> None:
    for beginning in beginnings:
        found = [p for name, p in network.named_parameters() if name.startswith(beginning)]
        if not found:
            layers = ", ".join(name for name, _ in network.named_children())
            raise MethodError(
                f"No layer's name begins with '{beginning}', so it cannot be frozen; the layers are "
                f"{layers}."
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in network.parameters()):
        raise MethodError("All layers are frozen; leave at least one to train.")
