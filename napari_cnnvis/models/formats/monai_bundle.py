"""MONAI bundles: a folder, or a .zip of one, with weights and what to know of the network.

Nothing in a bundle is run: Python expressions in its configuration are not
evaluated, and its weights are read like those of any other file.

References
----------
.. [1] MONAI bundle specification, https://docs.monai.io/en/latest/mb_specification.html
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile
from napari_cnnvis.models.formats.monai_config import Config, NotPlain
from napari_cnnvis.models.formats.monai_input import input_of, output_of
from napari_cnnvis.models.formats.one_file import read_one_file
from napari_cnnvis.scan.steps.text import fixed_shape, read_steps

__all__ = ["is_bundle", "read_bundle"]

_METADATA = "configs/metadata.json"
_ENDINGS = (".json", ".yaml", ".yml")
#: configurations that may define the network and its preprocessing, the likeliest first
_CONFIGS = tuple(
    f"configs/{stem}{end}" for stem in ("inference", "evaluate", "train") for end in _ENDINGS
)
_MANY_BYTES = 2**30
#: bytes of a JSON, and of a YAML, which takes a thousand times as long
_LARGEST_TEXT, _LARGEST_YAML = 2**24, 2**17
#: the one in C is ten times as fast, where PyYAML has it
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARKERS = (_METADATA, *(name for name in _CONFIGS if "inference" in name))


class _Folder:
    """The files of a bundle in a folder, by their path inside it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def names(self, folder: str) -> list[str]:
        """Files right in a folder of the bundle, sorted."""
        return sorted(f"{folder}/{p.name}" for p in self.path.glob(f"{folder}/*") if p.is_file())

    def text(self, name: str) -> bytes:
        with (self.path / name).open("rb") as file:
            return file.read(_LARGEST_TEXT + 1)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A path under which the file can be read."""
        yield self.path / name


class _Zip:
    """The same for a .zip, which may hold the bundle in one top folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as file:
            members = [m for m in file.infolist() if not m.is_dir() and _is_inside(m.filename)]
        tops = {
            "".join(f"{part}/" for part in parts[:-2])
            for parts in (PurePosixPath(m.filename).parts for m in members)
            if len(parts) in (2, 3) and "/".join(parts[-2:]) in _MARKERS
        }
        #: the folder in the .zip that is the bundle, such as "name/"; None if there is none
        self.top = min(tops, key=len, default=None)
        self._members = {
            m.filename.removeprefix(self.top): m
            for m in members
            if self.top is not None and m.filename.startswith(self.top)
        }

    def has(self, name: str) -> bool:
        return name in self._members

    def names(self, folder: str) -> list[str]:
        return sorted(n for n in self._members if n.rpartition("/")[0] == folder)

    def text(self, name: str) -> bytes:
        with self._opened(name) as stream:
            return stream.read(_LARGEST_TEXT + 1)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, f"weights{PurePosixPath(name).suffix}")
            with self._opened(name) as stream, copy.open("wb") as target:
                shutil.copyfileobj(stream, target, 2**20)
            yield copy

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        member = self._members[name]
        if member.file_size > max(_MANY_BYTES, 100 * member.compress_size):
            raise CheckpointError(
                f"'{name}' in {self.path} would unpack to {member.file_size / 2**30:.0f} GB, more "
                "than 100 times its size in the .zip, so it is not read; unpack the bundle "
                "yourself if you trust it, and choose the folder."
            )
        with zipfile.ZipFile(self.path) as file, file.open(member) as stream:
            yield stream


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/"))
    return not parts.is_absolute() and ".." not in parts.parts


def is_bundle(path: Path) -> bool:
    """Whether a path is a MONAI bundle: a folder, or a .zip of one, with its configs."""
    if path.is_dir():
        return any((path / name).is_file() for name in _MARKERS)
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    try:
        return _Zip(path).top is not None
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def read_bundle(path: Path, trust: bool = False) -> CheckpointFile:
    """Read a MONAI bundle's weights, and from its configuration what network and input they need.

    Parameters
    ----------
    path : Path
        The bundle's folder, or a .zip of it.
    trust : bool
        Allow the weights file to run the Python code in it, as in `read_file`; the
        configuration is never run.

    Returns
    -------
    CheckpointFile
        Its header has, where known, "architecture" (text such as
        "monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)"),
        "class_names", "input" (fields of `InputSpec`) and "output".

    Raises
    ------
    CheckpointError
        If the bundle has no weights, or one of its files is damaged.
    """
    try:
        bundle = _Folder(path) if path.is_dir() else _Zip(path)
        if not any(bundle.has(name) for name in _MARKERS):
            raise CheckpointError(
                f"{path} is not a MONAI bundle: it has no {_METADATA}; choose the folder that "
                "'configs' and 'models' are in, or a .zip of it."
            )
        weights, notes = _weights(bundle)
        with bundle.file(weights) as copy:
            try:
                file = read_one_file(copy, trust)
            except CheckpointError as exc:
                raise CheckpointError(str(exc).replace(str(copy), f"{path} ({weights})")) from exc
        header, more = _described(bundle, file.module is not None)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise CheckpointError(
            f"{path} cannot be read completely; copy or download it again."
        ) from exc
    except (RuntimeError, NotImplementedError) as exc:  # encrypted, or an unknown compression
        raise CheckpointError(f"{path} cannot be unpacked ({exc}); unpack it yourself.") from exc
    notes = (*file.notes, *notes, *more)
    return replace(file, path=path, header=header, notes=notes, kind="MONAI bundle")


def _weights(bundle: _Folder | _Zip) -> tuple[str, tuple[str, ...]]:
    """The weights file's name in the bundle, and what to say of the choice."""
    names = bundle.names("models")
    for ending in (".pt", ".pth", ".safetensors", ".ts"):
        found = [n for n in names if n.lower().endswith(ending)]
        if f"models/model{ending}" in found:
            return f"models/model{ending}", ()
        if len(found) > 1:
            others = ", ".join(n.rpartition("/")[2] for n in found[1:])
            return found[0], (f"weights of {found[0]} are used; there are also {others}",)
        if found:
            return found[0], ()
    raise CheckpointError(
        f"{bundle.path} has no weights (models/model.pt); download the whole bundle, for example "
        "with python -m monai.bundle download."
    )


def _described(bundle: _Folder | _Zip, whole: bool) -> tuple[dict[str, Any], list[str]]:
    """The header that a bundle's metadata and configuration amount to, and notes.

    `whole` says that the weights file is a complete network.
    """
    notes: list[str] = []
    configs = [Config(_parsed(bundle, name)) for name in _CONFIGS if bundle.has(name)]
    metadata = _parsed(bundle, _METADATA) if bundle.has(_METADATA) else {}
    header: dict[str, Any] = {}
    if not whole:
        try:
            found = (config.architecture() for config in configs)
            header["architecture"] = next(text for text in found if text is not None)
        except StopIteration:
            notes.append(
                "the bundle's configuration does not define its network; give it: "
                "load_model(path, arch=...)"
            )
        except NotPlain as exc:
            notes.append(
                f"the bundle's network is defined by Python code ({exc}), which is not run; give "
                "the network: load_model(path, arch=...)"
            )
    names = _class_names(metadata)
    if names:
        header["class_names"] = names
    fields = _input(configs, metadata, notes)
    if fields:
        header["input"] = fields
    ends = (config.steps("postprocessing") for config in configs)
    output = next((kind for steps in ends if steps and (kind := output_of(steps))), None)
    if output is not None:
        header["output"] = output
    return header, notes


def _input(configs: list[Config], metadata: dict, notes: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    all_steps = (config.steps() for config in configs)
    steps = next((steps for steps in all_steps if steps is not None), None)
    if steps is not None:
        fields, said = input_of(steps)
        notes += said
    described = _first(metadata, "inputs")
    shape = described.get("spatial_shape")
    done = read_steps(fields.get("steps", ()))
    if (
        isinstance(shape, list)
        and len(shape) == 3
        and all(type(n) is int and n > 0 for n in shape)
        and fixed_shape(done) is None
    ):
        fields["shape"] = shape
        if done:
            notes.append(
                "after the bundle's steps, scans are padded or cropped about their centre to the "
                f"{' x '.join(map(str, shape))} voxels that its metadata says"
            )
    channels = described.get("num_channels")
    if type(channels) is int and channels > 1:
        fields["channels"] = channels
    return fields


def _class_names(metadata: dict[str, Any]) -> list[str] | None:
    """One name for each output, or None."""
    described = _first(metadata, "outputs")
    names = described.get("channel_def")
    if not isinstance(names, dict):
        return None
    names = {str(k): v for k, v in names.items()}
    n = described.get("num_channels", len(names))
    if n != len(names) or any(not isinstance(names.get(str(c)), str) for c in range(len(names))):
        return None
    return [names[str(c)] for c in range(len(names))]


def _first(metadata: dict[str, Any], side: str) -> dict[str, Any]:
    """The description of a network's first input or output, empty if there is none."""
    value: Any = metadata.get("network_data_format")
    value = value.get(side) if isinstance(value, dict) else None
    value = next(iter(value.values()), None) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _parsed(bundle: _Folder | _Zip, name: str) -> dict[str, Any]:
    text = bundle.text(name)
    try:
        is_json = name.endswith(".json")
        if len(text) > (_LARGEST_TEXT if is_json else _LARGEST_YAML):
            raise ValueError("too long")
        content = json.loads(text) if is_json else yaml.load(text, _SafeLoader)
    except (ValueError, yaml.YAMLError, RecursionError) as exc:
        kind = "JSON" if name.endswith(".json") else "YAML"
        raise CheckpointError(
            f"'{name}' of the bundle {bundle.path} is not {kind} that can be read; repair it, or "
            "copy or download the bundle again."
        ) from exc
    if not isinstance(content, dict):
        raise CheckpointError(
            f"'{name}' of the bundle {bundle.path} is not a table of names and values; copy or "
            "download the bundle again."
        )
    return content
