"""The checkpoint doctor: what a file holds, whether it can be used, and what for."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.models.checkpoint import (
    OpenedCheckpoint,
    find_network,
    open_whole,
    paths_of,
    with_weights,
)
from napari_cnnvis.models.execution import full_float32, pick_device
from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile
from napari_cnnvis.models.formats.read import read_files
from napari_cnnvis.models.layers import NetworkLayers, TargetLayer
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.outputs import OUTPUT_KINDS
from napari_cnnvis.models.parts import match_file
from napari_cnnvis.models.sidecar import with_sidecar
from napari_cnnvis.scan.conform import InputSpec

__all__ = ["CheckpointReport", "examine_checkpoint", "report_on"]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)  # fmt: skip


@dataclass(frozen=True)
class CheckpointReport:
    """What was found in a checkpoint.

    Attributes
    ----------
    path : str
    kind : str
        What sort of file it is.
    problem : str
        Why it cannot be used and what to do; "" if it can.
    architecture : str
        The network's name, "" if it is not known.
    n_tensors, n_parameters : int
        Of the file and of the network.
    tensors : dict of str to tuple of int
        Names and shapes of the file's weights.
    matched, expected : int or None
        Tensors of the network that the file has, and that it needs; None if the file
        holds the network itself.
    notes : tuple of str
        What was undone or assumed.
    channels, n_outputs : int
        Input channels and outputs; from the first and last weights if nothing else is known.
    last : str
        What the network applies to its logits itself.
    output : str
        What the outputs are taken for.
    class_names : tuple of str
    norms : dict of str to int
        Normalisation layers by class.
    cam : str
        Where CAM applies, or why it does not.
    layers : tuple of TargetLayer
        What Grad-CAM can explain, for `grid`.
    recommended : str
    input : dict
        The fields of the `InputSpec`.
    grid : tuple of int
        Voxels that the estimates are for.
    multiply_adds : float
        Of one pass.
    pass_seconds, grad_cam_seconds : float
        Estimates for `device`, Grad-CAM with all layers at once.
    pass_bytes, grad_cam_bytes : float
        Estimates of the memory taken beside the weights.
    device : str

    Examples
    --------
    >>> import torch
    >>> import napari_cnnvis as cv
    >>> torch.save({"conv.weight": torch.zeros(2, 1, 3, 3, 3)}, "net.pt")
    >>> report = cv.examine_checkpoint("net.pt")
    >>> report.usable, report.channels
    (False, 1)
    """

    path: str
    kind: str = ""
    problem: str = ""
    architecture: str = ""
    n_tensors: int = 0
    n_parameters: int = 0
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    matched: int | None = None
    expected: int | None = None
    notes: tuple[str, ...] = ()
    channels: int = 0
    n_outputs: int = 0
    last: str = ""
    output: str = ""
    class_names: tuple[str, ...] = ()
    norms: dict[str, int] = field(default_factory=dict)
    cam: str = ""
    layers: tuple[TargetLayer, ...] = ()
    recommended: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    grid: tuple[int, ...] = ()
    multiply_adds: float = 0.0
    pass_seconds: float = 0.0
    grad_cam_seconds: float = 0.0
    pass_bytes: float = 0.0
    grad_cam_bytes: float = 0.0
    device: str = ""

    @property
    def usable(self) -> bool:
        """Whether the checkpoint can be loaded and explained."""
        return not self.problem

    def rows(self) -> list[tuple[str, str]]:
        """What is known, as labelled sentences; the problem first, if there is one."""
        rows = [("Problem", self.problem), ("File", f"{Path(self.path).name}: {self.kind}")]
        rows += [("Network", self._network()), ("Weights", self._weights())]
        rows += [("Notes", "; ".join(self.notes)), ("Input", self._input())]
        rows += [("Outputs", self._outputs()), ("Normalisation", self._norms())]
        rows += [("CAM", self.cam), ("Grad-CAM", self._grad_cam()), ("Cost", self._cost())]
        return [(label, text) for label, text in rows if text]

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self.rows()) + 2
        return "\n".join(f"{label + ':':<{width}}{text}" for label, text in self.rows())

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def to_json(self) -> str:
        """The fields as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def _network(self) -> str:
        if not self.architecture:
            return "not known" if self.kind else ""
        return f"{self.architecture}, {self.n_parameters:,} parameters"

    def _weights(self) -> str:
        if self.expected is None:
            return f"{self.n_tensors} tensors" if self.n_tensors else ""
        if self.matched == self.expected:
            return f"all {self.expected} tensors match"
        return f"{self.matched} of {self.expected} tensors match"

    def _input(self) -> str:
        if not self.channels:
            return ""
        text = f"{self.channels} channel{'s' * (self.channels != 1)}"
        spec = self.input
        if not spec:
            return text
        if spec["window"]:
            text += f", windows of {_times(spec['window'])} voxels, overlap {spec['overlap']:g}"
        elif spec["shape"]:
            how = "scaled" if spec["resize"] else "padded or cropped"
            text += f", {how} to {_times(spec['shape'])} voxels"
        else:
            text += ", any size"
        if spec["orientation"]:
            text += f", axes {spec['orientation']}"
        if spec["spacing"]:
            text += f", {_times(f'{s:g}' for s in spec['spacing'])} mm"
        if spec.get("steps"):
            text += f", after the steps {', '.join(spec['steps'])}"
        return f"{text}, intensities: {spec['intensity']}"

    def _outputs(self) -> str:
        if not self.n_outputs:
            return ""
        text = f"{self.n_outputs}"
        if self.output:
            text += f", taken as {OUTPUT_KINDS[self.output]}"
        if self.last:
            text += f"; the network ends in {self.last}, which is undone for logits"
        return f"{text}: {', '.join(self.class_names)}" if self.class_names else text

    def _norms(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.norms.items())

    def _grad_cam(self) -> str:
        if not self.architecture or not self.grid:
            return ""
        if not self.layers:
            return "no layer has 3D maps; use UCM sensitivity or box occlusion"
        chosen = next(t for t in self.layers if t.name == self.recommended)
        return (
            f"{len(self.layers)} layers; recommended {chosen.name}: {chosen.channels} maps of "
            f"{_times(chosen.shape)} cells"
        )

    def _cost(self) -> str:
        if not self.pass_seconds:
            return ""
        return (
            f"on {self.device} for {_times(self.grid)} voxels one pass about "
            f"{_seconds(self.pass_seconds)} and {_bytes(self.pass_bytes)}, Grad-CAM of all layers "
            f"about {_seconds(self.grad_cam_seconds)} and {_bytes(self.grad_cam_bytes)}, sensitivity "
            f"at most {_seconds(100 * self.pass_seconds)} for 100 regions"
        )


def examine_checkpoint(
    path: str | os.PathLike | Sequence[str | os.PathLike],
    arch: nn.Module | str | None = None,
    trust: bool = False,
    shape: tuple[int, int, int] | None = None,
    device: str = "auto",
    input_spec: InputSpec | Callable[[InputSpec], InputSpec] | None = None,
    output: str | None = None,
    class_names: Sequence[str] | None = None,
) -> CheckpointReport:
    """Look at a checkpoint before anything is run; what is wrong is said in the report.

    Parameters
    ----------
    path, arch, trust, device, output, class_names
        As for `load_model`.
    input_spec : InputSpec or callable, optional
        As for `load_model`; a callable is given what the file says and changes it.
    shape : (int, int, int), optional
        The scan that memory, time and layer shapes are estimated for; by default the
        network's own input, or 110 voxels along each axis.

    Returns
    -------
    CheckpointReport
        Its ``problem`` is empty if `load_model` works with the same arguments.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import sample_path
    >>> report = cv.examine_checkpoint(
    ...     sample_path("voxresnetgap_simulated_atrophy.safetensors"), device="cpu"
    ... )
    >>> report.usable, report.architecture, report.class_names
    (True, 'VoxResNetGAP', ('control', 'atrophy'))
    """
    found: dict[str, Any] = {"path": str(path)}
    try:
        paths = paths_of(path)
        found["path"] = str(paths[0])
        file = with_sidecar(read_files(paths, trust))
        found.update(_of_file(file))
        if file.state:
            name, module, text = find_network(file, arch, trust)
            found.update(_of_match(name, module, file))
            opened = with_weights(file, name, module, text)
        else:
            opened = open_whole(file)
        if callable(input_spec):
            input_spec = input_spec(opened.input_spec())
        model = opened.model(device, class_names, input_spec, output)
        return report_on(opened, model, shape)
    except CnnVisError as exc:
        return CheckpointReport(**{**found, "problem": str(exc)})


def report_on(
    opened: OpenedCheckpoint | None, model: Model, shape: tuple[int, int, int] | None = None
) -> CheckpointReport:
    """The report on a model, loaded from a checkpoint or (None) not; see `examine_checkpoint`."""
    module = model.module
    found: dict[str, Any] = {"path": model.architecture, "kind": "made in Python"}
    if opened is not None:
        found = {"path": str(opened.file.path), **_of_file(opened.file)}
        if opened.file.state:
            found.update(_of_match(opened.name, module, opened.file))
    layers = model.layers(shape)
    spec = model.input_spec
    grid = spec.net_shape or shape or (110, 110, 110)
    rate, bandwidth = _speed(str(model.device))
    seconds = layers.effort / rate + 2 * layers.written_bytes / bandwidth
    kept = sum(4.0 * t.channels * t.shape[0] * t.shape[1] * t.shape[2] for t in layers.targets)
    found.update(
        architecture=model.architecture,
        n_parameters=_parameters(module),
        notes=model.notes,
        channels=spec.channels,
        n_outputs=model.outputs.n,
        last=model.reading.ends_in,
        output=model.outputs.kind,
        class_names=model.class_names,
        norms=_norms(module),
        cam=_cam(layers),
        layers=layers.targets,
        recommended=layers.recommended or "",
        input=spec.to_dict(),
        grid=tuple(grid),
        multiply_adds=layers.multiply_adds,
        pass_seconds=seconds,
        grad_cam_seconds=3 * seconds,
        pass_bytes=2.0 * layers.peak_bytes,
        grad_cam_bytes=2 * kept + 2.0 * layers.peak_bytes,
        device=str(model.device),
    )
    return CheckpointReport(**found)


def _of_file(file: CheckpointFile) -> dict[str, Any]:
    """What the file alone says."""
    tensors: list[Any] = list(file.state.values()) or list(file.arrays)
    first = next((t for t in tensors if t.ndim == 5), None)
    last = next((t for t in reversed(tensors) if t.ndim >= 1), None)
    return {
        "kind": file.kind,
        "n_tensors": len(tensors),
        "tensors": {name: tuple(tensor.shape) for name, tensor in file.state.items()},
        "notes": file.notes,
        "channels": 0 if first is None else int(first.shape[1]),
        "n_outputs": 0 if last is None else int(last.shape[0]),
    }


def _of_match(name: str, module: nn.Module, file: CheckpointFile) -> dict[str, Any]:
    match = match_file(module, file)
    return {
        "architecture": name,
        "n_parameters": _parameters(module),
        "matched": match.matched,
        "expected": match.expected,
        "norms": _norms(module),
    }


def _parameters(module: nn.Module) -> int:
    """Trained numbers; programs keep some of them as buffers."""
    return sum(
        t.numel()
        for name, t in module.state_dict().items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )


def _norms(module: nn.Module) -> dict[str, int]:
    return dict(Counter(type(m).__name__ for m in module.modules() if isinstance(m, _NORMS)))


def _cam(layers: NetworkLayers) -> str:
    if layers.cam_head is None:
        return layers.no_cam_reason
    return f"applies, at {layers.cam_head.features.name}"


@lru_cache(maxsize=4)
def _speed(device: str) -> tuple[float, float]:
    """Multiply-adds and bytes of maps a second, measured on layers of a usual size in about 0.2 s."""
    where = pick_device(device)
    convolution = nn.Conv3d(32, 32, 3, padding=1).to(where)
    x = torch.zeros((1, 32, 32, 32, 32), device=where)
    large = torch.zeros((1, 16, 64, 64, 64), device=where)
    if where.type == "cpu":
        convolution.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch lists 4D only
        x = x.to(memory_format=torch.channels_last_3d)
        large = large.to(memory_format=torch.channels_last_3d)
    with torch.no_grad(), full_float32():
        convolving = min(_timed(convolution, x) for _ in range(4))
        writing = min(_timed(nn.MaxPool3d(2), large) for _ in range(3))
    return 32 * 32 * 27 * 32**3 / convolving, large.numel() * 4 / writing


def _timed(net: nn.Module, x: torch.Tensor) -> float:
    began = time.perf_counter()
    net(x).sum().item()  # waits for the device
    return time.perf_counter() - began


def _times(numbers: Any) -> str:
    return " x ".join(map(str, numbers))


def _seconds(value: float) -> str:
    if value < 100:
        return f"{max(value, 0.01):.1g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.0f} h"


def _bytes(value: float) -> str:
    return f"{value / 1e9:.1f} GB" if value >= 1e8 else f"{max(value / 1e6, 1):.0f} MB"
