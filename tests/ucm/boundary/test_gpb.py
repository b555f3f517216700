import threading

import numpy as np
import pytest

from napari_cnnvis.errors import Cancelled
from napari_cnnvis.ucm.boundary.gpb import globalised_boundary
from napari_cnnvis.ucm.boundary.local import local_boundary
from napari_cnnvis.ucm.boundary.spectral import spectral_boundary


def ellipsoid(shape, radii):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return ((grid / np.array(radii)[:, None, None, None]) ** 2).sum(0) < 1


def phantom():
    """A head with a dark ventricle, and the ventricle."""
    shape = (30, 34, 28)
    head, ventricle = ellipsoid(shape, (14, 16, 13)), ellipsoid(shape, (5, 7, 5))
    noise = np.random.default_rng(0).normal(0, 0.03, shape)
    return ((np.where(ventricle, 0.3, 0.9) + noise) * head).astype(np.float32), head, ventricle


@pytest.fixture(scope="module")
def made():
    data, head, ventricle = phantom()
    return globalised_boundary(data, (2, 2, 2), head), data, head, ventricle


def test_strength_is_finite_within_0_and_1_and_zero_outside(made):
    strength, data, head, _ = made
    assert strength.dtype == np.float32
    assert strength.shape == data.shape
    assert np.isfinite(strength).all()
    assert strength[head].min() >= 0
    assert 0.5 < strength.max() <= 1
    assert (strength[~head] == 0).all()


def test_strength_is_the_mean_of_both_parts(made):
    strength, data, head, _ = made
    local = local_boundary(data, (2, 2, 2), head)
    spectral = spectral_boundary(local, (2, 2, 2), head)
    expected = (local / local.max() + spectral / spectral.max()).max(0) / 2
    np.testing.assert_allclose(strength[head], expected, rtol=1e-3)


def test_wall_of_the_ventricle_is_found(made):
    strength, data, _, ventricle = made
    wall = ventricle & ~ellipsoid(data.shape, (4, 6, 4))
    tissue = ellipsoid(data.shape, (12, 14, 11)) & ~ellipsoid(data.shape, (10, 12, 10))
    rim = made[2] & ~ellipsoid(data.shape, (13, 15, 12))
    assert strength[wall].mean() > 1.5 * strength[tissue].mean()
    assert strength[wall].mean() > 3 * strength[rim].mean()


def test_same_volume_gives_the_same_bits(made):
    strength, data, head, _ = made
    np.testing.assert_array_equal(globalised_boundary(data, (2, 2, 2), head), strength)


def test_space_around_the_head_does_not_matter(made):
    strength, data, head, _ = made
    pads = ((3, 1), (0, 5), (2, 2))
    padded = globalised_boundary(np.pad(data, pads), (2, 2, 2), np.pad(head, pads))
    np.testing.assert_array_equal(padded, np.pad(strength, pads))


def random(shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def few(count):
    head = np.zeros((6, 6, 6), bool)
    head.flat[80 : 80 + count] = True
    return head


ODD = {
    "constant": (np.full((8, 8, 8), 0.7, np.float32), (2, 2, 2), np.ones((8, 8, 8), bool)),
    "zero": (np.zeros((8, 8, 8), np.float32), (2, 2, 2), np.ones((8, 8, 8), bool)),
    "no head": (random((6, 6, 6)), (2, 2, 2), few(0)),
    "one voxel": (random((6, 6, 6)), (2, 2, 2), few(1)),
    "two voxels": (random((6, 6, 6)), (2, 2, 2), few(2)),
    "handful": (random((6, 6, 6)), (2, 2, 2), few(7)),
    "scattered": (random((9, 9, 9)), (2, 2, 2), random((9, 9, 9), 1) < 0.02),
    "two heads": (
        random((20, 5, 5)),
        (2, 2, 2),
        np.abs(np.arange(500) // 25 - 10).reshape(20, 5, 5) > 4,
    ),
    "thin": (random((20, 18, 5)), (1, 1, 1), np.ones((20, 18, 5), bool)),
    "slice": (random((20, 1, 18)), (2, 2, 2), np.ones((20, 1, 18), bool)),
    "row": (random((1, 1, 30)), (2, 2, 2), np.ones((1, 1, 30), bool)),
    "thick slices": (random((20, 20, 6)), (1, 1, 5), np.ones((20, 20, 6), bool)),
    "huge voxels": (random((6, 6, 6)), (20, 20, 20), np.ones((6, 6, 6), bool)),
    "speck": (np.pad(np.full((1, 1, 1), 50.0, np.float32), 5), (2, 2, 2), np.ones((11,) * 3, bool)),
    "two values": (np.float32(random((12, 12, 12)) > 0.5), (2, 2, 2), np.ones((12,) * 3, bool)),
    "negative": (random((9, 9, 9)) - 5, (2, 2, 2), np.ones((9, 9, 9), bool)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_volumes_give_finite_strength(name):
    data, spacing, head = ODD[name]
    strength = globalised_boundary(data, spacing, head)
    assert strength.shape == data.shape
    assert np.isfinite(strength).all()
    assert strength.min() >= 0
    assert strength.max() <= 1
    assert (strength[~head] == 0).all()


@pytest.mark.parametrize("name", ["constant", "zero", "one voxel", "huge voxels"])
def test_nothing_to_part_is_zero(name):
    assert (globalised_boundary(*ODD[name]) == 0).all()


class CancelledAfter(threading.Event):
    """Set after it was looked at so many times."""

    def __init__(self, looks):
        super().__init__()
        self.left = looks

    def is_set(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("looks", [0, 9, 60])
def test_cancel(looks):
    data, head, _ = phantom()
    cancel = CancelledAfter(looks)
    with pytest.raises(Cancelled, match=r"^Building the supervoxels was cancelled\.$"):
        globalised_boundary(data, (2, 2, 2), head, cancel=cancel)
    assert cancel.left > -60  # threads look once more each


def test_a_finer_scan_has_about_the_same_boundaries(made):
    strength, data, head, _ = made
    fine_data, fine_head = (np.kron(x, np.ones((2, 2, 2), x.dtype)) for x in (data, head))
    fine = globalised_boundary(fine_data, (1, 1, 1), fine_head)
    assert (fine[~fine_head] == 0).all()
    of_blocks = fine.reshape(30, 2, 34, 2, 28, 2).mean(axis=(1, 3, 5))
    inner = ellipsoid(data.shape, (12, 14, 11))
    assert np.corrcoef(of_blocks[inner], strength[inner])[0, 1] > 0.97
    np.testing.assert_array_equal(fine[1::2, 1::2, 1::2] > 0, fine[::2, ::2, ::2] > 0)
