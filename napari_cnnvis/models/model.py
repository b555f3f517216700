"""A model: a network, its classes and what it expects of its input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_cnnvis.conform import Conformed, InputSpec, conform
from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.layers import NetworkLayers, TargetLayer, find_layers
from napari_cnnvis.models.running import inspecting, pick_device, plain_errors
from napari_cnnvis.volume import Volume

__all__ = ["Model"]

#: grid on which the layers are listed if the network takes any size and none was asked for
_ANY_SHAPE = (110, 110, 110)


class Model:
    """A 3D CNN classifier that can be run and explained.

    Parameters
    ----------
    module : nn.Module
        Maps (n, channels, i, j, k) to logits (n, n_classes). Kept as it is:
        training flags, ``requires_grad``, hooks, gradients and weights are the
        same after every call.
    class_names : sequence of str, optional
        One for each output; "class 0", "class 1", ... if not given.
    input_spec : InputSpec, optional
        What the network expects; by default the volume as stored, divided by its maximum.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", ...
    architecture : str, optional
        Name to show; the module's class by default.
    training : dict, optional
        What is known of the training, for provenance.
    notes : sequence of str
        What was found or assumed on loading.

    Raises
    ------
    MethodError
        If there are not as many class names as outputs, or fewer than two outputs.
    ComputeError
        If the device does not exist or the network cannot take such an input.
    """

    def __init__(
        self,
        module: nn.Module,
        class_names: Sequence[str] | None = None,
        input_spec: InputSpec | None = None,
        device: str = "auto",
        architecture: str | None = None,
        training: dict[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.device = pick_device(device)
        self.module = module.to(self.device)
        if self.device.type == "cpu":
            self.module.to(memory_format=torch.channels_last_3d)  # Conv3d runs about twice as fast
        self.input_spec = input_spec or InputSpec()
        self.architecture = architecture or type(module).__name__
        self.training = dict(training or {})
        self.notes = tuple(notes)
        self._layers = lru_cache(maxsize=4)(self._find_layers)
        outputs = self.layers().n_outputs
        if outputs < 2:
            raise MethodError(
                f"{self.architecture} does not give one score for each of two or more classes "
                f"(outputs: {outputs}); such nets cannot be explained yet."
            )
        self.class_names = tuple(class_names or (f"class {c}" for c in range(outputs)))
        if len(self.class_names) != outputs:
            raise MethodError(
                f"{len(self.class_names)} class names were given for {outputs} outputs of "
                f"{self.architecture}; give one name for each."
            )

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """Voxels (i, j, k) that the network needs, or None if it takes any."""
        return self.input_spec.shape

    @property
    def target_layers(self) -> list[str]:
        """Names of the layers that Grad-CAM can explain, in forward order."""
        return [target.name for target in self.layers().targets]

    @property
    def recommended_layer(self) -> str | None:
        """The deepest target layer that still resolves about seven cells along each axis."""
        return self.layers().recommended

    def layers(self, shape: tuple[int, int, int] | None = None) -> NetworkLayers:
        """Target layers with output shapes, and whether CAM applies, for inputs of `shape`."""
        return self._layers(self.input_spec.shape or shape or _ANY_SHAPE)

    def _find_layers(self, shape: tuple[int, int, int]) -> NetworkLayers:
        return find_layers(self.module, (1, *shape))

    def layer(self, name: str, shape: tuple[int, int, int] | None = None) -> TargetLayer:
        """The target layer called `name`.

        Raises
        ------
        MethodError
            If there is none.
        """
        for target in self.layers(shape).targets:
            if target.name == name:
                return target
        raise MethodError(
            f"{self.architecture} has no target layer '{name}'; it has "
            f"{', '.join(self.target_layers)}."
        )

    def class_index(self, target: int | str) -> int:
        """Index of a class given by index or name.

        Raises
        ------
        MethodError
            If the model has no such class.
        """
        names = self.class_names
        if isinstance(target, str):
            if target in names:
                return names.index(target)
        elif (
            isinstance(target, int | np.integer)
            and not isinstance(target, bool)
            and 0 <= target < len(names)
        ):
            return int(target)
        known = ", ".join(f"{i} ({n})" for i, n in enumerate(names))
        raise MethodError(f"{self.architecture} has no class {target!r}; its classes are {known}.")

    def conform(self, volume: Volume) -> Conformed:
        """The volume as the network sees it, and the way back to its own grid."""
        return conform(volume, self.input_spec)

    def tensor(self, data: np.ndarray) -> torch.Tensor:
        """An array (i, j, k) of the model's grid as an input (1, 1, i, j, k) on the device."""
        x = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))
        return self.arranged(x[None, None].to(self.device))

    def arranged(self, x: torch.Tensor) -> torch.Tensor:
        """`x` in the memory layout that is fastest on this device."""
        if self.device.type == "cpu":
            return x.contiguous(memory_format=torch.channels_last_3d)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes) of inputs (n, 1, i, j, k), in evaluation mode, without a graph."""
        shape = " x ".join(map(str, x.shape[2:]))
        with inspecting(self.module), torch.no_grad(), plain_errors(f"scoring {shape} voxels"):
            return self.module(x)

    def predict(self, volume: Volume) -> np.ndarray:
        """Class probabilities of a volume.

        Parameters
        ----------
        volume : Volume

        Returns
        -------
        array, float32, shape (n_classes,)
            Softmax of the logits; sums to 1.

        Raises
        ------
        ComputeError
            If the network cannot run on it.
        """
        logits = self.logits(self.tensor(self.conform(volume).data))
        return logits.softmax(1)[0].float().cpu().numpy()

    def weights_hash(self) -> str:
        """SHA-256 of the weights (first 16 hex digits), the same wherever they are stored."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        return (
            f"Model({self.architecture}, classes={list(self.class_names)}, device='{self.device}')"
        )
