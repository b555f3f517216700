"""Labels and masks that are stored as scaled numbers or fractions are still labels and masks."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_cnnvis as cv
from napari_cnnvis.atlas.rois import read_rois
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.whole_numbers import whole_numbers
from napari_cnnvis.ucm.files import read_levels

SHAPE = (8, 8, 8)
KINDS = {
    "NIfTI": (nib.Nifti1Image, "a.nii"),
    "NIfTI-2": (nib.Nifti2Image, "a.nii.gz"),
    "pair": (nib.Nifti1Pair, "a.img"),
    "SPM": (nib.Spm2AnalyzeImage, "a.img"),
}


def labels_with(*values):
    labels = np.zeros(SHAPE)
    for place, value in enumerate(values, 1):
        labels[place] = value
    return labels


def scaled(folder, kind, labels, dtype):
    make, name = KINDS[kind]
    image = make(labels, np.eye(4))
    image.set_data_dtype(dtype)
    image.to_filename(folder / name)
    return folder / name


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("values", [(17, 53), (1,), (1, 2, 3, 4, 5), (2, 41, 77)])
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_labels_are_labels(tmp_path, kind, values, dtype):
    if kind == "SPM" and dtype == np.uint16:
        pytest.skip("Analyze has no such numbers")
    labels = labels_with(*values)
    path = scaled(tmp_path, kind, labels, dtype)
    rois = read_rois(path)
    np.testing.assert_array_equal(rois.labels, labels)
    stored = nib.load(path)
    off = np.abs(stored.get_fdata() - labels).max()
    assert any("off whole numbers" in note for note in rois.notes) == (off > 0)
    np.testing.assert_array_equal(read_levels(path)[0], labels)


@pytest.mark.parametrize("kind", ["NIfTI", "NIfTI-2", "pair"])
def test_several_scaled_levels_and_masks_are_read(tmp_path, kind):
    labels = np.stack([labels_with(1, 1, 2), labels_with(1, 1, 1)], axis=-1)
    path = scaled(tmp_path, kind, labels, np.uint16)
    for level, expected in zip(read_levels(path), np.moveaxis(labels, -1, 0), strict=True):
        np.testing.assert_array_equal(level, expected)
    masks = np.stack([labels_with(1, 0, 0), labels_with(0, 1, 0)], axis=-1)
    image = nib.Nifti1Image(masks * 0.9997 + 1e-9, np.eye(4))
    image.to_filename(tmp_path / "masks.nii")
    np.testing.assert_array_equal(read_rois(tmp_path / "masks.nii").labels, labels_with(1, 2))


@given(st.lists(st.integers(-2000, 15_000), min_size=1, max_size=7), st.floats(-0.009, 0.009))
def test_a_hair_off_is_rounded_and_more_is_not(values, off):
    labels = labels_with(*values)
    if not labels.any():
        return
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(whole_numbers((labels + off).astype(dtype)), labels)
    assert whole_numbers(labels + 0.3) is None
    assert whole_numbers(np.where(labels == 0, 0.3, labels)) is None


@pytest.mark.parametrize(
    "data",
    [
        np.random.default_rng(0).random(SHAPE),
        np.random.default_rng(0).random(SHAPE) * 1e-3,
        np.random.default_rng(0).normal(100, 30, SHAPE),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_scans_and_probabilities_are_no_labels_however_they_are_stored(
    tmp_path, plain, data, dtype
):
    path = scaled(tmp_path, "NIfTI", data, dtype)
    for read in (read_rois, read_levels):
        with pytest.raises(VolumeError) as caught:
            read(path)
        plain(caught.value, path.name)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("low", [0.0, 1e-4, -3e-4])
def test_a_scaled_mask_is_the_head_it_was(tmp_path, dtype, low):
    mask = labels_with(1, 1, 1)
    path = scaled(tmp_path, "NIfTI", np.where(mask > 0, 1 - abs(low), low), dtype)
    scan = cv.Volume(np.arange(512.0).reshape(SHAPE), nib.load(path).affine, "scan")
    np.testing.assert_array_equal(scan.with_head(cv.read_volume(path)).head, mask > 0)
