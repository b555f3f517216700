"""The one head mask, on every kind of background."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.head import find_head

from .phantoms import BACKGROUNDS, exact


def ellipsoid(shape, radii):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return ((grid / np.array(radii)[:, None, None, None]) ** 2).sum(0) < 1


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture
def head():
    return ellipsoid((30, 34, 28), (10, 12, 9))


@pytest.fixture
def ventricle():
    return ellipsoid((30, 34, 28), (3, 5, 3))


def test_skull_stripped_head_is_every_voxel_above_zero(head, ventricle):
    data = np.where(head, np.float32(1), 0)
    data[ventricle] = 0
    np.testing.assert_array_equal(find_head(data), head)


def test_head_in_a_noisy_background(head, ventricle):
    noise = np.abs(np.random.default_rng(0).normal(0, 0.03, head.shape))
    data = (np.where(head & ~ventricle, 1, 0.05) + noise).astype(np.float32)
    assert dice(find_head(data), head) > 0.98


def test_specks_outside_do_not_belong_to_the_head(head):
    data = head.astype(np.float32)
    data[1:3, 1:3, 1:3] = 5
    np.testing.assert_array_equal(find_head(data), head)


def test_negative_background(head):
    data = np.where(head, np.float32(1), np.float32(-3))
    np.testing.assert_array_equal(find_head(data), head)


def test_constant_volume_is_refused():
    with pytest.raises(VolumeError, match="one value everywhere"):
        find_head(np.full((5, 5, 5), 3.0, np.float32))


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_the_true_head_is_found(kind):
    data, true = BACKGROUNDS[kind]()
    found = find_head(data)
    assert found.dtype == bool
    assert dice(found, true) >= 0.97


def test_the_halo_would_be_found_without_care():
    """Else the cases above would not be hard."""
    data, true = BACKGROUNDS["skull-stripped, faint halo"]()
    assert ((data > 0) & (data < 0.02 * data.max())).sum() > 0.8 * true.sum()
    assert dice(data > data.min(), true) < 0.75


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.booleans())
def test_scale_offset_and_sign_do_not_matter(scale, offset, negative):
    data, _ = exact()
    data = data[::3, ::3, ::3].astype(np.float64)
    changed = (-scale if negative else scale) * data + offset * scale
    assert dice(find_head(changed.astype(np.float32)), find_head(data)) > 0.99


def test_turning_the_scan_turns_the_mask():
    data, _ = BACKGROUNDS["head, uneven coil"]()
    expected = find_head(data)
    turned = np.ascontiguousarray(data.transpose(2, 0, 1)[::-1])
    assert dice(find_head(turned), expected.transpose(2, 0, 1)[::-1]) > 0.999


def test_a_large_scan_gives_the_mask_of_a_small_one():
    """Above a size the solid part is looked for on a coarser grid."""
    data, _ = BACKGROUNDS["head, little noise"]()
    large = np.kron(data, np.ones((2, 2, 2), np.float32))
    assert large.size > 2_000_000
    expected = np.kron(find_head(data), np.ones((2, 2, 2), bool))
    assert dice(find_head(large), expected) > 0.99


@pytest.mark.parametrize(
    "data",
    [
        np.random.default_rng(0).random((12, 12, 12)),
        exact()[0][24:36, 28:44, 34:46],
        np.arange(1000.0).reshape(10, 10, 10),
    ],
)
def test_a_picture_without_a_background_is_all_head(data):
    assert find_head(data.astype(np.float32)).mean() > 0.9


@pytest.mark.parametrize("empty", [1, 3, 6])
def test_noise_beside_an_empty_slab(empty):
    data = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    data[:empty] = 0
    found = find_head(data)
    assert dice(found, np.broadcast_to(np.arange(20)[:, None, None] >= empty, data.shape)) > 0.95


@pytest.mark.parametrize(
    "kind", ["head, much noise", "head in a coil", "head, defaced", "skull-stripped, rings"]
)
def test_the_mask_is_one_piece_without_holes(kind):
    found = find_head(BACKGROUNDS[kind]()[0])
    assert ndimage.label(found)[1] == 1


@pytest.mark.parametrize("shape", [(1, 9, 9), (2, 2, 2), (3, 1, 40), (1, 1, 2)])
def test_scans_of_few_voxels(shape):
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    assert find_head(data).shape == shape


def test_one_bright_voxel():
    data = np.zeros((9, 9, 9), np.float32)
    data[4, 4, 4] = 1
    assert find_head(data).sum() == 1


@pytest.mark.parametrize("name", ["ibsr_01", "ibsr_05"])
def test_real_scans(shared_data, name):
    """Nobody drew their heads, but the mask has to be one solid piece, whatever is done to the scan."""
    data = read_volume(shared_data / f"{name}.nii.gz").data
    found = find_head(data)
    assert 0.2 < found.mean() < 0.7
    assert ndimage.label(found)[1] == 1
    assert (ndimage.binary_fill_holes(found) == found).all()
    outside = data[~found]
    assert (outside > 0.2 * np.median(data[found])).mean() < 0.01
    rng = np.random.default_rng(0)
    noisy = np.hypot(data + rng.normal(0, 3, data.shape), rng.normal(0, 3, data.shape))
    shifted = ndimage.shift(data, (0.4, 0.3, 0.2), order=3)
    for changed in (-data, data / 255 - 7, noisy, shifted):
        assert dice(find_head(changed.astype(np.float32)), found) > 0.97
