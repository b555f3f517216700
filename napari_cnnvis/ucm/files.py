"""Hierarchies and their levels as files.

A saved hierarchy is one ``.npz`` with the arrays of `Hierarchy` and a version. Label
volumes made elsewhere come as ``.npy``, ``.npz``, NIfTI (or what else nibabel reads)
or folders of PPM slices.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import nibabel as nib
import numpy as np

from napari_cnnvis.errors import MethodError, VolumeError, some_of
from napari_cnnvis.reading import check_fits, check_plain, unpacks_too_far
from napari_cnnvis.scan.axes import volumes_of
from napari_cnnvis.scan.files import load_image
from napari_cnnvis.scan.whole_numbers import whole_numbers
from napari_cnnvis.ucm.forest import label_volume, leaf_order, sums_over_nodes
from napari_cnnvis.ucm.ppm import level_folders, read_slices
from napari_cnnvis.writing import PYTHON, atomic_path, check_output

__all__ = [
    "check_levels",
    "is_saved_hierarchy",
    "load_hierarchy",
    "read_levels",
    "save_hierarchy",
    "write_levels",
]

#: the first rises when older readers cannot read the file any more
FORMAT = "napari-cnnvis hierarchy"
VERSION = 1
_ARRAYS = {"leaves": np.int32, "parents": np.int64, "altitudes": np.float64, "levels": np.int64}
_CHOOSE = "a saved hierarchy (.npz) or a label volume"
_LEVELS = (".nii", ".nii.gz", ".npy")


class Regions(Protocol):
    """What is written of a `Hierarchy`; see there."""

    @property
    def leaves(self) -> np.ndarray: ...
    @property
    def parents(self) -> np.ndarray: ...
    @property
    def altitudes(self) -> np.ndarray: ...
    @property
    def levels(self) -> np.ndarray: ...
    @property
    def origin(self) -> dict[str, Any]: ...


def save_hierarchy(hierarchy: Regions, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write a hierarchy to one compressed ``.npz``, beside the target and moved into place.

    It holds no affine: a hierarchy lies on the voxels of its volume.

    Parameters
    ----------
    hierarchy : Hierarchy
    path : path-like
    overwrite : bool
        Replace a file that is there; never one that the hierarchy was read from.

    Raises
    ------
    VolumeError
        If the ending is another, the folder cannot be written to, or there is such a file.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise VolumeError(f"Cannot write {path.name}; a hierarchy is saved as .npz.")
    check_output(path, hierarchy.origin.get("files") or (), overwrite)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.array(FORMAT),
            version=np.array(VERSION),
            **{name: getattr(hierarchy, name) for name in _ARRAYS},
        )
    return path


def is_saved_hierarchy(path: str | os.PathLike) -> bool:
    """Whether `load_hierarchy` is the reader for this file; it may still be damaged."""
    path = Path(path)
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in ("format", *_ARRAYS)} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_hierarchy(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the arrays of a hierarchy that `save_hierarchy` wrote: leaves, parents, altitudes, levels.

    Raises
    ------
    VolumeError
        If there is no such file, it is something else, damaged or of a newer version,
        or its arrays do not make up a hierarchy.
    """
    path = Path(path)
    arrays = _read_npz(path)
    if str(arrays.get("format")) != FORMAT or not {"version", *_ARRAYS} <= set(arrays):
        raise VolumeError(
            f"{path} is not a saved hierarchy; choose a file that Hierarchy.save wrote, or read "
            "label volumes with Hierarchy.read."
        )
    if arrays["version"].shape or arrays["version"] != VERSION:
        raise VolumeError(
            f"{path} was saved by another version of napari-cnnvis (format {arrays['version']}, "
            f"this one reads {VERSION}); update napari-cnnvis or build the hierarchy again."
        )
    problem = _problem(*(arrays[name] for name in _ARRAYS))
    if problem:
        raise VolumeError(
            f"{path} does not hold a hierarchy: {problem}. Build the hierarchy again and save it."
        )
    return {name: arrays[name].astype(kind, copy=False) for name, kind in _ARRAYS.items()}


def read_levels(path: str | os.PathLike | Sequence[str | os.PathLike]) -> list[np.ndarray]:
    """Read nested label volumes, for `Hierarchy.from_levels`.

    Parameters
    ----------
    path : path-like, or a sequence of them
        ``.npy`` (3D: one level; 4D: levels along the first axis), ``.npz`` with one such
        array or one that is called "labels" or "levels", NIfTI or another image (3D, or
        4D with levels along the last axis), a saved hierarchy, or a folder of PPM slices
        or of such folders (see `ppm`). Several files or folders give their levels together.

    Returns
    -------
    list of integer arrays, shape (i, j, k)
        Fine to coarse, that is by falling number of regions.

    Raises
    ------
    VolumeError
        If a file is missing or damaged, or holds something else than labels.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise VolumeError("No files were given; choose at least one with a label volume.")
    levels = [level for p in paths for level in _levels_of(Path(p))]
    return sorted(levels, key=lambda level: -len(np.unique(level)))


def write_levels(
    hierarchy: Regions,
    path: str | os.PathLike,
    affine: np.ndarray | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the levels of a hierarchy as label volumes, fine to coarse; 0 = background.

    Parameters
    ----------
    hierarchy : Hierarchy
    path : path-like
        ``.nii`` or ``.nii.gz`` (levels along the last axis) or ``.npy`` (along the first).
    affine : array, shape (4, 4), optional
        The scan's; NIfTI needs it.
    overwrite : bool
        Replace a file that is there; never one that the hierarchy was read from.

    Raises
    ------
    MethodError
        If NIfTI is asked for without an affine.
    VolumeError
        If there are no levels, the ending is another, the affine is not a 4 x 4 matrix,
        the folder cannot be written to, or there is such a file.
    """
    path = check_levels(path, hierarchy.origin.get("files") or (), overwrite)
    if not len(hierarchy.levels):
        raise VolumeError("The hierarchy has no levels to write; build it with counts=[300, 75].")
    n_nodes = len(hierarchy.parents)
    labels = [label_volume(hierarchy.leaves, n_nodes, level) for level in hierarchy.levels]
    if path.suffix.lower() == ".npy":
        with atomic_path(path) as temporary:
            np.save(temporary, np.stack(labels))
        return path
    if affine is None:
        raise MethodError(
            "A NIfTI file needs to know where its voxels lie; give the scan's affine, "
            "write_levels(..., affine=volume.affine), or write .npy."
        )
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError("The affine is not a finite 4 x 4 matrix; give the scan's.")
    image = nib.Nifti1Image(np.stack(labels, axis=-1), affine)
    image.header.set_xyzt_units("mm")
    image.header.set_intent("label")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def check_levels(
    path: str | os.PathLike,
    inputs: Iterable[str | os.PathLike | None] = (),
    overwrite: bool = False,
    how: str = PYTHON,
) -> Path:
    """The path, if `write_levels` can write there; see `check_output`."""
    path = Path(path)
    if not path.name.lower().endswith(_LEVELS):
        raise VolumeError(f"Cannot write {path.name}; use one of the endings {', '.join(_LEVELS)}.")
    return check_output(path, inputs, overwrite, how)


def _levels_of(path: Path) -> list[np.ndarray]:
    if path.is_dir():
        return [read_slices(folder) for folder in level_folders(path)]
    if is_saved_hierarchy(path):
        tree = load_hierarchy(path)
        n_nodes = len(tree["parents"])
        return [label_volume(tree["leaves"], n_nodes, level) for level in tree["levels"]]
    if path.suffix.lower() == ".npz":
        return _split(_array_of_labels(_read_npz(path), path), 0, path)
    if path.suffix.lower() == ".npy":
        check_fits(check_plain(path, _CHOOSE).stat().st_size, path)
        with _opened(path) as file:
            labels = np.lib.format.read_array(file, allow_pickle=False)
        return _split(labels, 0, path)
    image = load_image(path)
    return _split(volumes_of(image.data, path)[0], -1, path, image.step)


def _array_of_labels(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray:
    for name in ("labels", "levels"):
        if name in arrays:
            return arrays[name]
    if len(arrays) != 1:
        raise VolumeError(
            f"{path} holds {len(arrays)} arrays ({some_of(arrays)}), and it is not clear which "
            'are the labels; call the array of all levels "labels".'
        )
    return next(iter(arrays.values()))


def _split(labels: np.ndarray, level_axis: int, path: Path, step: float = 0.0) -> list[np.ndarray]:
    """The 3D label volumes in a 3D or 4D array, as integers."""
    if labels.ndim not in (3, 4) or 0 in labels.shape:
        raise VolumeError(
            f"{path} has shape {labels.shape}; label volumes are 3D, or 4D with one for each level."
        )
    if labels.dtype.kind == "f":
        whole = whole_numbers(labels, step)
        if whole is None or np.abs(whole).max() > 2**53:
            raise VolumeError(
                f"{path} holds fractions; labels have to be whole numbers. Choose the "
                "segmentation, not the scan or a probability map."
            )
        labels = whole.astype(np.int64)
    if labels.dtype.kind not in "biu":
        raise VolumeError(f"{path} holds {labels.dtype} values; labels have to be whole numbers.")
    native = np.uint8 if labels.dtype.kind == "b" else labels.dtype.newbyteorder("=")
    labels = labels.astype(native, copy=False)
    return [labels] if labels.ndim == 3 else list(np.moveaxis(labels, level_axis, 0))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an ``.npz``, each read to its end, so that its checksum is tested."""
    with _opened(path) as file:
        if file.read(2) != b"PK":
            raise VolumeError(f"{path} is not an .npz file; choose one that numpy wrote.")
        with zipfile.ZipFile(file) as archive:
            packed, inside = path.stat().st_size, sum(m.file_size for m in archive.infolist())
            if unpacks_too_far(packed, inside):
                raise VolumeError(
                    f"{path} has {packed / 1e6:.3g} MB but unpacks to {inside / 1e9:.3g} GB, which no "
                    "label volume does; it was not opened."
                )
            check_fits(inside, path)
            arrays = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    arrays[name.removesuffix(".npy")] = _read_array(member)
            return arrays


def _read_array(file: IO[bytes]) -> np.ndarray:
    array = np.lib.format.read_array(file, allow_pickle=False)
    if file.read(1):  # to the end, where the checksum is tested
        raise ValueError("more than an array")
    return array


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to decode in the block, with whatever goes wrong in one sentence."""
    check_plain(path, _CHOOSE)
    try:
        with path.open("rb") as file:
            yield file
    except VolumeError:
        raise
    except Exception as exc:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise VolumeError(
            f"{path} cannot be read: it is damaged, incomplete or holds something else than "
            "plain arrays. Copy it again or choose another file."
        ) from exc


def _problem(
    leaves: np.ndarray, parents: np.ndarray, altitudes: np.ndarray, levels: np.ndarray
) -> str | None:
    """What keeps the arrays from being a hierarchy, if anything."""
    kinds = [a.dtype.kind for a in (leaves, parents, levels)]
    if leaves.ndim != 3 or not set(kinds) <= set("iu") or altitudes.dtype.kind != "f":
        return "its arrays have the wrong types or shapes"
    n = int(leaves.max(initial=0))
    if not 1 <= n <= leaves.size or leaves.min() < 0:
        return "its leaves are not numbered from 1"
    if (np.bincount(leaves.ravel(), minlength=n + 1)[1:] == 0).any():
        return "its leaves are not numbered without gaps"
    n_nodes = len(parents) if parents.ndim == 1 else 0
    if n_nodes < n or altitudes.shape != (n_nodes,) or levels.shape[1:] != (n,):
        return "its arrays do not fit together"
    nodes = np.arange(n_nodes)
    merges = parents != nodes
    if (parents < nodes).any() or (parents >= n_nodes).any() or (parents[merges] < n).any():
        return "a region does not come after its parts"
    if not np.isin(nodes[n:], parents[merges]).all():
        return "a region has no parts"
    falls = altitudes[parents] < altitudes
    if not np.isfinite(altitudes).all() or altitudes[:n].any() or falls.any():
        return "its altitudes fall"
    if (levels < 0).any() or (levels >= n_nodes).any() or (np.diff(levels, axis=0) < 0).any():
        return "its levels do not go from fine to coarse"
    parents = parents.astype(np.int64)
    leaf_counts = sums_over_nodes(parents, np.ones(n, dtype=np.int64))
    first_ranks = leaf_order(parents, leaf_counts)
    if not all(_is_segmentation(leaf_counts, first_ranks, level) for level in levels):
        return "a level is not a segmentation"
    return None


def _is_segmentation(
    leaf_counts: np.ndarray, first_ranks: np.ndarray, node_of_leaf: np.ndarray
) -> bool:
    """Whether each leaf lies in its node, and all leaves of the nodes are there."""
    counts, start = leaf_counts[node_of_leaf], first_ranks[node_of_leaf]
    rank = first_ranks[: len(node_of_leaf)]
    whole = np.bincount(node_of_leaf, minlength=len(leaf_counts))[node_of_leaf] == counts
    return bool((whole & (start <= rank) & (rank < start + counts)).all())
