"""The project's own file of a hierarchy."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.ucm.files import read_levels
from napari_cnnvis.ucm.hierarchy import Hierarchy

from .label_files import ARRAYS, assert_equal, assert_levels


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
