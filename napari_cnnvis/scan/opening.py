"""Image files opened by what is in them: packed or not, single or in two halves, whatever their names.

nibabel goes by the name. Where name and content agree, it opens the file; else the content decides.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
from nibabel.filebasedimages import FileBasedImage
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError, SpatialImage

from napari_cnnvis.errors import VolumeError

__all__ = [
    "SCAN_ENDINGS",
    "OpenedImage",
    "files_of",
    "opened_image",
    "scan_stem",
    "split_name",
    "unpacked",
]

#: of the files that count as scans where a folder is searched
SCAN_ENDINGS = (
    ".nii.gz",
    ".nii",
    ".mgz",
    ".mgh",
    ".img",
    ".img.gz",
    ".mnc",
    ".nii.bz2",
    ".nii.zst",
)
#: what packed files begin with, and what packed them
_PACKERS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
}
_PACKED_ENDINGS = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", ".xz": "xz"}
#: one more than this is made to fill the memory
_MOST_PACKED = 2
_HALVES = {".img": ".hdr", ".hdr": ".img"}
#: nibabel's codes of the types of voxels in MGH
_MGH_TYPES = (0, 1, 3, 4, 10)
#: so much of a file says what it is
_START = 544
#: what else there is under the names of scans, by its first bytes or those from a place on
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"PK\x03\x04", "a ZIP archive", "unpack it, and choose the scan in it"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it, and choose the scan in it"),
    (0, b"Rar!", "a RAR archive", "unpack it, and choose the scan in it"),
    (257, b"ustar", "a tar archive", "unpack it, and choose the scan in it"),
    (128, b"DICM", "DICOM", "convert the series to NIfTI, such as with dcm2niix"),
    (0, b"NRRD", "NRRD", "save it as NIfTI, such as with 3D Slicer or ITK-SNAP"),
    (0, b"ObjectType", "MetaImage", "save it as NIfTI, such as with 3D Slicer or ITK-SNAP"),
    (0, b"NDims", "MetaImage", "save it as NIfTI, such as with 3D Slicer or ITK-SNAP"),
    (0, b"II*\0", "TIFF", "save it as NIfTI, with its voxel size"),
    (0, b"MM\0*", "TIFF", "save it as NIfTI, with its voxel size"),
    (0, b"\x89PNG", "a picture (PNG)", "choose the scan itself"),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", "choose the scan itself"),
    (0, b"%PDF", "a PDF", "choose the scan itself"),
)


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image whose header is read, and whose voxels can be read until it is closed.

    Attributes
    ----------
    image : nibabel image
    start : bytes
        The first bytes of the file with the header, unpacked.
    voxels : Path
        The file that holds the voxels.
    packed : tuple of str
        What packed that file, the outermost first.
    notes : tuple of str
        What its name does not say.
    """

    image: SpatialImage
    start: bytes
    voxels: Path
    packed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Part:
    """A file, unpacked by what is in it."""

    path: Path
    stream: IO[bytes]
    packed: tuple[str, ...]
    start: bytes


def split_name(path: str | Path) -> tuple[str, str, str]:
    """The name of an image without its ending, the ending, and that of what packed it.

    Examples
    --------
    >>> split_name("study/sub-01.T1.nii.gz")
    ('sub-01.T1', '.nii', '.gz')
    >>> split_name("brain.mgz")
    ('brain', '.mgz', '')
    """
    name = Path(path).name
    packing = next((end for end in _PACKED_ENDINGS if name.lower().endswith(end)), "")
    plain = name[: len(name) - len(packing)]
    stem, dot, ending = plain.rpartition(".")
    return (stem, f".{ending.lower()}", packing) if stem and dot else (plain, "", packing)


def scan_stem(path: str | Path) -> str:
    """What a scan is called: the name of its file without the endings."""
    return split_name(path)[0]


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[tuple[IO[bytes], tuple[str, ...]]]:
    """A file's content, and what packed it, the outermost first.

    Raises
    ------
    VolumeError
        If it is packed more than twice, or by zstd and there is no package that unpacks it.
    OSError, EOFError
        If it cannot be read, or is damaged.
    """
    with contextlib.ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        packed: list[str] = []
        while packer := _packer(stream):
            if len(packed) == _MOST_PACKED:
                raise VolumeError(f"{path} is packed more than twice; unpack it first.")
            packed.append(packer)
            stream = stack.enter_context(_unpacker(packer, path)(stream))
        yield stream, tuple(packed)


def _packer(stream: IO[bytes]) -> str:
    start = stream.read(8)
    stream.seek(0)
    return next((name for mark, name in _PACKERS.items() if start.startswith(mark)), "")


def _unpacker(packer: str, path: Path) -> Callable[[IO[bytes]], Any]:
    if packer != "zstd":
        return {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[packer]  # type: ignore[return-value]
    for module in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return import_module(module).open
    raise VolumeError(
        f"{path} is packed by zstd, which needs one more package: pip install backports.zstd; or "
        "unpack it with zstd -d."
    )


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator[OpenedImage]:
    """An image file, for as long as the block takes.

    Parameters
    ----------
    path : Path
        Of a plain file; either half of a pair.

    Raises
    ------
    VolumeError
        If it is not an image of a volume, or half of one.
    ImageFileError
        If nothing is known of it. On damaged bytes nibabel raises other kinds as well.
    """
    paths = _halves_of(path)
    with contextlib.ExitStack() as stack:
        parts = {role: _part(stack, file) for role, file in paths.items()}
        head = parts.get("header", parts["image"])
        kind = _kind_of(head.start, pair=len(parts) == 2)
        voxels, packed = parts["image"].path, parts["image"].packed
        usual = kind is None or _is_usual(kind, parts)
        image = _loaded(path, kind, parts, usual)
        opened = getattr(image.dataobj, "file_like", None)
        if opened is not None and hasattr(opened, "close"):  # nibabel leaves those of PAR/REC open
            stack.callback(opened.close)
        notes = () if kind is None or usual else _said_of_names(kind, parts)
        yield OpenedImage(image, head.start, voxels, packed, notes)


def files_of(path: Path) -> list[Path]:
    """The files that an image is read from: itself, its other half, and SPM's file with its affine.

    Raises
    ------
    VolumeError
        If its other half is not there.
    OSError
        If it cannot be read.
    """
    halves = _halves_of(path)
    mat = _mat_of(halves["image"])
    return [*halves.values(), *([mat] if len(halves) == 2 and mat.is_file() else [])]


def _mat_of(voxels: Path) -> Path:
    return voxels.with_name(f"{scan_stem(voxels)}.mat")


def _halves_of(path: Path) -> dict[str, Path]:
    """The file, or the two halves of a pair, by what each holds."""
    stem, ending, packing = split_name(path)
    if ending not in _HALVES:
        return {"image": path}
    written = path.name[len(stem) : len(path.name) - len(packing)]  # perhaps in capitals
    other = _HALVES[ending]
    ends = [other.upper(), other] if written.isupper() else [other, other.upper()]
    names = [
        stem + end + pack for end in ends for pack in dict.fromkeys((packing, "", *_PACKED_ENDINGS))
    ]
    partner = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if partner is not None:
        pair = {ending: path, other: partner}
        return {"image": pair[".img"], "header": pair[".hdr"]}
    with unpacked(path) as (stream, _):
        if _kind_of(stream.read(_START), pair=False) is not None:  # both in one
            return {"image": path}
    raise VolumeError(
        f"{path} is one half of a scan, and the other, {names[0]}, is not next to it; copy both into "
        "one folder."
    )


def _part(stack: contextlib.ExitStack, path: Path) -> _Part:
    stream, packed = stack.enter_context(unpacked(path))
    start = stream.read(_START)
    stream.seek(0)
    return _Part(path, stream, packed, start)


def _kind_of(start: bytes, pair: bool) -> type[SpatialImage] | None:
    """nibabel's class for a header; None where its first bytes do not tell."""
    nifti1, nifti2 = start[344:348], start[4:8]
    if pair:
        if nifti1 in (b"ni1\0", b"n+1\0"):
            return nib.Nifti1Pair
        if nifti2 in (b"ni2\0", b"n+2\0"):
            return nib.Nifti2Pair
        return nib.Spm2AnalyzeImage if start[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c") else None
    if nifti1 == b"n+1\0":
        return nib.Nifti1Image
    if nifti2 == b"n+2\0":
        return nib.Nifti2Image
    numbers = struct.unpack_from(">6i", start) if len(start) >= 24 else (0, 0, 0)
    version, *sizes, value_type = numbers
    is_mgh = version == 1 and min(sizes) > 0 and value_type in _MGH_TYPES
    return nib.MGHImage if is_mgh else None


def _is_usual(kind: type[SpatialImage], parts: dict[str, _Part]) -> bool:
    """Whether nibabel finds all that there is by its names."""
    names = [split_name(part.path) for part in parts.values()]
    for part, (_, ending, packing) in zip(parts.values(), names, strict=True):
        expected = "gzip" if ending == ".mgz" else _PACKED_ENDINGS.get(packing, "")
        if part.packed != ((expected,) if expected else ()) or expected == "xz":
            return False
    endings, packings = {name[1] for name in names}, {name[2] for name in names}
    if len(parts) == 2:
        # the .mat of SPM is not packed with the halves
        return len(packings) == 1 and not (kind is nib.Spm2AnalyzeImage and packings != {""})
    # of MGH, nibabel leaves the file open
    return kind is not nib.MGHImage and endings == {".nii"}


def _loaded(
    path: Path, kind: type[SpatialImage] | None, parts: dict[str, _Part], usual: bool
) -> SpatialImage:
    if kind is None:
        image = _by_name(path, parts.get("header", parts["image"]).start)
    else:
        try:
            image = nib.load(path) if usual else kind.from_file_map(_file_map(parts))
        except (ValueError, HeaderDataError):
            if not issubclass(kind, nib.Nifti1Pair):
                raise
            image = _without_forms(kind).from_file_map(_file_map(parts))
    if isinstance(image, nib.Cifti2Image | nib.GiftiImage):
        raise VolumeError(
            f"{path} holds values on the surface of the brain, and no volume; choose a scan of voxels."
        )
    return cast(SpatialImage, image)


def _by_name(path: Path, start: bytes) -> FileBasedImage:
    try:
        return nib.load(path)
    except Exception:  # of any kind on bytes that are of another format
        for place, mark, what, remedy in _FOREIGN:
            if start[place : place + len(mark)] == mark:
                raise VolumeError(f"{path} is {what}, whatever its name says; {remedy}.") from None
        if not start:
            raise VolumeError(
                f"{path} is packed, and nothing is in it; copy or download it again."
            ) from None
        if not start.strip(b"\0"):
            raise VolumeError(f"{path} is filled with zeros; copy or download it again.") from None
        raise


def _file_map(parts: dict[str, _Part]) -> dict[str, FileHolder]:
    """Where nibabel finds each part: in its unpacked stream."""
    for part in parts.values():
        part.stream.seek(0)
    holders = {
        role: FileHolder(str(part.path), fileobj=cast(Any, part.stream))
        for role, part in parts.items()
    }
    return holders | {"mat": FileHolder(str(_mat_of(parts["image"].path)))}


def _without_forms(kind: type[SpatialImage]) -> type[SpatialImage]:
    """The class for a header whose qform is no rotation: the affine is found without it."""
    header = kind.header_class
    forgiving = type("Header", (header,), {"get_best_affine": header.get_base_affine})
    return type("Image", (kind,), {"header_class": forgiving})


def _said_of_names(kind: type[SpatialImage], parts: dict[str, _Part]) -> tuple[str, ...]:
    """What a name does not say, for each part of which nibabel's other users would stumble."""
    notes = []
    for part in parts.values():
        stem, ending, _ = split_name(part.path)
        what = "MGH" if kind is nib.MGHImage else "NIfTI" if len(parts) == 1 else ""
        how = f"packed by {' and '.join(part.packed)}" if part.packed else "not packed"
        better = {"MGH": ".mgh", "NIfTI": ".nii"}.get(what, ending)
        better += "".join(
            e for e, packer in _PACKED_ENDINGS.items() if part.packed[:1] == (packer,)
        )
        better = ".mgz" if better == ".mgh.gz" else better
        if f"{stem}{better}".lower() != part.path.name.lower() or len(part.packed) > 1:
            held = " and ".join(filter(None, (f"an image in {what}" if what else "", how)))
            notes.append(
                f"{part.path.name} is {held}, which its name does not say; it was read as what it is. "
                f"Other programs go by the name: call it {stem}{better}."
            )
    return tuple(notes)
