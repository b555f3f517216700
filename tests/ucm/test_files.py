"""Label volumes in the formats of others."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.ucm.files import read_levels, write_levels
from napari_cnnvis.ucm.hierarchy import Hierarchy

from .label_files import assert_equal, assert_levels, write_ppm

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 0, 2, -126], [0, 2, 0, -72], [0, 0, 0, 1]])


def write_npy(path, levels):
    np.save(path / "levels.npy", levels)
    return path / "levels.npy"


def write_one_array(path, levels):
    np.savez(path / "levels.npz", levels)
    return path / "levels.npz"


def write_like_the_reference(path, levels):
    np.savez_compressed(path / "levels.npz", counts=np.ones(3), labels=levels.astype(np.uint16))
    return path / "levels.npz"


def write_nifti(path, levels):
    image = nib.Nifti1Image(np.moveaxis(levels, 0, -1).astype(np.int16), AFFINE)
    nib.save(image, path / "levels.nii.gz")
    return path / "levels.nii.gz"


def write_float_nifti(path, levels):
    image = nib.Nifti1Image(np.moveaxis(levels, 0, -1).astype(np.float32), AFFINE)
    nib.save(image, path / "levels.nii")
    return path / "levels.nii"


def write_big_endian(path, levels):
    np.save(path / "levels.npy", levels.astype(">i4"))
    return path / "levels.npy"


def write_one_file_each(path, levels):
    for number, level in enumerate(levels):
        np.save(path / f"level {number}.npy", level)
    return [path / f"level {number}.npy" for number in range(len(levels))]


def write_ppm_folder_each(path, levels):
    write_ppm(path, levels)
    return [path / "00", path / "01", path / "02"]


WRITERS = [
    write_npy, write_one_array, write_like_the_reference, write_nifti, write_float_nifti,
    write_big_endian, write_one_file_each, write_ppm, write_ppm_folder_each,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS)
def test_levels_are_read_from_all_formats(tmp_path, labels, write):
    path = write(tmp_path, labels)
    assert_levels(read_levels(path), labels)
    assert_equal(Hierarchy.read(path), Hierarchy.from_levels(labels))


@pytest.mark.parametrize("write", [write_npy, write_nifti, write_ppm])
def test_one_level_is_enough(tmp_path, labels, write):
    assert_levels(read_levels(write(tmp_path, labels[:1])), labels[:1])


@pytest.mark.parametrize("write", WRITERS)
def test_levels_from_coarse_to_fine_are_turned_round(tmp_path, labels, write):
    assert_levels(read_levels(write(tmp_path, labels[::-1])), labels)


def test_a_path_may_be_text(tmp_path, labels):
    assert_levels(read_levels(str(write_npy(tmp_path, labels))), labels)


def test_a_3d_image_is_one_level(tmp_path, labels):
    nib.save(nib.Nifti1Image(labels[0].astype(np.uint8), AFFINE), tmp_path / "atlas.nii.gz")
    np.save(tmp_path / "atlas.npy", labels[0] > 5)
    assert_levels(read_levels(tmp_path / "atlas.nii.gz"), labels[:1])
    assert_levels(read_levels(tmp_path / "atlas.npy"), [labels[0] > 5])


def test_an_atlas_becomes_a_hierarchy_of_one_level(tmp_path, labels):
    atlas = np.array([0, 7, 1002, 2035])[labels[1] // 2]
    nib.save(nib.Nifti1Image(atlas.astype(np.int32), AFFINE), tmp_path / "aparc.nii.gz")
    hierarchy = Hierarchy.read(tmp_path / "aparc.nii.gz", background=0)
    assert hierarchy.n_leaves == hierarchy.n_nodes == len(np.unique(atlas)) - 1
    assert len(hierarchy.levels) == 1
    np.testing.assert_array_equal(hierarchy.leaves == 0, atlas == 0)


def scan(path):
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 0.3, np.float32), AFFINE), path)


UNUSABLE = {
    "missing.npy": (lambda p: None, "There is no file"),
    "missing.nii.gz": (lambda p: None, "There is no file"),
    "missing.npz": (lambda p: None, "There is no file"),
    "empty.npy": (lambda p: p.write_bytes(b""), "is empty"),
    "text.npy": (lambda p: p.write_text("region 1"), "cannot be read"),
    "text.nii": (lambda p: p.write_text("region 1"), "not an image"),
    "text.npz": (lambda p: p.write_text("region 1"), "not an .npz file"),
    "pickle.npy": (lambda p: np.save(p, np.array([{}])), "cannot be read"),
    "flat.npy": (lambda p: np.save(p, np.zeros((3, 3), int)), r"shape \(3, 3\)"),
    "none.npy": (lambda p: np.save(p, np.zeros((0, 3, 3, 3), int)), r"shape \(0, 3, 3, 3\)"),
    "complex.npy": (lambda p: np.save(p, np.zeros((3, 3, 3), complex)), "complex128 values"),
    "scan.nii.gz": (scan, "holds fractions"),
    "nan.npy": (lambda p: np.save(p, np.full((3, 3, 3), np.nan)), "holds fractions"),
    "huge.npy": (lambda p: np.save(p, np.full((3, 3, 3), 1e30)), "holds fractions"),
    "two.npz": (lambda p: np.savez(p, a=np.ones(3), b=np.ones(3)), r"2 arrays \(a, b\)"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_files_are_refused(tmp_path, name, plain):
    write, text = UNUSABLE[name]
    path = tmp_path / name
    write(path)
    with pytest.raises(VolumeError, match=text) as error:
        read_levels(path)
    plain(error.value, path)


def test_no_files_are_refused(plain):
    with pytest.raises(VolumeError, match="No files were given") as error:
        read_levels([])
    plain(error.value)


@given(data=st.data(), ending=st.sampled_from([".npy", ".npz", ".nii.gz", ".nii"]))
def test_truncated_label_volumes_are_refused(folder, plain, data, ending):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 9, (2, 4, 5, 6))
    whole = folder / f"whole{ending}"
    if ending == ".npy":
        np.save(whole, levels)
    elif ending == ".npz":
        np.savez(whole, labels=levels)
    else:
        nib.save(nib.Nifti1Image(np.moveaxis(levels, 0, -1).astype(np.int16), AFFINE), whole)
    content = whole.read_bytes()
    path = folder / f"truncated{ending}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(VolumeError) as error:
        read_levels(path)
    plain(error.value, path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".npy"])
@given(hierarchy=st.from_type(Hierarchy))
def test_written_levels_come_back(folder, ending, hierarchy):
    path = folder / f"written{ending}"
    assert write_levels(hierarchy, path, AFFINE, overwrite=True) == path
    expected = [hierarchy.label_volume(level) for level in hierarchy.levels]
    assert_levels(read_levels(path), expected)
    background = 0 if (hierarchy.leaves == 0).any() else None
    again = Hierarchy.read(path, background)
    for level, wanted in zip(again.levels, expected, strict=True):
        np.testing.assert_array_equal(again.label_volume(level), wanted)


def test_written_nifti_lies_on_the_scan(tmp_path, hierarchy):
    image = nib.load(write_levels(hierarchy, tmp_path / "levels.nii.gz", AFFINE))
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.shape == (*hierarchy.leaves.shape, 3)
    assert image.get_data_dtype() == np.int32
    assert image.header.get_intent()[0] == "label"


@pytest.mark.parametrize(
    ("name", "affine", "error", "text"),
    [
        ("levels.nii.gz", None, MethodError, "affine=volume.affine"),
        ("levels.nii", np.eye(3), VolumeError, "not a finite 4 x 4 matrix"),
        ("levels.mgz", AFFINE, VolumeError, "use one of the endings"),
        ("nowhere/levels.npy", None, VolumeError, "Cannot write"),
    ],
)
def test_levels_cannot_be_written_anyhow(tmp_path, hierarchy, name, affine, error, text, plain):
    with pytest.raises(error, match=text) as raised:
        write_levels(hierarchy, tmp_path / name, affine)
    plain(raised.value)
    assert not [*tmp_path.iterdir()]


def test_no_levels_cannot_be_written(tmp_path, hierarchy, plain):
    bare = Hierarchy.from_tree(hierarchy.leaves, hierarchy.parents, hierarchy.altitudes, [])
    with pytest.raises(VolumeError, match="has no levels") as error:
        write_levels(bare, tmp_path / "levels.npy")
    plain(error.value)


def test_the_reference_hierarchy_is_read(shared_data):
    hierarchy = Hierarchy.read(shared_data / "reference_levels.npz")
    assert hierarchy.n_nodes == 865
    assert len(hierarchy.levels) == 19
