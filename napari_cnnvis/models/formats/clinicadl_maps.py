"""ClinicaDL's MAPS folders (versions 1.x): the result of a training, with several sets of weights.

A MAPS folder has ``maps.json``, which describes the training, and
``split-<i>/best-<metric>/model.pth.tar``, the weights that were best on the
validation set of each split by each metric.

References
----------
.. [1] ClinicaDL 1.x documentation, "MAPS definition",
   https://clinicadl.readthedocs.io
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile
from napari_cnnvis.models.formats.one_file import read_pytorch

__all__ = ["is_maps", "read_maps"]

_KNOWN = ("Conv5_FC3", "Conv4_FC3")
#: names of ClinicaDL before 1.1, and what they are called now
_OLD_NAMES = {"model": "architecture", "minmaxnormalization": "normalize"}
#: preprocessing whose images have voxels of 1 mm
_LINEAR = ("t1-linear", "pet-linear", "flair-linear")
_WEIGHTS = "*model.pth.tar"


def is_maps(path: Path) -> bool:
    """Whether a path is a MAPS folder, one of its splits or best models, or weights in one."""
    return _root(path) is not None


def _root(path: Path) -> Path | None:
    """The MAPS folder that a path is or lies in, at most three levels up; None if there is none."""
    if path.is_file() and not path.name.endswith(".pth.tar"):
        return None
    path = path.absolute()
    inside = ("split-", "fold-", "best-", "all_models", "tmp")
    for folder in (path, *path.parents[:3]):
        if folder.is_dir() and (folder / "maps.json").is_file():
            return folder
        if folder.is_dir() and not folder.name.startswith(inside):
            return None
    return None


def read_maps(path: Path, split: int | None = None, trust: bool = False) -> CheckpointFile:
    """Read weights of a MAPS folder, and from its ``maps.json`` what network and input they need.

    Parameters
    ----------
    path : Path
        The MAPS folder, a split or best-model folder in it, or a ``model.pth.tar``.
    split : int, optional
        Which split's weights, by default the first's. Of several metrics "loss" is
        preferred.
    trust : bool
        Allow the weights file to run the Python code in it, as in `read_file`.

    Returns
    -------
    CheckpointFile
        Its header has, where known, "architecture" (name and arguments of a built-in
        network), "class_names", "input" (fields of `InputSpec`) and "output".

    Raises
    ------
    CheckpointError
        If the folder has no such weights, a file is damaged, or the network cannot be
        explained here.
    """
    root = _root(path)
    if root is None:
        raise CheckpointError(
            f"{path} is not a MAPS folder of ClinicaDL: it has no maps.json; choose the folder "
            "that split-0 is in."
        )
    training = _training(root / "maps.json")
    weights, notes = _weights(path, root, split)
    if weights.stat().st_size == 0:
        raise CheckpointError(f"{weights} is empty (0 bytes); copy the MAPS folder again.")
    file = read_pytorch(weights, trust)
    header, more = _described(training, file)
    return replace(
        file,
        path=path,
        header=header,
        notes=(*file.notes, *notes, *more),
        kind="ClinicaDL MAPS",
    )


def _training(path: Path) -> dict[str, Any]:
    """What maps.json says, with the names of ClinicaDL 1.6."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(
            f"{path} is not JSON that can be read; copy the MAPS folder again."
        ) from exc
    if not isinstance(content, dict) or "network_task" not in content:
        raise CheckpointError(
            f"{path} does not describe a training of ClinicaDL (it names no network_task); choose "
            "the folder that split-0 is in."
        )
    for old, new in _OLD_NAMES.items():
        if old in content:
            content.setdefault(new, content[old])
    return content


def _weights(path: Path, root: Path, split: int | None) -> tuple[Path, list[str]]:
    """The weights file that a path stands for, and what to say of the choice."""
    if path.is_file():
        return path, []
    if path.name.startswith("best-"):
        splits = [path.parent]
    elif re.fullmatch(r"(split|fold)-\d+", path.name):
        splits = [path]
    else:
        splits = sorted(
            (p for p in root.iterdir() if re.fullmatch(r"(split|fold)-\d+", p.name)), key=_number
        )
    best = {p: _best(p, path) for p in splits}
    best = {p: folders for p, folders in best.items() if folders}
    wanted = [p for p in best if split is None or _number(p) == split]
    if not wanted:
        there = ", ".join(str(_number(p)) for p in best)
        if there and split is not None:
            raise CheckpointError(
                f"{path} has no weights of split {split}; there are splits {there}."
            )
        raise CheckpointError(
            f"{path} has no weights (split-0/best-loss/model.pth.tar); copy the whole MAPS folder, "
            "or let the training end."
        )
    chosen, *other_splits = [*wanted, *(p for p in best if p not in wanted)]
    folder, *other_metrics = best[chosen]
    file, *other_networks = _models(folder)
    notes = [f"weights of {chosen.name}, {folder.name} are used"]
    others = [p.name for p in (*other_splits, *other_metrics)]
    if others:
        notes[0] += f"; there are also {', '.join(others)}"
    if other_networks:
        notes.append(
            f"the training made one network for each part of the image; {file.name} is used, "
            f"there are {len(other_networks)} more"
        )
    return file, notes


def _best(split: Path, path: Path) -> list[Path]:
    """The best-model folders of a split that have weights, "best-loss" first."""
    if path.name.startswith("best-"):
        folders = [path]
    else:
        folders = sorted(split.glob("best-*"), key=lambda p: (p.name != "best-loss", p.name))
    return [p for p in folders if _models(p)]


def _models(folder: Path) -> list[Path]:
    """Weights in a best-model folder: one file, or one for each part of the image."""
    return sorted(folder.glob(_WEIGHTS), key=lambda p: (len(p.name), p.name))


def _number(split: Path) -> int:
    return int(split.name.rpartition("-")[2])


def _described(training: dict[str, Any], file: CheckpointFile) -> tuple[dict[str, Any], list[str]]:
    """The header that a training's description amounts to, and notes."""
    task = training["network_task"]
    if task == "reconstruction":
        raise CheckpointError(
            f"{file.path} is a ClinicaDL network that reconstructs images; it gives no class or "
            "value to explain. Choose one trained for classification or regression."
        )
    size = training.get("input_size")
    if not (isinstance(size, list) and all(type(n) is int and n > 0 for n in size)):
        size = []
    mode = training.get("mode", "image")
    if mode == "slice" or len(size) == 3:
        raise CheckpointError(
            f"{file.path} is a ClinicaDL network for 2D slices, and only 3D networks can be "
            "explained here. Choose one trained on images, patches or regions."
        )
    size = size if len(size) == 4 else []
    notes: list[str] = []
    header: dict[str, Any] = {"output": "regression" if task == "regression" else "softmax"}
    n_outputs = _n_outputs(training, file)
    architecture = _architecture(training, size, n_outputs, notes)
    if architecture is not None:
        header["architecture"] = architecture
    names = _class_names(training, n_outputs)
    if names is not None:
        header["class_names"] = names
    header["input"] = _input(training, mode, size, notes)
    return header, notes


def _n_outputs(training: dict[str, Any], file: CheckpointFile) -> int:
    last = file.state.get("fc.6.weight")
    if last is not None and last.ndim == 2:
        return last.shape[0]
    given = training.get("output_size")
    return given if type(given) is int and given > 0 else 0


def _architecture(
    training: dict[str, Any], size: list[int], n_outputs: int, notes: list[str]
) -> dict[str, Any] | None:
    name = training.get("architecture")
    if name not in _KNOWN:
        notes.append(
            f"its network is ClinicaDL's {name or 'unnamed one'}, which is not built in; give the "
            "network: load_model(path, arch=...)"
        )
        return None
    if not size or not n_outputs:
        notes.append(
            f"maps.json does not say what input or output {name} has; give the network: "
            "load_model(path, arch=...)"
        )
        return None
    dropout = training.get("dropout")
    arguments = {"in_channels": size[0], "n_classes": n_outputs, "shape": size[1:]}
    if isinstance(dropout, int | float) and not isinstance(dropout, bool) and 0 <= dropout <= 1:
        arguments["dropout"] = dropout
    return {"name": name, "arguments": arguments}


def _class_names(training: dict[str, Any], n_outputs: int) -> list[str] | None:
    """One name for each output, those of labels with the same code joined by "/"."""
    if training["network_task"] == "regression":
        label = training.get("label")
        return [label] if isinstance(label, str) and n_outputs == 1 else None
    codes = training.get("label_code")
    if not isinstance(codes, dict):
        return None
    names = ["/".join(k for k, code in codes.items() if code == c) for c in range(n_outputs)]
    complete = all(names) and set(codes.values()) == set(range(n_outputs))
    return names if names and complete else None


def _input(
    training: dict[str, Any], mode: str, size: list[int], notes: list[str]
) -> dict[str, Any]:
    """Fields of `InputSpec`, and notes on what differs from ClinicaDL."""
    fields: dict[str, Any] = {"intensity": "range" if training.get("normalize", True) else "none"}
    if size and size[0] > 1:
        fields["channels"] = size[0]
    options = training.get("preprocessing_dict")
    options = options if isinstance(options, dict) else training
    if isinstance(options.get("preprocessing"), str):
        notes.append(
            f"trained on scans preprocessed by '{options['preprocessing']}' of Clinica and "
            "ClinicaDL; open such a scan"
        )
    if mode == "image":
        if size:
            fields["shape"] = size[1:]
    elif mode == "patch":
        _add_window(fields, options, size)
        notes.append(
            "trained on patches, each with its own range of intensities, whose classes are voted "
            "on; here the range is the whole scan's and ClinicaDL's vote is not reproduced"
        )
    else:
        if size:
            fields["shape"] = size[1:]
        notes.append(
            f"trained on parts of the image (mode '{mode}'), which are not cut out here; open a "
            "scan of that part only"
        )
    factor = training.get("size_reduction_factor", 2)
    if training.get("size_reduction") and type(factor) is int and factor > 1:
        if options.get("preprocessing") in _LINEAR:
            fields["spacing"] = [float(factor)] * 3
        notes.append(
            f"ClinicaDL took one voxel in {factor} along each axis; here the scan is resampled, "
            "which is nearly the same"
        )
    return fields


def _add_window(fields: dict[str, Any], options: dict[str, Any], size: list[int]) -> None:
    """The patches as windows; their overlap from the step between them."""
    if not size:
        return
    fields["window"] = size[1:]
    stride = options.get("stride_size")
    if type(stride) is int and 0 < stride <= size[1]:
        fields["overlap"] = 1 - stride / size[1]
