import threading

import numpy as np
import pytest

from napari_cnnvis.errors import Cancelled
from napari_cnnvis.ucm.boundary.half_balls import DIRECTIONS, ball_offsets, plane_sides
from napari_cnnvis.ucm.boundary.local import local_boundary, smooth_in_head


def ball(shape, radius, spacing=(1, 1, 1)):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return ((grid * np.reshape(spacing, (3, 1, 1, 1))) ** 2).sum(0) < radius**2


def brute_force(data, spacing, head, radii, bins):
    """Histograms of both halves, counted voxel by voxel."""
    smooth = np.full(head.shape, np.nan)
    smooth[head] = smooth_in_head(data, spacing, head)
    low, high = np.percentile(smooth[head], (1, 99))
    number = np.clip(np.floor((smooth - low) / (high - low) * bins), 0, bins - 1)
    strength = np.zeros((13, head.sum()))
    for radius in radii:
        offsets = ball_offsets(radius, spacing)
        sides = plane_sides(offsets, spacing)
        for voxel, place in enumerate(np.argwhere(head)):
            around = place + offsets
            inside = ((around >= 0) & (around < head.shape)).all(1)
            inside[inside] = head[tuple(around[inside].T)]
            seen = number[tuple(around[inside].T)]
            for d, side in enumerate(sides[:, inside]):
                p = np.array([((1 + side) * (seen == b)).sum() for b in range(bins)]) / 2
                n = np.array([((1 - side) * (seen == b)).sum() for b in range(bins)]) / 2
                trust = 2 * min(p.sum(), n.sum()) / len(offsets)
                if trust:
                    p, n = p / p.sum(), n / n.sum()
                    any_ = p + n > 0
                    chi_square = 0.5 * ((p - n)[any_] ** 2 / (p + n)[any_]).sum()
                    strength[d, voxel] += trust * chi_square
    return strength


@pytest.mark.parametrize(
    ("shape", "spacing", "radii", "bins"),
    [
        ((6, 7, 5), (1, 1, 1), (2, 3), 11),
        ((5, 6, 4), (2, 2, 2), (4, 8), 4),
        ((6, 5, 4), (1, 2, 1.5), (3,), 6),
        ((7, 7, 1), (1, 1, 5), (3, 6), 5),
    ],
)
def test_strength_equals_histograms_counted_by_hand(shape, spacing, radii, bins):
    rng = np.random.default_rng(0)
    data, head = rng.random(shape).astype(np.float32), rng.random(shape) < 0.8
    expected = brute_force(data, spacing, head, radii, bins)
    strength = local_boundary(data, spacing, head, radii, bins)
    assert strength.dtype == np.float32
    np.testing.assert_allclose(strength, expected, atol=1e-5)


def test_halves_without_a_common_bin_differ_by_one_for_each_radius():
    data = np.zeros((15, 9, 9), np.float32)
    data[8:] = 1
    data[7] = 0.5
    strength = local_boundary(data, (5, 5, 5), np.ones(data.shape, bool), (5, 15))
    middle = strength.reshape(13, *data.shape)[:, 7, 4, 4]
    along = middle[np.argmax(DIRECTIONS @ (1, 0, 0))]
    share = [(ball_offsets(r, (5, 5, 5))[:, 0] == 0).mean() for r in (5, 15)]
    assert along == pytest.approx(2 - sum(share), abs=1e-5)  # the plane is common to both halves


@pytest.mark.parametrize("number", range(13))
def test_step_is_strongest_across_its_plane(number):
    grid = np.moveaxis(np.indices((15, 15, 15)) - 7, 0, -1)
    data = (grid @ DIRECTIONS[number] > 0.1).astype(np.float32)
    strength = local_boundary(data, (2, 2, 2), np.ones(data.shape, bool)).reshape(13, 15, 15, 15)
    assert strength[:, 7, 7, 7].argmax() == number
    assert strength[:, 7, 7, 7].max() > 1


def test_ramp_has_one_direction():
    data = np.indices((17, 17, 17))[1].astype(np.float32)
    strength = local_boundary(data, (2, 2, 2), np.ones(data.shape, bool)).reshape(13, 17, 17, 17)
    middle = strength[:, 8, 8, 8]
    across = np.abs(DIRECTIONS[:, 1]) < 1e-6
    np.testing.assert_allclose(middle[across], 0, atol=1e-6)
    assert DIRECTIONS[middle.argmax()].tolist() == [0, 1, 0]


def test_twice_the_millimetres_with_twice_the_radius_is_the_same():
    data, head = np.random.default_rng(0).random((9, 8, 7)), np.ones((9, 8, 7), bool)
    small = local_boundary(data, (3, 4, 5), head, (6, 12))
    large = local_boundary(data, (6, 8, 10), head, (12, 24))
    np.testing.assert_array_equal(small, large)


def test_order_of_the_axes_does_not_matter():
    rng = np.random.default_rng(0)
    data, head = rng.random((9, 8, 7)).astype(np.float32), rng.random((9, 8, 7)) < 0.9
    strength, turned = np.zeros((9, 8, 7)), np.zeros((7, 9, 8))
    strength[head] = local_boundary(data, (1, 2, 3), head).max(0)
    axes = (2, 0, 1)
    turned_head = head.transpose(axes)
    turned[turned_head] = local_boundary(data.transpose(axes), (3, 1, 2), turned_head).max(0)
    np.testing.assert_allclose(turned, strength.transpose(axes), atol=1e-5)


def test_thick_slices_see_the_same_ball_as_cubic_voxels():
    fine = ball((31, 31, 31), 9).astype(np.float32)
    head = ball((31, 31, 31), 15)
    strength = np.zeros((2, 31, 31, 31))
    strength[0][head] = local_boundary(fine, (1, 1, 1), head).max(0)
    thick = head[:, :, 1::2]
    strength[1][:, :, 1::2][thick] = local_boundary(fine[:, :, 1::2], (1, 1, 2), thick).max(0)
    cubic, slices = strength[:, :, :, 1::2][:, thick]
    assert np.corrcoef(cubic, slices)[0, 1] > 0.95
    assert np.abs(cubic - slices).mean() < 0.1


def test_edge_of_the_head_is_no_boundary():
    head = ball((24, 24, 24), 11)
    data = np.where(ball((24, 24, 24), 3), np.float32(0.5), np.float32(1)) * head
    strength = np.zeros(head.shape)
    strength[head] = local_boundary(data, (4, 4, 4), head).max(0)
    assert strength[ball(head.shape, 4)].max() > 1
    assert strength[~ball(head.shape, 8)].max() < 1e-6


def test_what_lies_outside_the_head_is_not_looked_at():
    head = ball((14, 14, 14), 6)
    data = np.random.default_rng(0).random(head.shape).astype(np.float32)
    other = np.where(head, data, np.float32(9))
    expected = local_boundary(data, (2, 2, 2), head)
    np.testing.assert_array_equal(local_boundary(other, (2, 2, 2), head), expected)


def test_few_voxels_of_a_dark_rim_count_little():
    whole, head = ball((30, 30, 30), 14), ball((30, 30, 30), 13)
    rim = whole & ~head
    data = np.select([rim, head], [0.3, 1.0], 0).astype(np.float32)
    data += (ball((30, 30, 30), 5) * -0.7).astype(np.float32)
    strength = np.zeros(whole.shape)
    strength[whole] = local_boundary(data, (2, 2, 2), whole).max(0)
    assert strength[rim].mean() < 0.5 * strength[ball((30, 30, 30), 6)].max()


def test_smoothing_is_the_reference_kernel_at_2_mm():
    data = np.zeros((7, 7, 7), np.float32)
    data[3, 3, 3] = 1
    smooth = smooth_in_head(data, (2, 2, 2), np.ones(data.shape, bool)).reshape(data.shape)
    one = np.exp(-np.array([1, 0, 1]) / 6)
    kernel = np.einsum("i,j,k", one, one, one) / one.sum() ** 3
    np.testing.assert_allclose(smooth[2:5, 2:5, 2:5], kernel, rtol=1e-5)
    assert smooth.sum() == pytest.approx(1, rel=1e-5)


def test_smoothing_takes_nothing_from_outside():
    head = ball((9, 9, 9), 4)
    data = np.where(head, np.float32(3), np.float32(-50))
    np.testing.assert_allclose(smooth_in_head(data, (1, 1, 2), head), 3, rtol=1e-6)


def test_thick_slices_are_not_smoothed_together():
    data = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    smooth = smooth_in_head(data, (2.5, 3, 5), np.ones(data.shape, bool))
    np.testing.assert_allclose(smooth, data.ravel(), rtol=1e-6)


def test_same_volume_gives_the_same_bits():
    data = np.random.default_rng(0).random((16, 14, 12)).astype(np.float32)
    head = ball(data.shape, 7)
    first = local_boundary(data, (2, 2, 2), head)
    np.testing.assert_array_equal(local_boundary(data, (2, 2, 2), head), first)


@pytest.mark.parametrize("value", [0, 0.7])
def test_one_intensity_has_no_boundary(value):
    data = np.full((6, 6, 6), value, np.float32)
    assert (local_boundary(data, (2, 2, 2), np.ones(data.shape, bool)) == 0).all()


def test_no_head():
    data = np.zeros((4, 4, 4), np.float32)
    assert local_boundary(data, (1, 1, 1), np.zeros(data.shape, bool)).shape == (13, 0)


def test_voxels_wider_than_the_ball():
    data = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    assert (local_boundary(data, (13, 13, 13), np.ones(data.shape, bool)) == 0).all()


def test_a_bright_speck_does_not_take_the_bins():
    data = np.where(np.indices((16, 16, 16))[0] < 8, np.float32(0.5), np.float32(1))
    head = np.ones(data.shape, bool)
    expected = local_boundary(data, (2, 2, 2), head)[:, 7 * 256 + 8 * 16 + 8]
    data[1, 1, 1] = 1000
    strength = local_boundary(data, (2, 2, 2), head)[:, 7 * 256 + 8 * 16 + 8]
    np.testing.assert_allclose(strength, expected, atol=0.02)


def test_cancel():
    cancel = threading.Event()
    cancel.set()
    data = np.random.default_rng(0).random((6, 6, 6)).astype(np.float32)
    with pytest.raises(Cancelled, match="was cancelled"):
        local_boundary(data, (1, 1, 1), np.ones(data.shape, bool), cancel=cancel)
