import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.ucm.head import find_head


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
