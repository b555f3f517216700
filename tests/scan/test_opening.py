"""Files are opened by what is in them: packing, format and halves, whatever the names say."""

import bz2
import gzip
import importlib.util
import itertools
import lzma
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis._napari.contributions import get_reader, read_scans
from napari_cnnvis.cli import main
from napari_cnnvis.cohort.finding import find_scans
from napari_cnnvis.cohort.run import read_scan
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.training.grids import read_grid

SHAPE = (6, 7, 5)
DATA = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
AFFINE = np.array([[-1.5, 0, 0, 3], [0, 2, 0, 5], [0, 0, 2.5, -7], [0, 0, 0, 1]])
PACK = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "gzip twice": lambda content: gzip.compress(gzip.compress(content)),
}
SINGLE = {"NIfTI": nib.Nifti1Image, "NIfTI-2": nib.Nifti2Image, "MGH": nib.MGHImage}
#: names, and which content they promise
NAMES = {
    "a.nii": ("NIfTI", "plain"),
    "a.nii.gz": ("NIfTI", "gzip"),
    "A.NII.GZ": ("NIfTI", "gzip"),
    "a.nii.bz2": ("NIfTI", "bzip2"),
    "a.nii.xz": ("NIfTI", "xz"),
    "a.mgh": ("MGH", "plain"),
    "a.mgz": ("MGH", "gzip"),
    "a.img": None,
    "a.hdr": None,
    "a.dat": None,
    "a": None,
}


def content_of(kind, packing):
    image = SINGLE[kind](DATA, AFFINE)
    return PACK[packing](image.to_bytes())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "packing"), [*itertools.product(SINGLE, PACK)])
def test_a_scan_is_read_whatever_its_name(tmp_path, kind, packing, name):
    path = tmp_path / name
    path.write_bytes(content_of(kind, packing))
    volume = cv.read_volume(path)
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.orientation_known
    assert volume.name.lower() == "a"
    promised = NAMES[name] == (kind.removesuffix("-2"), packing)
    assert [path.name in note and "call it a." in note.lower() for note in volume.notes] == (
        [] if promised else [True]
    )
    assert read_grid(path).shape == SHAPE


def test_what_the_note_advises_is_a_name_without_a_note(tmp_path):
    for number, (kind, packing) in enumerate(itertools.product(SINGLE, ("plain", "gzip", "bzip2"))):
        path = tmp_path / f"{number}.dat"
        path.write_bytes(content_of(kind, packing))
        (note,) = cv.read_volume(path).notes
        advised = tmp_path / note.rpartition("call it ")[2].removesuffix(".")
        path.rename(advised)
        assert not cv.read_volume(advised).notes


PAIRS = {"NIfTI": nib.Nifti1Pair, "NIfTI-2": nib.Nifti2Pair, "Analyze": nib.Spm2AnalyzeImage}


@pytest.mark.parametrize("ends", [("", ""), (".gz", ".gz"), (".gz", ""), ("", ".gz"), (".bz2", "")])
@pytest.mark.parametrize("packings", [*itertools.product(("plain", "gzip"), repeat=2)])
@pytest.mark.parametrize("kind", PAIRS)
def test_both_halves_of_a_pair_are_read_by_what_is_in_them(tmp_path, kind, packings, ends):
    whole = tmp_path / "whole"
    whole.mkdir()
    image = PAIRS[kind](DATA, AFFINE)
    image.to_filename(whole / "a.img")
    for half, packing, end in zip(("hdr", "img"), packings, ends, strict=True):
        content = PACK[packing]((whole / f"a.{half}").read_bytes())
        (tmp_path / f"a.{half}{end}").write_bytes(content)
    if kind == "Analyze":
        shutil.copy(whole / "a.mat", tmp_path)
    for half, end in zip(("hdr", "img"), ends, strict=True):
        volume = cv.read_volume(tmp_path / f"a.{half}{end}")
        np.testing.assert_array_equal(volume.data, DATA)
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
        assert volume.orientation_known and volume.name == "a"


@pytest.mark.parametrize("half", ["hdr", "img", "HDR", "img.gz"])
def test_half_a_scan_says_what_is_missing(tmp_path, plain, half):
    nib.Nifti1Pair(DATA, AFFINE).to_filename(tmp_path / "b.img")
    path = tmp_path / f"a.{half}"
    shutil.copy(tmp_path / f"b.{half[:3].lower()}", path)
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    other = {"hdr": "a.img", "img": "a.hdr", "HDR": "a.IMG", "img.gz": "a.hdr.gz"}[half]
    assert f"the other, {other}," in plain(caught.value, path)


def tar_start():
    return b"\0" * 257 + b"ustar" + b"\0" * 400


FOREIGN = {
    "ZIP": b"PK\x03\x04" + b"\1" * 600,
    "7z": b"7z\xbc\xaf\x27\x1c" + b"\1" * 600,
    "RAR": b"Rar!\x1a\x07" + b"\1" * 600,
    "tar": tar_start(),
    "DICOM": b"\0" * 128 + b"DICM" + b"\0" * 600,
    "NRRD": b"NRRD0005\n# a\n",
    "MetaImage": b"ObjectType = Image\nNDims = 3\n",
    "TIFF": b"II*\0" + b"\1" * 600,
    "PNG": b"\x89PNG\r\n\x1a\n" + b"\1" * 600,
    "JPEG": b"\xff\xd8\xff\xe0" + b"\1" * 600,
    "PDF": b"%PDF-1.7\n",
    "zeros": b"\0" * 5000,
}


@pytest.mark.parametrize("packing", ["plain", "gzip"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_under_a_scans_name_are_named(tmp_path, plain, kind, name, packing):
    path = tmp_path / name
    path.write_bytes(PACK[packing](FOREIGN[kind]))
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    assert kind in plain(caught.value, path)


NIBABELS = Path(nib.__file__).parent / "tests" / "data"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("tiny.mnc", True),
        ("scaled+tlrc.HEAD", True),
        ("scaled+tlrc.BRIK", True),
        ("phantom_EPI_asc_CLEAR_2_1.PAR#2", True),
        ("minc1_4d.mnc#3", True),
        ("anatomical.nii", True),
        ("test.mgz#1", True),
    ],
)
def test_nibabels_other_formats_say_how_they_lie(name, known):
    if not (NIBABELS / name.partition("#")[0]).is_file():
        pytest.skip("nibabel came without its test data")
    volume = cv.read_volume(NIBABELS / name)
    image = nib.load(NIBABELS / name.partition("#")[0])
    np.testing.assert_allclose(volume.affine, image.affine, rtol=1e-6)
    assert volume.orientation_known == known
    data = np.asarray(image.dataobj)
    data = data[..., int(name.partition("#")[2] or 0)] if data.ndim > 3 else data
    np.testing.assert_allclose(volume.data, data, rtol=1e-6)
    if "PAR" in name:
        image.dataobj.file_like.close()


def test_parts_and_packages_that_are_missing_are_named(tmp_path, plain):
    for name in ("T2_.PAR", "small.mnc"):
        if not (NIBABELS / name).is_file():
            pytest.skip("nibabel came without its test data")
        shutil.copy(NIBABELS / name, tmp_path)
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(tmp_path / "T2_.PAR")
    assert "T2_.REC is not next to it" in plain(caught.value, "T2_.PAR")
    if importlib.util.find_spec("h5py") is None:
        with pytest.raises(VolumeError) as caught:
            cv.read_volume(tmp_path / "small.mnc")
        assert "pip install h5py" in plain(caught.value, "small.mnc")


def test_a_packed_file_without_content_is_said(tmp_path, plain):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    assert "nothing is in it" in plain(caught.value, path)


def test_surfaces_are_told_from_volumes(tmp_path, plain):
    values = nib.gifti.GiftiDataArray(np.zeros(9, np.float32))
    nib.save(nib.GiftiImage(darrays=[values]), tmp_path / "a.gii")
    axes = (
        nib.cifti2.ScalarAxis(["x"]),
        nib.cifti2.BrainModelAxis.from_mask(np.ones(4), name="CORTEX_LEFT"),
    )
    cifti = nib.Cifti2Image(np.zeros((1, 4), np.float32), nib.Cifti2Header.from_axes(axes))
    nib.save(cifti, tmp_path / "a.dscalar.nii")
    for name in ("a.gii", "a.dscalar.nii"):
        with pytest.raises(VolumeError) as caught:
            cv.read_volume(tmp_path / name)
        assert "surface" in plain(caught.value, name)


def test_packed_by_zstd_is_read_or_says_what_it_needs(tmp_path, plain):
    path = tmp_path / "a.nii.zst"
    found = [m for m in ("compression", "backports") if importlib.util.find_spec(m)]
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\0" * 100)
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    assert found or "backports.zstd" in plain(caught.value, path)


@pytest.mark.parametrize("share", [0.02, 0.6, 0.97])
@pytest.mark.parametrize("name", ["a.nii", "a.mgz", "a.dat"])
def test_what_is_cut_off_is_damaged_also_under_another_name(tmp_path, plain, name, share):
    content = content_of("NIfTI", "gzip")
    path = tmp_path / name
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    plain(caught.value, path)


def test_what_is_packed_without_end_is_refused(tmp_path, plain):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content_of("NIfTI", "gzip twice")))
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    assert "unpack" in plain(caught.value, path)


def test_napari_the_command_line_and_lists_of_scans_open_them_and_say_so(
    tmp_path, capsys, monkeypatch
):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", said.append)
    rising = np.linspace(0, 9, 8 * 8 * 8, dtype=np.float32).reshape(8, 8, 8)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(nib.Nifti1Image(rising, AFFINE).to_bytes())
    assert get_reader(str(path)) is read_scans
    ((data, _, kind),) = read_scans(str(path))
    assert (data.shape, kind) == ((8, 8, 8), "image")
    assert main(["supervoxels", str(path), "-o", str(tmp_path / "levels.nii")]) == 0
    (entry,) = [e for e in find_scans(tmp_path) if e.path == path]
    for text in (*said, capsys.readouterr().out, *read_scan(entry).notes):
        assert "call it a.nii." in text
    assert said
