"""A model: a network, its classes and what it expects of its input."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_cnnvis.errors import MethodError, some_of
from napari_cnnvis.models.execution import (
    arrange_weights,
    inspecting,
    pick_device,
    plain_errors,
)
from napari_cnnvis.models.further_inputs import extra_of_row
from napari_cnnvis.models.layers import NetworkLayers, TargetLayer
from napari_cnnvis.models.number_types import check_initialised
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.models.probing import probed
from napari_cnnvis.models.rows import Rows, stays_channels_last
from napari_cnnvis.models.windows import SlidingWindows
from napari_cnnvis.scan.conform import Conformed, InputSpec, conform
from napari_cnnvis.scan.volume import Scan, channels_of

__all__ = ["Model"]

#: passes by which the noise of a random network is measured
_RANDOM_RUNS = 8


class Model:
    """A 3D CNN that can be run and explained.

    Parameters
    ----------
    module : nn.Module
        Maps (n, channels, i, j, k) to one score for each output (n, n_outputs), also in a
        tuple, dictionary or dataclass (see `scores`). A final softmax or sigmoid is found,
        and what goes into it is explained. Kept as it is:
        training flags, ``requires_grad``, hooks, gradients and weights are the same
        after every call.
    class_names : sequence of str, optional
        One for each output; "class 0", "class 1", ... if not given.
    input_spec : InputSpec, optional
        What the network expects; by default the volume as stored, divided by its maximum.
        If it has no shape and the network cannot take any, a common shape that fits is
        looked for, and said in ``notes``.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", ...
    architecture : str, optional
        Name to show; the module's class by default.
    training : dict, optional
        What is known of the training, for provenance.
    notes : sequence of str
        What was found or assumed on loading.
    output : {"softmax", "sigmoid", "regression", "probabilities", "ordinal", "bins"}, optional
        What the outputs mean; see `napari_cnnvis.models.outputs.Outputs`. By default one
        output, or a final sigmoid, is taken as "sigmoid", several as "softmax". Of "bins"
        the class names are the centres.
    arch : str, optional
        How the network is made, as text for `load_model`, so that it can be saved.
    path : str, optional
        The checkpoint that it was loaded from.
    more_files : sequence of str
        Further files with weights of it.
    scores : str, optional
        Of a network that gives several tensors: which are the scores of the classes. A key
        or field, or "0", "1" in a tuple.
    extra : mapping of str to float, list of float or path, optional
        Further arguments of the network, or entries of the dictionary that it takes, such as
        ``{"age": 71}`` or ``{"t2": "t2.nii.gz"}``, another scan on the same grid; the same in
        each pass.

    Raises
    ------
    MethodError
        If there are not as many class names as outputs, the network does not give one score
        for each class, or it gives several tensors and nothing says which are the scores.
    ComputeError
        If the device does not exist or the network cannot take such an input.

    Examples
    --------
    >>> import torch
    >>> import napari_cnnvis as cv
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv3d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1),
    ...     torch.nn.Flatten(), torch.nn.Linear(4, 2),
    ... )
    >>> model = cv.Model(net, ["control", "patient"], device="cpu")
    >>> model.class_names
    ('control', 'patient')
    >>> model.recommended_layer
    '1'
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
        output: str | None = None,
        arch: str | None = None,
        path: str | None = None,
        scores: str | None = None,
        extra: Mapping[str, Any] | None = None,
        more_files: Sequence[str] = (),
    ) -> None:
        check_initialised(module)
        self.device = pick_device(device)
        self.architecture = architecture or type(module).__name__
        self._probed = probed(
            module.to(self.device), self.architecture, input_spec or InputSpec(), extra
        )
        self.module = self._probed.module
        # a script may take the usual layout for granted, and cannot be helped as by `inspecting`
        script = any(isinstance(m, torch.jit.ScriptModule) for m in module.modules())
        self._channels_last = self.device.type == "cpu" and not script
        if self._channels_last:
            arrange_weights(self.module)
        self._layout_known = False
        self.arch, self.path, self.more_files = arch or "", path or "", tuple(more_files)
        self.training = dict(training or {})
        self._rows = Rows(lambda x: self.logits(self.arranged(x)))
        self.input_spec = self._probed.spec
        self.extra, self.scores = self._probed.call.values, scores or ""
        #: how the network is run to its scores
        self.reading = self._probed.reading(
            class_names, output, scores, lambda x: self.arranged(x.to(self.device))
        )
        self._given_notes = tuple(notes)
        self.notes = (*notes, *self._probed.notes, *self._probed.said_of(self.reading))
        self.outputs = Outputs.of(
            output, self.reading.part.width, self.reading.ends_in, class_names
        )
        if self.outputs.last and self.reading.from_end:  # its input is taken
            self.outputs = replace(self.outputs, last="")
        self.class_names = self.outputs.target_names(class_names)
        #: the names that were given, from which those of the targets follow
        self.names = tuple(class_names or ())

    def with_input(self, spec: InputSpec) -> Model:
        """The same network, not copied, with another description of its input.

        Raises
        ------
        ComputeError
            If the network cannot take such an input.
        """
        return self._like(input_spec=spec)

    def with_classes(self, class_names: Sequence[str] | None, output: str | None = None) -> Model:
        """The same network, not copied, with other class names or another kind of output.

        Raises
        ------
        MethodError
            If there are not as many names as outputs, or there is no such kind.
        """
        return self._like(class_names=class_names, output=output or self.outputs.kind)

    def with_extra(self, extra: Mapping[str, Any]) -> Model:
        """The same network, not copied, with other values of its further arguments.

        Raises
        ------
        MethodError
            If they are not as many numbers; names that it does not have are left out.

        Examples
        --------
        >>> import napari_cnnvis as cv
        >>> from napari_cnnvis.sample_data import small_example
        >>> model, volume = small_example()
        >>> model.with_extra({"age": 71}).extra  # this network takes none
        {}
        """
        call = self.reading.call.with_values(extra)
        changed = copy.copy(self)
        changed.reading = replace(self.reading, call=call)
        changed.extra = call.values
        changed._rows = Rows(lambda x: changed.logits(changed.arranged(x)))
        return changed

    def for_row(self, columns: Mapping[str, str]) -> Model:
        """The model for a scan in a table: further arguments are those of columns of their name.

        Raises
        ------
        MethodError
            If such a cell is not a number.
        """
        given = extra_of_row(self.extra, columns)
        return self.with_extra(given) if given else self

    def _like(self, **changes: Any) -> Model:
        given = {
            "module": self.module,
            "class_names": self.names,
            "input_spec": self.input_spec,
            "device": str(self.device),
            "architecture": self.architecture,
            "training": self.training,
            "notes": self._given_notes,
            "output": self.outputs.kind,
            "arch": self.arch,
            "path": self.path,
            "scores": self.scores,
            "extra": self.extra,
            "more_files": self.more_files,
        }
        return Model(**{**given, **changes})

    def with_input_window_only(self) -> Model:
        """The network of single windows, for a model that runs on sliding windows."""
        spec = self.input_spec
        return self.with_input(replace(spec, shape=spec.window, window=None))

    @property
    def whole(self) -> nn.Module:
        """What maps a whole scan to outputs: the network itself, or its mean over windows."""
        if self.input_spec.window is None:
            return self.module
        return SlidingWindows(
            self.module, self.input_spec.window, self.input_spec.overlap, self.reading
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
        return self._probed.layers(shape)

    def layer(self, name: str, shape: tuple[int, int, int] | None = None) -> TargetLayer:
        """The layer called `name`: a target layer, or any other whose output is a map.

        Raises
        ------
        MethodError
            If there is none.
        """
        return self._probed.layer(name, shape)

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
        known = some_of((f"{i} ({n})" for i, n in enumerate(names)), str(target))
        raise MethodError(f"{self.architecture} has no class {target!r}; its classes are {known}.")

    def conform(self, volume: Scan) -> Conformed:
        """The scan as the network sees it, and the way back to its own grid.

        Of a network that stays random, the notes say how much its outputs vary.
        """
        for second in self.reading.call.scans:
            second.check(channels_of(volume)[0])
        conformed = conform(volume, self.input_spec)
        if not self.layers(conformed.data.shape).random:
            return conformed
        x = self.tensor(conformed.channels)
        runs = torch.cat([self.logits(x) for _ in range(_RANDOM_RUNS)]).float()
        note = (
            f"The network is random: in {_RANDOM_RUNS} passes over this scan its outputs vary by "
            f"{float(runs.std(0).max()):.3g} (largest standard deviation). Values of a map that are "
            "not far above that are noise."
        )
        return replace(conformed, notes=(*conformed.notes, note))

    def tensor(self, data: np.ndarray) -> torch.Tensor:
        """Channels (c, i, j, k), or the only one (i, j, k), as an input (1, c, i, j, k) on the device."""
        x = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))
        return self.arranged(x.reshape(1, -1, *x.shape[-3:]).to(self.device))

    def arranged(self, x: torch.Tensor) -> torch.Tensor:
        """`x` in the memory layout that is fastest on this device."""
        if self._channels_last:
            return x.contiguous(memory_format=torch.channels_last_3d)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Raw outputs (n, n_outputs) of inputs (n, c, i, j, k), in evaluation mode, without a graph.

        The network gets a copy of them, as it may write into its input.
        """
        shape = " x ".join(map(str, x.shape[2:]))
        windows = self.input_spec.window is not None
        with inspecting(self.module), torch.no_grad(), plain_errors(f"scoring {shape} voxels"):
            return self.whole(x.clone()) if windows else self.reading.run(self.module, x.clone())

    def takes_batches(self, x: torch.Tensor) -> bool:
        """Whether scans may go through the network together.

        False if the outputs for one depend on what else is in the batch. It is tried once for
        each shape, on the middle of `x` (1, c, i, j, k) where the network takes smaller inputs.

        Raises
        ------
        ComputeError
            If the network cannot run on `x`.
        """
        for axis, n in enumerate(self._probed.smaller_than(tuple(x.shape[2:])), 2):
            x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
        return self._rows.are_independent(x)

    def pass_seconds(self, x: torch.Tensor, in_batches: bool = False) -> float:
        """How long one pass takes, measured on `x` (1, c, i, j, k) the first time."""
        return self._rows.seconds_in_batches(x) if in_batches else self._rows.seconds(x)

    def use_faster_layout(self, x: torch.Tensor) -> None:
        """Lay weights out in memory as a pass on `x` shows to be faster; tried once."""
        if self._channels_last and not self._layout_known:
            seconds = self.pass_seconds(x)
            self._channels_last = stays_channels_last(self.module, self.logits, x, seconds)
        self._layout_known = True

    def predict(self, volume: Scan) -> np.ndarray:
        """Class probabilities of a scan.

        Parameters
        ----------
        volume : Volume, or a sequence with one for each input channel

        Returns
        -------
        array, float32, shape (n_classes,)
            Softmax of the logits, sums to 1; a sigmoid for each label; for a regression
            the values themselves, shape (n_outputs,).

        Raises
        ------
        ComputeError
            If the network cannot run on it.
        VolumeError
            If there are not as many volumes as input channels.
        """
        raw = self.logits(self.tensor(self.conform(volume).channels))
        return self.outputs.predictions(raw)[0].float().cpu().numpy()

    def described(self, predictions: np.ndarray) -> list[tuple[str, str]]:
        """Names and values of a prediction, as they are shown: ("AD", "93.1%"), ("age", "71.3")."""
        if self.outputs.has_probabilities:
            return [
                (name, f"{p:.1%}") for name, p in zip(self.class_names, predictions, strict=True)
            ]
        names = (name.removeprefix("higher ") for name in self.class_names[1::2])
        return [(name, f"{value:.4g}") for name, value in zip(names, predictions, strict=True)]

    def weights_hash(self) -> str:
        """SHA-256 of the weights (first 16 hex digits), the same wherever they are stored."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            plain = tensor.detach().cpu().contiguous().flatten()
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        return (
            f"Model({self.architecture}, classes={list(self.class_names)}, device='{self.device}')"
        )
