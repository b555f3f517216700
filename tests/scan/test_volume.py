"""Volumes: reading, writing and orientation."""

import errno
import os
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import CnnVisError, VolumeError
from napari_cnnvis.scan.files import check_writable, read_volume, write_volume
from napari_cnnvis.scan.volume import Volume, channels_of
from napari_cnnvis.writing import atomic_path

DIRECTIONS = dict(zip("RLAPSI", (*np.repeat(np.eye(3), 2, axis=0),), strict=True))
SIGNS = dict(zip("RLAPSI", (1, -1) * 3, strict=True))
ORIENTATIONS = [
    "".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)
]
SHAPE = (5, 6, 7)


def affine_of(orientation, spacing=(1.5, 2.0, 2.5), origin=(-30.0, 12.5, 7.0)):
    affine = np.eye(4)
    for axis, letter in enumerate(orientation):
        affine[:3, axis] = SIGNS[letter] * DIRECTIONS[letter] * spacing[axis]
    affine[:3, 3] = origin
    return affine


def turned(affine, degrees):
    """The affine after rotations about x and z."""
    a, b = np.deg2rad(degrees)
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_z = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
    result = affine.copy()
    result[:3] = np.array(about_z) @ np.array(about_x) @ affine[:3]
    return result


AFFINES = {name: affine_of(name) for name in ("LAS", "RAS", "LPI", "PSR")}
AFFINES["oblique"] = turned(affine_of("LAS"), (14, 23))


def numbered(shape):
    """Every voxel has its own value, exact in float32."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def save_nifti(path, affine, sform=4, qform=1, data=None, kind=nib.Nifti1Image):
    data = numbered(SHAPE).astype(np.int16) if data is None else data
    image = kind(data, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def positions(volume):
    """mm positions of the voxels, sorted by voxel value."""
    indices = np.indices(volume.shape).reshape(3, -1)[:, np.argsort(volume.data, axis=None)]
    return volume.affine[:3, :3] @ indices + volume.affine[:3, 3:]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("fixture", AFFINES)
def test_nifti_round_trip_is_voxel_exact(tmp_path, fixture, ending):
    source = save_nifti(tmp_path / f"source{ending}", AFFINES[fixture])
    volume = read_volume(source)
    np.testing.assert_array_equal(volume.data, numbered(SHAPE))
    np.testing.assert_allclose(volume.affine, AFFINES[fixture], atol=1e-5)

    copy = nib.load(write_volume(volume, tmp_path / f"copy{ending}"))
    original = nib.load(source)
    assert copy.get_data_dtype() == np.float32
    np.testing.assert_array_equal(copy.dataobj, numbered(SHAPE))
    np.testing.assert_array_equal(copy.affine, original.affine)
    for form in ("get_sform", "get_qform"):
        (matrix, code), (expected, expected_code) = (
            getattr(image, form)(coded=True) for image in (copy, original)
        )
        assert code == expected_code
        np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(("sform", "qform"), [(0, 1), (2, 0), (4, 3), (0, 0)])
def test_saving_keeps_the_codes_of_the_source(tmp_path, sform, qform):
    volume = read_volume(save_nifti(tmp_path / "a.nii", AFFINES["oblique"], sform, qform))
    again = read_volume(write_volume(volume, tmp_path / "b.nii"))
    assert (int(again.header["sform_code"]), int(again.header["qform_code"])) == (sform, qform)
    np.testing.assert_array_equal(again.affine, volume.affine)
    assert again.orientation_known == (sform + qform > 0)


def test_saving_keeps_a_qform_that_differs_from_the_sform(tmp_path):
    image = nib.Nifti1Image(numbered(SHAPE), AFFINES["LAS"])
    image.set_sform(AFFINES["LAS"], 4)
    image.set_qform(AFFINES["oblique"], 1)
    nib.save(image, tmp_path / "a.nii")
    written = nib.load(write_volume(read_volume(tmp_path / "a.nii"), tmp_path / "b.nii"))
    np.testing.assert_allclose(written.get_sform(), AFFINES["LAS"], atol=1e-5)
    np.testing.assert_allclose(written.get_qform(), AFFINES["oblique"], atol=1e-5)


@pytest.mark.parametrize("fixture", AFFINES)
def test_volume_without_header_round_trips(tmp_path, fixture):
    volume = Volume(numbered(SHAPE), AFFINES[fixture])
    again = read_volume(write_volume(volume, tmp_path / "map.nii.gz"))
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)
    assert again.orientation_known


def test_reoriented_volume_of_a_file_saves_its_new_affine(tmp_path):
    volume = read_volume(save_nifti(tmp_path / "a.nii", AFFINES["oblique"])).reoriented("SPR")
    again = read_volume(write_volume(volume, tmp_path / "b.nii"))
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)


@pytest.mark.parametrize("fixture", AFFINES)
@pytest.mark.parametrize("ending", [".mgz", ".mgh"])
def test_mgh_round_trip(tmp_path, fixture, ending):
    volume = Volume(numbered(SHAPE), AFFINES[fixture])
    again = read_volume(write_volume(volume, tmp_path / f"scan{ending}"))
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    assert again.name == "scan"


def test_nifti2_is_read(tmp_path):
    path = save_nifti(tmp_path / "a.nii", AFFINES["LPI"], kind=nib.Nifti2Image)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, numbered(SHAPE))
    again = read_volume(write_volume(volume, tmp_path / "b.nii"))
    np.testing.assert_allclose(again.affine, AFFINES["LPI"], atol=1e-5)


def test_scaled_integers_are_read_as_the_numbers_they_stand_for(tmp_path):
    image = nib.Nifti1Image(numbered(SHAPE) / 4, np.eye(4))
    image.set_data_dtype(np.uint8)
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii")
    slope = stored.dataobj.slope
    assert slope != 1
    np.testing.assert_allclose(
        read_volume(tmp_path / "a.nii").data, numbered(SHAPE) / 4, atol=slope
    )


@given(
    st.sampled_from(ORIENTATIONS),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.floats(-20, 20)] * 2),
)
def test_reoriented_moves_no_voxel(source, target, shape, degrees):
    volume = Volume(numbered(shape), turned(affine_of(source), degrees))
    result = volume.reoriented(target)
    assert result.orientation == target
    assert sorted(result.shape) == sorted(shape)
    np.testing.assert_allclose(positions(result), positions(volume), atol=1e-9)


@given(st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS))
def test_reorienting_back_gives_the_same_volume(source, target):
    volume = Volume(numbered(SHAPE), affine_of(source))
    back = volume.reoriented(target).reoriented(source)
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_allclose(back.affine, volume.affine)


@pytest.mark.parametrize("orientation", ["RA", "RAX", "RLS", "RASR", "", "RAA"])
def test_what_is_no_orientation_is_refused(plain, orientation):
    with pytest.raises(VolumeError) as caught:
        Volume(numbered(SHAPE)).reoriented(orientation)
    plain(caught.value, f"'{orientation}'")


def test_spacing_and_orientation_of_an_oblique_volume():
    volume = Volume(numbered(SHAPE), AFFINES["oblique"])
    np.testing.assert_allclose(volume.spacing, (1.5, 2.0, 2.5))
    assert volume.orientation == "LAS"


def test_4d_file_asks_for_one_volume(tmp_path, plain):
    data = np.stack([numbered(SHAPE), numbered(SHAPE) + 500, numbered(SHAPE)[::-1]], axis=3)
    path = save_nifti(tmp_path / "run.nii.gz", AFFINES["LAS"], data=data)
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert "holds 3 volumes" in plain(caught.value, path)
    np.testing.assert_array_equal(read_volume(path, index=1).data, numbered(SHAPE) + 500)
    for index in (-1, 3):
        with pytest.raises(VolumeError, match="0 to 2"):
            read_volume(path, index=index)


def test_one_volume_of_a_4d_file_round_trips(tmp_path):
    data = np.stack([numbered(SHAPE), numbered(SHAPE) + 500], axis=3)
    path = save_nifti(tmp_path / "run.nii", AFFINES["oblique"], 0, 0, data=data)
    volume = read_volume(path, index=1)
    again = read_volume(write_volume(volume, tmp_path / "one.nii"))
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_array_equal(again.affine, volume.affine)


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_trailing_axes_of_length_one_are_dropped(tmp_path, extra):
    data = numbered(SHAPE).reshape(*SHAPE, *extra)
    path = save_nifti(tmp_path / "a.nii", AFFINES["RAS"], data=data)
    np.testing.assert_array_equal(read_volume(path).data, numbered(SHAPE))


def test_nan_and_infinity_become_0_and_are_noted(tmp_path):
    data = numbered(SHAPE)
    data[0, 0, 0], data[1, 2, 3], data[4, 5, 6] = np.nan, np.inf, -np.inf
    volume = read_volume(save_nifti(tmp_path / "a.nii", AFFINES["RAS"], data=data))
    expected = numbered(SHAPE)
    expected[[0, 1, 4], [0, 2, 5], [0, 3, 6]] = 0
    np.testing.assert_array_equal(volume.data, expected)
    assert volume.notes == ("3 voxels of 'a' were NaN or infinite and were set to 0.",)
    assert volume.reoriented("LPI").notes == volume.notes


def test_a_header_without_orientation_is_noted(tmp_path):
    volume = read_volume(save_nifti(tmp_path / "a.nii", AFFINES["LAS"], 0, 0))
    assert not volume.orientation_known
    np.testing.assert_allclose(volume.spacing, (1.5, 2.0, 2.5))
    (note,) = volume.notes
    assert "a.nii" in note
    assert "left and right" in note


@pytest.mark.parametrize("kind", ["RGB", "complex"])
def test_colour_and_complex_images_are_refused(tmp_path, plain, kind):
    data = np.zeros(SHAPE, [(c, "u1") for c in "RGB"] if kind == "RGB" else np.complex64)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(VolumeError) as caught:
        read_volume(tmp_path / "a.nii")
    assert "colour or complex" in plain(caught.value, "'a'")


@pytest.mark.parametrize(
    ("data", "affine"),
    [
        (np.zeros((4, 4)), np.eye(4)),
        (np.zeros((4, 0, 4)), np.eye(4)),
        (np.zeros(SHAPE), np.eye(3)),
        (np.zeros(SHAPE), np.full((4, 4), np.nan)),
        (np.zeros(SHAPE), np.diag([1.0, 0, 1, 1])),
        (np.full(SHAPE, "a"), np.eye(4)),
    ],
)
def test_what_is_no_volume_is_refused(plain, data, affine):
    with pytest.raises(VolumeError) as caught:
        Volume(data, affine, "scan")
    plain(caught.value, "'scan'")


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def garbled(path):
    """The file with a stretch in its middle changed."""
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 2, len(content) // 2 + 60):
        content[position] ^= 255
    path.write_bytes(content)
    return path


def noise_nifti(path):
    data = np.random.default_rng(0).integers(0, 10, (20, 20, 20)).astype(np.int16)
    return save_nifti(path, np.eye(4), data=data)


def written(path, content):
    path.write_bytes(content)
    return path


BAD_FILES = {
    "missing": lambda d: d / "nothing.nii.gz",
    "a folder": lambda d: d,
    "empty": lambda d: written(d / "a.nii.gz", b""),
    "truncated .nii.gz": lambda d: cut(noise_nifti(d / "a.nii.gz"), 0.6),
    "truncated .nii": lambda d: cut(noise_nifti(d / "a.nii"), 0.6),
    "cut within the header": lambda d: cut(noise_nifti(d / "a.nii"), 0.02),
    "garbled .nii.gz": lambda d: garbled(noise_nifti(d / "a.nii.gz")),
    "text called .nii": lambda d: written(d / "a.nii", b"subject,age\n01,70\n" * 40),
    "text called .nii.gz": lambda d: written(d / "a.nii.gz", b"subject,age\n01,70\n" * 40),
    "text called .mgz": lambda d: written(d / "a.mgz", b"subject,age\n01,70\n" * 40),
    "text": lambda d: written(d / "notes.txt", b"subject,age\n01,70\n" * 40),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_unreadable_files_give_a_plain_sentence(tmp_path, plain, case):
    path = BAD_FILES[case](tmp_path)
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    plain(caught.value, path)


@pytest.mark.parametrize("name", ["map.txt", "map", "map.nii.bz2"])
def test_other_endings_are_refused_for_writing(tmp_path, plain, name):
    with pytest.raises(VolumeError) as caught:
        write_volume(Volume(numbered(SHAPE)), tmp_path / name)
    assert ".nii.gz" in plain(caught.value, name)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused_before_a_long_run(tmp_path, plain):
    path = tmp_path / "none" / "map.nii"
    with pytest.raises(VolumeError) as caught:
        check_writable(path)
    plain(caught.value, path)


def test_writing_onto_a_folder_leaves_no_temporary_file(tmp_path, plain):
    path = tmp_path / "map.nii.gz"
    path.mkdir()
    with pytest.raises(VolumeError) as caught:
        write_volume(Volume(numbered(SHAPE)), path)
    plain(caught.value, path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_an_existing_file_is_kept_when_writing_fails(tmp_path, failure):
    path = written(tmp_path / "map.nii", b"the old one")
    with pytest.raises((VolumeError, KeyboardInterrupt)), atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the new")
        raise failure
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_replaces_the_file_only_at_the_end(tmp_path):
    path = written(tmp_path / "map.nii.gz", b"the old one")
    with atomic_path(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"the old one"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_written_files_get_the_usual_permissions(tmp_path):
    (tmp_path / "ordinary").touch()
    write_volume(Volume(numbered(SHAPE)), tmp_path / "map.nii")
    modes = {p.stat().st_mode for p in tmp_path.iterdir()}
    assert len(modes) == 1


def test_errors_are_no_runtime_errors():
    assert issubclass(VolumeError, CnnVisError)
    assert not issubclass(CnnVisError, RuntimeError)


def test_a_grid_is_the_same_to_a_micrometre():
    volume = Volume(np.zeros(SHAPE), affine_of("RAS"))
    nudged = affine_of("RAS") + np.pad([[5e-4]], [(0, 3), (3, 0)])
    assert volume.same_grid(Volume(np.ones(SHAPE), nudged))
    assert not volume.same_grid(Volume(np.ones(SHAPE), affine_of("LAS")))
    assert not volume.same_grid(Volume(np.ones((5, 6, 8)), affine_of("RAS")))


def test_channels_of_a_scan(plain):
    first, second = Volume(np.zeros(SHAPE), name="T1"), Volume(np.ones(SHAPE), name="T2")
    assert channels_of(first) == (first,)
    assert channels_of([first, second]) == (first, second)
    with pytest.raises(VolumeError) as caught:
        channels_of([])
    plain(caught.value, "No volume was given")
