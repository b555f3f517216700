"""Folders of PPM slices, as the reference writes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.io import imsave

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.ucm.files import read_levels

from .label_files import assert_levels, write_ppm


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
