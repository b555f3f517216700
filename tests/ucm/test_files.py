import io

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.io import imsave

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.ucm.files import read_levels, write_levels
from napari_cnnvis.ucm.hierarchy import Hierarchy

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 0, 2, -126], [0, 2, 0, -72], [0, 0, 0, 1]])
ARRAYS = ("leaves", "parents", "altitudes", "levels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def labels():
    """Three levels, fine to coarse, the finest with 12 regions; levels first."""
    finest = np.arange(24).reshape(2, 3, 4) // 2
    return np.stack([finest, finest // 2, finest // 6])


@pytest.fixture
def hierarchy(labels):
    return Hierarchy.from_levels(np.where(labels[0] == 11, 99, labels), background=99)


def assert_equal(a, b):
    for name in ARRAYS:
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def assert_levels(levels, expected):
    assert len(levels) == len(expected)
    for level, wanted in zip(levels, expected, strict=True):
        assert level.dtype.kind in "iu"
        np.testing.assert_array_equal(level, wanted)


# saved hierarchies


@given(hierarchy=st.from_type(Hierarchy))
def test_a_saved_hierarchy_comes_back_equal(folder, hierarchy):
    path = folder / "hierarchy.npz"
    assert hierarchy.save(path, overwrite=True) == path
    assert_equal(Hierarchy.load(path), hierarchy)
    assert_equal(Hierarchy.read(path), hierarchy)
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_a_saved_hierarchy_without_levels_comes_back(tmp_path, hierarchy):
    bare = Hierarchy.from_tree(hierarchy.leaves, hierarchy.parents, hierarchy.altitudes, [])
    assert_equal(Hierarchy.load(bare.save(tmp_path / "bare.npz")), bare)


def test_levels_of_a_saved_hierarchy_can_be_read(tmp_path, hierarchy):
    levels = read_levels(hierarchy.save(tmp_path / "h.npz"))
    assert_levels(levels, [hierarchy.label_volume(level) for level in hierarchy.levels])


def saved_bytes(hierarchy):
    file = io.BytesIO()
    np.savez_compressed(
        file,
        format="napari-cnnvis hierarchy",
        version=1,
        **{name: getattr(hierarchy, name) for name in ARRAYS},
    )
    return file.getvalue()


@given(data=st.data(), hierarchy=st.from_type(Hierarchy))
def test_a_truncated_file_is_refused(folder, plain, data, hierarchy):
    whole = saved_bytes(hierarchy)
    path = folder / "cut short.npz"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    for reader in (Hierarchy.load, Hierarchy.read):
        with pytest.raises(VolumeError) as error:
            reader(path)
        plain(error.value, path)


@given(data=st.data(), hierarchy=st.from_type(Hierarchy))
def test_damaged_bytes_never_give_another_hierarchy(folder, plain, data, hierarchy):
    damaged = bytearray(saved_bytes(hierarchy))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path = folder / "damaged.npz"
    path.write_bytes(damaged)
    try:
        loaded = Hierarchy.load(path)
    except VolumeError as error:
        plain(error, path)
    else:  # a byte that does not matter, such as the time of writing
        assert_equal(loaded, hierarchy)


def write_npz(path, hierarchy, **changed):
    arrays = {name: getattr(hierarchy, name) for name in ARRAYS}
    np.savez(path, **{"format": "napari-cnnvis hierarchy", "version": 1, **arrays, **changed})
    return path


BROKEN = {
    "3D": ("leaves", lambda a: a[0], "wrong types or shapes"),
    "whole leaves": ("leaves", lambda a: a.astype(float), "wrong types or shapes"),
    "whole parents": ("parents", lambda a: a.astype(float), "wrong types or shapes"),
    "real altitudes": ("altitudes", lambda a: a.astype("U"), "wrong types or shapes"),
    "gap": ("leaves", lambda a: np.where(a == 3, 4, a), "without gaps"),
    "huge label": ("leaves", lambda a: np.where(a == 3, 2**30, a), "numbered from 1"),
    "negative label": ("leaves", lambda a: a - 1, "numbered from 1"),
    "no leaf": ("leaves", lambda a: a * 0, "numbered from 1"),
    "no voxel": ("leaves", lambda a: a[:0], "numbered from 1"),
    "fewer leaves": ("leaves", lambda a: np.minimum(a, 10), "do not fit together"),
    "short altitudes": ("altitudes", lambda a: a[:-1], "do not fit together"),
    "short parents": ("parents", lambda a: a[:5], "do not fit together"),
    "short levels": ("levels", lambda a: a[:, :-1], "do not fit together"),
    "flat levels": ("levels", np.ravel, "do not fit together"),
    "parent before": ("parents", lambda a: np.r_[a[:-1], 2], "does not come after its parts"),
    "parent beyond": ("parents", lambda a: np.r_[99, a[1:]], "does not come after its parts"),
    "leaf as parent": ("parents", lambda a: np.r_[1, a[1:]], "does not come after its parts"),
    "no parts": ("parents", lambda a: np.arange(len(a)), "has no parts"),
    "falling": ("altitudes", lambda a: a[::-1], "altitudes fall"),
    "nan": ("altitudes", lambda a: a * np.nan, "altitudes fall"),
    "level beyond": ("levels", lambda a: a + 99, "fine to coarse"),
    "coarse to fine": ("levels", lambda a: a[::-1], "fine to coarse"),
    "no ancestor": ("levels", lambda a: a * 0 + len(a[0]), "not a segmentation"),
    "half a region": ("levels", lambda a: np.c_[a[:, :1] * 0, a[:, 1:]], "not a segmentation"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_arrays_that_are_no_hierarchy_are_refused(tmp_path, hierarchy, name, plain):
    array, change, text = BROKEN[name]
    path = write_npz(tmp_path / "h.npz", hierarchy, **{array: change(getattr(hierarchy, array))})
    with pytest.raises(VolumeError, match=text) as error:
        Hierarchy.load(path)
    plain(error.value, path)


@pytest.mark.parametrize("version", [2, "one", [1, 1]])
def test_another_version_is_refused(tmp_path, hierarchy, version, plain):
    path = write_npz(tmp_path / "h.npz", hierarchy, version=version)
    with pytest.raises(VolumeError, match="another version") as error:
        Hierarchy.load(path)
    plain(error.value, path)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda p: None, "There is no file"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("label,path"), "not an .npz file"),
        (lambda p: np.savez(p, levels=np.ones(3)), "not a saved hierarchy"),
        (lambda p: np.savez(p, format="napari-cnnvis hierarchy"), "not a saved hierarchy"),
        (lambda p: np.savez(p, format=np.array([{}])), "something else than plain arrays"),
    ],
)
def test_other_files_are_not_saved_hierarchies(tmp_path, write, text, plain):
    path = tmp_path / "other.npz"
    write(path)
    with pytest.raises(VolumeError, match=text) as error:
        Hierarchy.load(path)
    plain(error.value, path)


@pytest.mark.parametrize("name", ["h.npy", "h", "nowhere/h.npz"])
def test_a_hierarchy_cannot_be_saved_anywhere(tmp_path, hierarchy, name, plain):
    with pytest.raises(VolumeError, match="Cannot write") as error:
        hierarchy.save(tmp_path / name)
    plain(error.value)
    assert not [*tmp_path.iterdir()]


# label volumes


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


def write_ppm(path, levels, names="{:02d}"):
    """As the C++ of the reference: a folder a level, rows from the far end of the first axis."""
    for number, level in enumerate(levels):
        (path / names.format(number)).mkdir(parents=True)
        for k in range(level.shape[2]):
            labels = level[::-1, :, k]
            colours = np.stack([labels >> 16, labels >> 8 & 255, labels & 255], axis=-1)
            place = path / names.format(number) / f"{k + 1:05d}.ppm"
            imsave(place, colours.astype(np.uint8), check_contrast=False)
    (path / "time.txt").write_text("7")
    return path


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


@given(seed=st.integers(0, 2**16))
def test_labels_of_24_bits_survive_ppm(tmp_path_factory, seed):
    levels = np.random.default_rng(seed).integers(0, 2**24, (1, 3, 2, 2))
    assert_levels(read_levels(write_ppm(tmp_path_factory.mktemp("ppm"), levels)), levels)


def test_folders_and_slices_go_by_their_numbers(tmp_path, labels):
    many = np.concatenate([np.repeat(labels[:1], 11, axis=0), labels[1:2]])
    levels = read_levels(write_ppm(tmp_path, many, "level {}"))
    assert_levels(levels, many)
    tall = np.arange(120).reshape(1, 1, 12, 10)
    write_ppm(tmp_path / "tall", tall)
    for slice_ in (tmp_path / "tall" / "00").iterdir():
        slice_.rename(slice_.with_name(f"{int(slice_.stem)}.PPM"))
    assert_levels(read_levels(tmp_path / "tall"), tall)


def lose_a_slice(folder):
    (folder / "00" / "00002.ppm").unlink()


def cut_a_slice(folder):
    path = folder / "00" / "00002.ppm"
    path.write_bytes(path.read_bytes()[:-1])


def not_an_image(folder):
    (folder / "00" / "00003.ppm").write_text("moved to the archive")


def no_number(folder):
    for path in (folder / "00").iterdir():
        path.unlink()
    imsave(folder / "00" / "slice.ppm", np.zeros((2, 3, 3), np.uint8), check_contrast=False)


def another_size(folder):
    imsave(folder / "00" / "00004.ppm", np.zeros((5, 3, 3), np.uint8), check_contrast=False)


def grey(folder):
    (folder / "00" / "00001.ppm").write_bytes(b"P5\n3 2\n255\n" + bytes(6))


def no_slices(folder):
    for path in folder.glob("*/*.ppm"):
        path.unlink()


@given(length=st.integers(0, 40))
def test_truncated_slices_are_refused(folder, plain, length):
    (folder / "slices").mkdir(exist_ok=True)
    path = folder / "slices" / "00001.ppm"
    path.write_bytes((b"P6\n5 2\n255\n" + bytes(range(30)))[:length])
    with pytest.raises(VolumeError) as error:
        read_levels(folder / "slices")
    plain(error.value, path)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lose_a_slice, "not numbered one by one"),
        (cut_a_slice, "00002.ppm is damaged"),
        (not_an_image, "00003.ppm is damaged or not a PPM"),
        (no_number, "not numbered one by one"),
        (another_size, r"00004.ppm has \(5, 3\) pixels, but the first slice \(2, 3\)"),
        (grey, "00001.ppm is not a colour image"),
        (no_slices, "holds no PPM slices"),
    ],
)
def test_spoilt_slices_are_refused(tmp_path, labels, spoil, text, plain):
    spoil(write_ppm(tmp_path, labels))
    with pytest.raises(VolumeError, match=text) as error:
        read_levels(tmp_path)
    plain(error.value, tmp_path)


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
