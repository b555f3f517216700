"""A scan that carries a head mask: what is taken, how it follows the axes and the model's grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_cnnvis as cv
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.conform import conform
from napari_cnnvis.scan.head import find_head, head_of
from napari_cnnvis.scan.volume import HEAD_FOUND

SHAPE = (8, 9, 10)
AFFINE = np.array([[0, -2.0, 0, 20], [2, 0, 0, -15], [0, 0, 3, 7], [0, 0, 0, 1]])
ORIENTATIONS = ["RAS", "LPI", "SAR", "PSR", "ALI"]


def scan_of(seed=0, **more):
    rng = np.random.default_rng(seed)
    data = np.zeros(SHAPE)
    data[2:6, 2:7, 2:8] = rng.uniform(0.5, 1, (4, 5, 6))
    return cv.Volume(data, AFFINE, "scan", **more)


def mask_of(seed=0):
    return np.random.default_rng(seed).random(SHAPE) > 0.6


def test_without_a_mask_the_head_is_found():
    scan = scan_of()
    assert scan.head is None
    assert scan.head_name == HEAD_FOUND
    np.testing.assert_array_equal(head_of(scan), find_head(scan.data))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.float32])
def test_the_mask_is_the_head_as_it_is(kind):
    mask = mask_of()
    carried = scan_of().with_head(mask.astype(kind) * kind(1), "mine")
    np.testing.assert_array_equal(head_of(carried), mask)
    assert carried.head.dtype == bool
    assert (carried.head_name, carried.head_source) == ("mine", "")
    np.testing.assert_array_equal(carried.data, scan_of().data)


def test_taking_it_away_finds_the_head_again():
    scan = scan_of()
    back = scan.with_head(mask_of()).with_head(None)
    assert (back.head, back.head_name, back.head_source) == (None, HEAD_FOUND, "")


def test_a_constant_scan_with_a_mask_has_a_head():
    scan = cv.Volume(np.ones(SHAPE), AFFINE).with_head(mask_of())
    np.testing.assert_array_equal(head_of(scan), mask_of())


@given(st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS), st.integers(0, 100))
def test_it_follows_the_axes(of_scan, of_mask, seed):
    scan, mask = scan_of(), cv.Volume(mask_of(seed), AFFINE, "mask")
    expected = scan.with_head(mask).reoriented(of_scan)
    found = scan.reoriented(of_scan).with_head(mask.reoriented(of_mask))
    np.testing.assert_array_equal(found.head, expected.head)
    back = found.reoriented(scan.orientation)
    np.testing.assert_array_equal(back.head, mask_of(seed))


def test_a_file_says_where_it_is_from(tmp_path):
    cv.write_volume(cv.Volume(mask_of(), AFFINE), tmp_path / "mask.nii.gz")
    carried = scan_of().with_head(cv.read_volume(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(carried.head, mask_of())
    assert carried.head_name == "mask"
    assert carried.head_source == str(tmp_path / "mask.nii.gz")


def test_a_mask_of_another_shape_is_refused(plain):
    with pytest.raises(VolumeError) as caught:
        scan_of().with_head(np.ones((8, 9, 11)))
    text = plain(caught.value, "8 x 9 x 11 voxels, but 'scan' 8 x 9 x 10")
    assert "resample it to the scan first" in text


def test_a_mask_in_another_place_is_refused(plain):
    moved = AFFINE.copy()
    moved[0, 3] += 1
    with pytest.raises(VolumeError) as caught:
        scan_of().with_head(cv.Volume(mask_of(), moved, "mask"))
    assert "'mask' is not on the grid of 'scan'" in plain(caught.value)


def test_an_empty_mask_is_refused(plain):
    with pytest.raises(VolumeError) as caught:
        scan_of().with_head(cv.Volume(np.zeros(SHAPE), AFFINE, "mask"))
    assert "'mask' is empty" in plain(caught.value)


def test_where_nothing_says_how_it_lies_the_shape_decides():
    mask = cv.Volume(mask_of(), np.eye(4), "mask", orientation_known=False)
    np.testing.assert_array_equal(scan_of().with_head(mask).head, mask_of())


# --- on a model's grid -----------------------------------------------------------------

SPECS = [
    cv.InputSpec(),
    cv.InputSpec(orientation="LPS"),
    cv.InputSpec(spacing=(3, 3, 3), orientation="RAS"),
    cv.InputSpec(shape=(6, 12, 9)),
    cv.InputSpec(shape=(6, 12, 9), resize=True, intensity="z-score"),
    cv.InputSpec(window=(6, 12, 6)),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_it_comes_to_the_grid_as_labels_do(spec, seed):
    mask = mask_of(seed)
    conformed = conform(scan_of().with_head(mask), spec)
    expected = conformed.labels(mask.astype(np.uint8)) > 0
    np.testing.assert_array_equal(conformed.head, expected)
    np.testing.assert_array_equal(head_of(conformed), expected)
    np.testing.assert_array_equal(conformed.data, conform(scan_of(), spec).data)


def test_without_one_it_is_found_on_the_grid():
    conformed = conform(scan_of(), SPECS[2])
    assert conformed.head is None
    np.testing.assert_array_equal(head_of(conformed), find_head(conformed.data))


def test_channels_share_the_first_ones_mask_unless_they_carry_their_own():
    first, second = scan_of().with_head(mask_of(1)), scan_of(1)
    both = conform((first, second), cv.InputSpec(channels=2))
    assert [np.array_equal(h, mask_of(1)) for h in both.heads] == [True, True]
    both = conform((first, second.with_head(mask_of(2))), cv.InputSpec(channels=2))
    np.testing.assert_array_equal(both.heads[1], mask_of(2))
    assert conform((scan_of(), second), cv.InputSpec(channels=2)).heads == (None, None)


def test_a_mask_outside_what_the_network_sees_is_refused(plain):
    corner = np.zeros(SHAPE)
    corner[0, 0, 0] = 1
    conformed = conform(scan_of().with_head(corner), cv.InputSpec(shape=(4, 4, 4)))
    with pytest.raises(VolumeError) as caught:
        head_of(conformed)
    assert "no voxel where the network sees" in plain(caught.value)
