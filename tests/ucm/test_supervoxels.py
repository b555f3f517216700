import numpy as np
import pytest
from scipy import ndimage

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.ucm.supervoxels import boundary_strength, find_head, supervoxels


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


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 2, 2), (1, 2, 3)])
@pytest.mark.parametrize("slopes", [(0.5, 0, 0), (0.3, -1.2, 0.7)])
def test_strength_of_a_ramp_is_its_slope_per_millimetre(spacing, slopes):
    grid = np.indices((30, 24, 20), dtype=np.float32)
    ramp = sum(s * step * g for s, step, g in zip(slopes, spacing, grid, strict=True))
    inner = boundary_strength(ramp, spacing)[8:-8, 8:-8, 8:-8]
    np.testing.assert_allclose(inner, np.linalg.norm(slopes), rtol=1e-2)


def test_strength_is_greatest_on_the_boundary():
    data = np.zeros((20, 20, 20), np.float32)
    data[10:] = 1
    strength = boundary_strength(data, (2, 2, 2))
    assert strength.argmax() // 400 in {9, 10}
    assert strength[[2, 17]].max() < 1e-3


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


def test_supervoxels_fill_the_head_and_nothing_else(head):
    strength = np.random.default_rng(0).random(head.shape).astype(np.float32)
    labels = supervoxels(ndimage.gaussian_filter(strength, 1.5), head)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, head)
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert labels.max() > 10


def test_no_supervoxel_is_tiny(head):
    strength = np.random.default_rng(0).random(head.shape).astype(np.float32)
    labels = supervoxels(ndimage.gaussian_filter(strength, 0.7), head, smallest=8)
    assert np.bincount(labels[labels > 0]).max() > 8
    assert np.bincount(labels[labels > 0])[1:].min() >= 8


def test_a_head_that_fills_the_volume_has_no_background():
    strength = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    labels = supervoxels(ndimage.gaussian_filter(strength, 1), np.ones((12, 12, 12), bool))
    np.testing.assert_array_equal(np.unique(labels), np.arange(1, labels.max() + 1))


def test_wall_between_two_halves_parts_them():
    strength = np.zeros((16, 8, 8), np.float32)
    strength[7:9] = 1
    labels = supervoxels(strength, np.ones(strength.shape, bool))
    assert labels.max() == 2
    assert set(np.unique(labels[:7])) != set(np.unique(labels[9:]))
