"""Checkpoint file -> Model, and Model -> the project's own safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from napari_cnnvis.errors import CheckpointError, MethodError, VolumeError
from napari_cnnvis.models.formats.checkpoint_file import (
    CheckpointFile,
    write_safetensors,
)
from napari_cnnvis.models.formats.lasagne import from_lasagne
from napari_cnnvis.models.formats.read import read_files
from napari_cnnvis.models.layers import input_channels
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.builtin import ARCHITECTURES, build, recognise
from napari_cnnvis.models.networks.factories import Factory, parse_architecture
from napari_cnnvis.models.networks.weight_budget import WeightBudget
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.models.parts import match_file
from napari_cnnvis.models.sidecar import with_sidecar
from napari_cnnvis.models.unknown_network import unknown_network
from napari_cnnvis.models.weights import load_weights
from napari_cnnvis.scan.conform import InputSpec

__all__ = ["OpenedCheckpoint", "load_model", "open_checkpoint", "save_model"]


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint with its network: everything but the class names and the input is settled.

    Attributes
    ----------
    file : CheckpointFile
        With the header completed by the sidecar.
    name : str
        Of the network.
    module : nn.Module
        With the file's weights.
    arch : str
        What was given or stored for the network, "" if it was recognised or in the file.
    notes : tuple of str
    """

    file: CheckpointFile
    name: str
    module: nn.Module
    arch: str
    notes: tuple[str, ...]

    def input_spec(self) -> InputSpec:
        """What the header, or the network itself, says of its input.

        Raises
        ------
        CheckpointError
            If the header describes it wrongly.
        """
        return _input_spec(self.file.header, self.module, self.file.path)

    def model(
        self,
        device: str = "auto",
        class_names: Sequence[str] | None = None,
        input_spec: InputSpec | None = None,
        output: str | None = None,
        scores: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Model:
        """The model, with what is given here instead of what the header says."""
        header = self.file.header
        return Model(
            self.module,
            class_names or header.get("class_names"),
            input_spec or self.input_spec(),
            device,
            architecture=self.name,
            training=header.get("training"),
            notes=self.notes,
            output=output or header.get("output"),
            arch=self.arch,
            path=str(self.file.path.absolute()),
            scores=scores or header.get("scores"),
            extra=extra or header.get("extra"),
            more_files=[str(path.absolute()) for path in self.file.more_paths],
        )


def load_model(
    path: str | os.PathLike | Sequence[str | os.PathLike],
    device: str = "auto",
    arch: nn.Module | str | None = None,
    class_names: Sequence[str] | None = None,
    input_spec: InputSpec | None = None,
    trust: bool = False,
    output: str | None = None,
    scores: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Model:
    """Load a checkpoint; the architecture is recognised from the file where that is possible.

    A file ``net.json`` beside ``net.pt`` completes what the checkpoint does not say:
    the parts of the project's own header, such as ``{"class_names": ["NC", "AD"],
    "architecture": "monai.networks.nets:resnet18(...)"}``.

    Parameters
    ----------
    path : path-like
        The project's ``.safetensors``; a PyTorch state dict (``.pt``, ``.pth``,
        ``.ckpt``; Lightning and ``state_dict`` wrappers, ``module.`` and ``model.``
        prefixes are undone); a TorchScript program; a ``torch.export`` program
        (``.pt2``); an ``.onnx`` file (extra ``onnx``); a MONAI bundle (folder or zip); a ClinicaDL MAPS folder; or the
        reference's Lasagne ``.npz``. Files that hold parts of one network, such as
        ``["backbone.pth", "head.pth"]``, are given together; where in the network each
        belongs is found from names and shapes.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", ...
    arch : nn.Module or str, optional
        The network that the weights belong to: a module; the name of a built-in one;
        ``"module:callable(arguments)"`` such as
        ``"monai.networks.nets:resnet18(spatial_dims=3, n_input_channels=1, num_classes=2)"``;
        or ``"my_nets.py:make_net(width=16)"``, which takes ``trust=True``. Without trust
        it has to be a class of networks (``nn.Module``) of the module that is named, or
        one of the listed builders of MONAI and torchvision. Arguments are plain values.
    class_names : sequence of str, optional
        Instead of those in the file.
    input_spec : InputSpec, optional
        Instead of that in the file. Where neither says anything: the volume as
        stored, divided by its maximum, padded or cropped about its centre only if
        the network needs a fixed size.
    trust : bool
        Allow Python code to run: whole pickled networks, ``.py`` files, functions, and
        networks that a file names other than the listed ones of MONAI and torchvision.
        Nothing is ever fetched from the network.
    output, scores, extra : optional
        What the outputs mean, which of them are the scores, and what the network takes
        besides the scan; see `Model`.

    Returns
    -------
    Model

    Raises
    ------
    CheckpointError
        If the file cannot be read, or belongs to another network.
    MethodError
        If the network is no classifier or regression, or class names do not fit.
    ComputeError
        If the device does not exist or the network cannot run.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import sample_path
    >>> path = sample_path("voxresnetgap_simulated_atrophy.safetensors")
    >>> cv.load_model(path, device="cpu")
    Model(VoxResNetGAP, classes=['control', 'atrophy'], device='cpu')
    """
    opened = open_checkpoint(path, arch, trust)
    return opened.model(device, class_names, input_spec, output, scores, extra)


def open_checkpoint(
    path: str | os.PathLike | Sequence[str | os.PathLike],
    arch: nn.Module | str | None = None,
    trust: bool = False,
    arch_by_user: bool = True,
) -> OpenedCheckpoint:
    """Read a checkpoint and put its weights into its network; see `load_model`.

    `arch_by_user` is False if `arch` was not typed by the user but read from a file, such
    as a map's record or what was remembered: it then counts no more than a header does.
    """
    file = with_sidecar(read_files(paths_of(path), trust))
    if not file.state:
        return open_whole(file)
    return with_weights(file, *find_network(file, arch, trust, arch_by_user))


def paths_of(path: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """One path or several as a list."""
    if isinstance(path, str | os.PathLike):
        return [Path(path)]
    if not path:
        raise CheckpointError("No checkpoint was given; name its file.")
    return [Path(one) for one in path]


def open_whole(file: CheckpointFile) -> OpenedCheckpoint:
    """A file that holds the network itself, or arrays that say what it is."""
    if file.module is not None:
        return OpenedCheckpoint(file, type(file.module).__name__, file.module, "", file.notes)
    name, module = from_lasagne(file.arrays, file.path)
    return OpenedCheckpoint(file, name, module, "", file.notes)


def with_weights(file: CheckpointFile, name: str, module: nn.Module, arch: str) -> OpenedCheckpoint:
    """A network with a file's weights put into it.

    Raises
    ------
    CheckpointError
        If they do not fit.
    """
    notes = load_weights(module, match_file(module, file), name, file.label)
    return OpenedCheckpoint(file, name, module, arch, (*file.notes, *notes))


def find_network(
    file: CheckpointFile,
    arch: nn.Module | str | None,
    trust: bool,
    arch_by_user: bool = True,
) -> tuple[str, nn.Module, str]:
    """The network of a file's weights, before they are loaded: its name, itself, and its text.

    Raises
    ------
    CheckpointError
        If it is not known, or cannot be built.
    """
    if isinstance(arch, nn.Module):
        return type(arch).__name__, arch, ""
    given = arch if isinstance(arch, str) and arch.strip() else ""
    factory = parse_architecture(given) if given else _named_in(file)
    known = recognise(file.state)
    if factory is None:
        if known is None:
            raise unknown_network(file)
        return known[0], build(*known), ""
    if given and not factory.place and not factory.keywords and known and known[0] == factory.name:
        return factory.name, build(*known), ""  # its arguments can be read from the weights
    budget = WeightBudget(file.state.values())
    module = factory.build(trust, bool(given) and arch_by_user, budget)
    spelled_out = given or isinstance(file.header["architecture"], str)
    return factory.name, module, str(factory) if spelled_out else ""


def _named_in(file: CheckpointFile) -> Factory | None:
    """What the header, or the sidecar, says of the network; None if that is nothing known."""
    architecture = file.header.get("architecture")
    if isinstance(architecture, str):
        return parse_architecture(architecture) if architecture.strip() else None
    if not isinstance(architecture, dict) or architecture.get("name") not in ARCHITECTURES:
        return None
    arguments = architecture.get("arguments") or {}
    if not isinstance(arguments, dict):
        raise CheckpointError(f"The header of {file.path} is damaged; save the checkpoint again.")
    return Factory("", architecture["name"], (), arguments)


def _input_spec(header: dict[str, Any], module: nn.Module, path: Path) -> InputSpec:
    stored = dict(header.get("input") or {})
    known = {f.name for f in fields(InputSpec)}
    if "shape" not in stored and not stored.get("window"):
        stored["shape"] = getattr(module, "required_shape", None)
    if "channels" not in stored:
        stored["channels"] = input_channels(module)
    try:
        if set(stored) - known:
            raise TypeError
        return InputSpec(**stored)
    except VolumeError as exc:
        raise CheckpointError(f"The header of {path} describes its input wrongly: {exc}") from exc
    except (TypeError, ValueError) as exc:
        raise CheckpointError(
            f"The header of {path} describes its input wrongly ({stored}); save the checkpoint again."
        ) from exc


def save_model(
    module: nn.Module | Model,
    path: str | os.PathLike,
    class_names: Sequence[str] | None = None,
    input_spec: InputSpec | None = None,
    training: dict[str, Any] | None = None,
    arch: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a network as the project's own safetensors file, which says all that is needed to load it.

    Parameters
    ----------
    module : Model or nn.Module
        A `Model` brings everything with it. Of a module the built-in networks say
        what they are; for others give `arch`.
    path : path-like
        Ends in ``.safetensors``; written beside it and moved into place.
    class_names : sequence of str
        One for each output.
    input_spec : InputSpec
        What the network was trained on.
    training : dict, optional
        The training record, of plain values.
    arch : str, optional
        ``"module:callable(arguments)"``, as for `load_model`.
    output : {"softmax", "sigmoid", "regression"}, optional
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    CheckpointError
        If nothing says what the network is, the number of class names is another
        one, or the path ends otherwise.
    VolumeError
        If the folder does not exist or cannot be written to, or there is such a file.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.models.networks.vox import VoxResNetGAP
    >>> path = cv.save_model(VoxResNetGAP(), "net.safetensors", ["NC", "AD"])
    >>> cv.load_model(path, device="cpu").class_names
    ('NC', 'AD')
    """
    path, more = Path(path), {}
    if isinstance(module, Model):
        model = module
        class_names = class_names or model.class_names
        input_spec, training = input_spec or model.input_spec, training or model.training
        arch, output, module = arch or model.arch, output or model.outputs.kind, model.module
        more = {k: v for k, v in (("scores", model.scores), ("extra", model.extra)) if v}
    name = type(module).__name__
    if path.suffix != ".safetensors":
        raise CheckpointError(f"Call the file {path.stem}.safetensors, not {path.name}.")
    if name in ARCHITECTURES and not arch:
        architecture: Any = {"name": name, "arguments": _arguments(module)}
        n_classes = _arguments(module)["n_classes"]
        if not class_names:
            raise CheckpointError(
                f"0 class names were given for {n_classes} outputs of {name}; give one name for each."
            )
        try:
            Outputs.of(output, n_classes).target_names(class_names)
        except MethodError as exc:
            raise CheckpointError(str(exc)) from exc
    elif arch:
        architecture = str(parse_architecture(arch))
    else:
        raise CheckpointError(
            f"{name} is not one of {', '.join(ARCHITECTURES)}; say how it is made: "
            "arch='module:callable(arguments)'."
        )
    header = {
        "version": 1,
        "architecture": architecture,
        "input": (input_spec or InputSpec()).to_dict(),
        "training": training or {},
    }
    if class_names:
        header["class_names"] = list(class_names)
    if output:
        header["output"] = output
    header |= more
    write_safetensors(path, module.state_dict(), header, overwrite)
    return path


def _arguments(module: nn.Module) -> dict[str, Any]:
    """The arguments of a built-in network, read from its layers."""
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv3d)]
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    arguments: dict[str, Any] = {
        "in_channels": convolutions[0].in_channels,
        "n_classes": linear[-1].out_features,
    }
    shape = getattr(module, "required_shape", None)
    if shape is not None and shape != getattr(type(module), "required_shape", None):
        arguments["shape"] = list(shape)
    return arguments
