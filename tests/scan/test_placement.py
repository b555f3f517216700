"""Where a scan lies, by its header: what is not said, said twice, damaged, or in another unit."""

import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_cnnvis as cv
from napari_cnnvis.atlas.rois import read_rois
from napari_cnnvis.cli import main
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.training.grids import read_grid

SHAPE = (6, 7, 5)
DATA = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
AFFINE = np.array([[-1.5, 0, 0, 3], [0, 2, 0, 5], [0, 0, 2.5, -7], [0, 0, 0, 1]])
QFORM = AFFINE + np.array([[0, 0, 0, 0.5]] + [[0.0] * 4] * 3)
NIFTI = {
    "one.nii": nib.Nifti1Image,
    "two.nii": nib.Nifti2Image,
    "pair1.img": nib.Nifti1Pair,
    "pair2.img": nib.Nifti2Pair,
}


def nifti(path, sform=AFFINE, qform=QFORM, codes=(4, 1), unit="mm", data=DATA):
    image = NIFTI[path.name](data, AFFINE)
    image.header.set_xyzt_units(unit)
    image.set_qform(qform, codes[1])
    image.set_sform(sform, codes[0])
    image.to_filename(path)
    return path


# formats that do not say which side is left


def mgh(path, flag):
    image = nib.MGHImage(DATA, AFFINE)
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[28:30] = struct.pack(">h", flag)
    path.write_bytes(content)


def analyze(kind, with_mat):
    def write(folder):
        kind(DATA, AFFINE).to_filename(folder / "a.img")
        if not with_mat:
            (folder / "a.mat").unlink(missing_ok=True)
        return folder / "a.img"

    return write


def nifti_codes(*codes):
    return lambda folder: nifti(folder / "one.nii", codes=codes)


def mgh_flag(flag):
    def write(folder):
        mgh(folder / "a.mgh", flag)
        return folder / "a.mgh"

    return write


SILENT = {
    "Analyze 7.5": analyze(nib.AnalyzeImage, False),
    "SPM99 without .mat": analyze(nib.Spm99AnalyzeImage, False),
    "SPM2 without .mat": analyze(nib.Spm2AnalyzeImage, False),
    "MGH without RAS": mgh_flag(0),
    "NIfTI without codes": nifti_codes(0, 0),
}
TELLING = {
    "SPM99 with .mat": analyze(nib.Spm99AnalyzeImage, True),
    "SPM2 with .mat": analyze(nib.Spm2AnalyzeImage, True),
    "MGH with RAS": mgh_flag(1),
    "sform": nifti_codes(1, 0),
    "qform": nifti_codes(0, 1),
}


@pytest.mark.parametrize("kind", SILENT)
def test_formats_that_do_not_say_which_side_is_left_are_unknown_and_it_is_said(tmp_path, kind):
    path = SILENT[kind](tmp_path)
    volume = cv.read_volume(path)
    assert not volume.orientation_known
    (note,) = volume.notes
    assert path.name in note and "left and right" in note
    assert volume.spacing == ((1, 1, 1) if kind.startswith("MGH") else (1.5, 2, 2.5))
    assert read_grid(path).orientation == ""
    # and it stays so in what is written from it
    for ending in (".nii", ".mgz") if kind.startswith("MGH") else (".nii",):
        again = cv.read_volume(cv.write_volume(volume, tmp_path / f"again{ending}"))
        assert not again.orientation_known
        np.testing.assert_array_equal(again.data, DATA)
        np.testing.assert_allclose(again.spacing, volume.spacing)


@pytest.mark.parametrize("kind", TELLING)
def test_formats_that_say_it_are_known(tmp_path, kind):
    volume = cv.read_volume(TELLING[kind](tmp_path))
    assert volume.orientation_known
    assert volume.notes == ()
    expected = QFORM if kind == "qform" else AFFINE
    np.testing.assert_allclose(volume.affine, expected, atol=1e-4)


@pytest.mark.parametrize("kind", SILENT)
def test_the_command_line_says_it(tmp_path, capsys, kind):
    path = SILENT[kind](tmp_path)
    assert main(["supervoxels", str(path), "-o", str(tmp_path / "levels.npz")]) == 0
    assert "left and right" in capsys.readouterr().out


# units


UNITS = {"mm": 1.0, "micron": 1000.0, "meter": 0.001}


@given(
    st.lists(st.floats(0.3, 9), min_size=3, max_size=3),
    st.sampled_from([*UNITS]),
    st.sampled_from([*NIFTI]),
    st.sampled_from([(1, 1), (0, 1), (2, 0)]),
)
def test_lengths_in_other_units_are_the_same_millimetres(
    tmp_path_factory, sizes, unit, name, codes
):
    folder = tmp_path_factory.mktemp("units")
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = -30, 5, 70
    stored = affine.copy()
    stored[:3] *= UNITS[unit]
    volume = cv.read_volume(nifti(folder / name, stored, stored, codes, unit))
    np.testing.assert_allclose(volume.affine, affine, rtol=1e-5, atol=1e-4)
    again = nib.load(cv.write_volume(volume, folder / "out.nii"))
    assert again.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(again.affine, stored, rtol=1e-5)


# sform, qform and their codes


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(4, 1), (1, 0), (0, 3), (2, 2), (0, 0)])
@pytest.mark.parametrize("name", NIFTI)
def test_forms_and_codes_are_kept_when_written_back(tmp_path, name, codes, ending):
    path = nifti(tmp_path / name, codes=codes)
    volume = cv.read_volume(path)
    written = nib.load(cv.write_volume(volume, tmp_path / f"out{ending}"))
    before = nib.load(path)
    for form in ("sform", "qform"):
        (old, code), (new, same) = (
            getattr(i.header, f"get_{form}")(coded=True) for i in (before, written)
        )
        assert code == same
        if code:
            np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before.header["pixdim"][:4], written.header["pixdim"][:4])
    assert isinstance(written, nib.Nifti2Image) == ("2" in name or name == "two.nii")
    # another volume on the same grid, as maps are, and one turned and back, as napari shows it
    turned = volume.reoriented("SAR", remember=True).reoriented(volume.orientation)
    again = nib.load(cv.write_volume(turned, tmp_path / f"turned{ending}"))
    assert int(again.header["sform_code"]) == codes[0]
    assert int(again.header["qform_code"]) == codes[1]


# a form that cannot be used


def no_such_code(header):
    header["sform_code"] = 77


def zero(header):
    for row in "xyz":
        header[f"srow_{row}"] = 0


def not_a_number(header):
    header["srow_y"] = np.nan


def flat(header):
    header["srow_z"] = header["srow_x"]


def in_other_unit(header):
    for row in "xyz":
        header[f"srow_{row}"][:3] *= 1e-3


def no_rotation(header):
    header["quatern_b"] = header["quatern_c"] = 1.5


def quaternion_nan(header):
    header["quatern_d"] = np.nan


def with_damage(path, *damages, **given):
    """A file with a header that nibabel would not write."""
    nifti(path, **given)
    half = path.with_suffix(".hdr") if path.suffix == ".img" else path
    content = bytearray(half.read_bytes())
    kind = nib.Nifti2Header if b"540" in str(len(content)).encode() else type(nib.load(path).header)
    header = kind(bytes(content[: kind.sizeof_hdr]), check=False)
    for damage in damages:
        damage(header)
    content[: kind.sizeof_hdr] = header.binaryblock
    half.write_bytes(content)
    return path


@pytest.mark.parametrize("damage", [zero, not_a_number, flat, in_other_unit, no_such_code])
@pytest.mark.parametrize("name", NIFTI)
def test_a_damaged_sform_gives_way_to_a_good_qform(tmp_path, name, damage):
    volume = cv.read_volume(with_damage(tmp_path / name, damage))
    np.testing.assert_allclose(volume.affine, QFORM, atol=1e-5)
    assert volume.orientation_known
    (note,) = volume.notes
    assert name in note and "The sform" in note and "the qform is taken" in note
    again = cv.read_volume(cv.write_volume(volume, tmp_path / "out.nii"))
    np.testing.assert_allclose(again.affine, QFORM, atol=1e-5)
    assert again.notes == () and int(again.header["qform_code"]) == 1
    assert read_grid(tmp_path / name).spacing == (1.5, 2, 2.5)


@pytest.mark.parametrize("damage", [no_rotation, quaternion_nan])
@pytest.mark.parametrize("name", NIFTI)
def test_a_damaged_qform_gives_way_to_a_good_sform(tmp_path, name, damage):
    volume = cv.read_volume(with_damage(tmp_path / name, damage))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    (note,) = volume.notes
    assert "The qform" in note and "the sform is taken" in note
    again = cv.read_volume(cv.write_volume(volume, tmp_path / "out.nii"))
    np.testing.assert_allclose(again.affine, AFFINE, atol=1e-5)
    assert again.notes == () and int(again.header["sform_code"]) == 4


@pytest.mark.parametrize(
    ("damages", "codes"),
    [((zero,), (4, 0)), ((no_rotation,), (0, 1)), ((flat, quaternion_nan), (4, 1))],
)
@pytest.mark.parametrize("name", NIFTI)
def test_without_any_good_form_only_the_voxel_size_is_taken(tmp_path, name, damages, codes):
    volume = cv.read_volume(with_damage(tmp_path / name, *damages, codes=codes))
    assert not volume.orientation_known
    np.testing.assert_allclose(volume.spacing, (1.5, 2, 2.5))
    (note,) = volume.notes
    assert "left and right" in note
    again = cv.read_volume(cv.write_volume(volume, tmp_path / "out.nii"))
    assert not again.orientation_known
    np.testing.assert_allclose(again.spacing, (1.5, 2, 2.5))


def no_size(header):
    header["pixdim"][2] = 0


def test_a_voxel_size_of_0_is_said_where_it_counts(tmp_path):
    volume = cv.read_volume(with_damage(tmp_path / "one.nii", no_size, codes=(0, 1)))
    assert volume.spacing == (1.5, 1, 2.5)
    assert any("voxel size of 0" in note for note in volume.notes)
    assert not cv.read_volume(with_damage(tmp_path / "two.nii", no_size, codes=(4, 0))).notes
    (note,) = cv.read_volume(with_damage(tmp_path / "pair1.img", no_size)).notes
    assert "The qform" in note and "the sform is taken" in note


def flipped(axis):
    affine = AFFINE.copy()
    affine[axis] *= -1
    return affine


@pytest.mark.parametrize(
    ("qform", "about"),
    [
        (AFFINE, ""),
        (np.diag([1.1, 1.1, 1.1, 1]) @ AFFINE, ""),
        (flipped(0), "left and right"),
        (flipped(1), "where its axes point to"),
        (flipped(2), "where its axes point to"),
        (np.diag([2, 2, 2, 1]) @ AFFINE, "the size of its voxels"),
    ],
)
@pytest.mark.parametrize("name", NIFTI)
def test_forms_that_disagree_are_said(tmp_path, name, qform, about):
    volume = cv.read_volume(nifti(tmp_path / name, AFFINE, qform))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert [f"two things about {about}:" in note for note in volume.notes] == [True] * bool(about)


def test_a_header_without_anything_that_can_be_used_is_refused(tmp_path, plain):
    path = with_damage(tmp_path / "one.nii", zero, codes=(1, 0))
    content = bytearray(path.read_bytes())
    content[80:84] = struct.pack("<f", np.nan)
    path.write_bytes(content)
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    assert "sform" in plain(caught.value, path.name)


@pytest.mark.parametrize("damage", [zero, in_other_unit])
def test_an_atlas_is_placed_like_a_scan(tmp_path, damage):
    labels = np.zeros(SHAPE, np.float32)
    labels[2:4] = 17
    path = with_damage(tmp_path / "two.nii", damage, data=labels)
    rois = read_rois(path)
    np.testing.assert_allclose(rois.affine, QFORM, atol=1e-5)
    assert any("the qform is taken" in note for note in rois.notes)
