import numpy as np
import pytest
import torch

from napari_cnnvis.ucm.boundary import half_balls
from napari_cnnvis.ucm.boundary.half_balls import DIRECTIONS, HalfBalls, ball_offsets, plane_sides


def test_directions_are_half_of_the_26_neighbours():
    steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    steps = steps[np.abs(steps).sum(1) > 0]
    neighbours = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    both = np.concatenate([DIRECTIONS, -DIRECTIONS])
    assert both.shape == (26, 3)
    assert {tuple(d) for d in both.round(6) + 0} == {tuple(d) for d in neighbours.round(6) + 0}


@pytest.mark.parametrize(("radius", "count"), [(4, 33), (8, 257), (12, 925), (1.9, 1)])
def test_voxels_of_a_ball_on_a_2_mm_grid(radius, count):
    assert len(ball_offsets(radius, (2, 2, 2))) == count


def test_offsets_are_chosen_in_millimetres():
    offsets = ball_offsets(6, (1, 2, 5))
    assert np.abs(offsets).max(0).tolist() == [6, 3, 1]
    coarse = ball_offsets(6, (1, 1, 1))
    expected = coarse[(coarse % (1, 2, 5) == 0).all(1)] // (1, 2, 5)
    assert {tuple(o) for o in offsets.tolist()} == {tuple(o) for o in expected.tolist()}


@pytest.mark.parametrize("spacing", [(2, 2, 2), (1, 1, 5), (0.9, 1.3, 2.1)])
def test_sides_of_opposite_offsets_are_opposite(spacing):
    offsets = ball_offsets(6, spacing)
    np.testing.assert_array_equal(plane_sides(-offsets, spacing), -plane_sides(offsets, spacing))
    assert (plane_sides(np.zeros((1, 3), int), spacing) == 0).all()


def test_planes_of_a_cubic_grid_have_no_rounding_errors():
    sides = plane_sides(ball_offsets(12 * 0.9, (0.9, 0.9, 0.9)), (0.9, 0.9, 0.9))
    exact = ball_offsets(12, (1, 1, 1)) @ (DIRECTIONS / np.abs(DIRECTIONS).max(1)[:, None]).T
    np.testing.assert_array_equal(sides, np.sign(exact.round()).T)


def brute_force(values, head, spacing, radius):
    """Sums over the ball and differences of its halves, one voxel after another."""
    offsets = ball_offsets(radius, spacing)
    sides = plane_sides(offsets, spacing)
    volume = np.zeros(head.shape)
    volume[head] = values
    sums, differences = [], []
    for place in np.argwhere(head):
        around = place + offsets
        exists = ((around >= 0) & (around < head.shape)).all(1)
        here = np.where(exists, volume[tuple((around * exists[:, None]).T)], 0)
        sums.append(here.sum())
        differences.append(sides @ here)
    return np.array(sums), np.array(differences).T


@pytest.mark.parametrize("batch", [1, 2**21])
@pytest.mark.parametrize(
    ("shape", "spacing", "radius"),
    [((7, 8, 6), (1, 1, 1), 3), ((6, 7, 5), (1, 2, 1.5), 4), ((9, 3, 1), (1, 1, 1), 6)],
)
def test_sums_equal_those_of_every_voxel(monkeypatch, batch, shape, spacing, radius):
    monkeypatch.setattr(half_balls, "BATCH", batch)
    rng = np.random.default_rng(0)
    head = rng.random(shape) < 0.8
    balls = HalfBalls(head, spacing, 1.5 * radius)
    values = rng.normal(size=(3, balls.n)).astype(np.float32)
    spectra = balls.spectra(torch.from_numpy(values))
    sums = list(balls.sums(spectra, radius))
    differences = [list(balls.differences(spectra, radius, d)) for d in range(13)]
    assert len(sums) == 4
    for row, expected in enumerate(brute_force(v, head, spacing, radius) for v in values):
        np.testing.assert_allclose(sums[row], expected[0], atol=1e-4)
        for d in range(13):
            np.testing.assert_allclose(differences[d][row], expected[1][d], atol=1e-4)


def test_halves_at_the_edge_of_the_head_are_trusted_less():
    head = np.ones((15, 15, 15), bool)
    balls = HalfBalls(head, (1, 1, 1), 3)
    spectra = balls.spectra(torch.ones(1, balls.n))
    count = next(balls.sums(spectra, 3))
    first_axis = int(np.argmax(DIRECTIONS @ (1, 0, 0)))
    surplus = next(balls.differences(spectra, 3, first_axis))
    ahead, behind, trust = (x.reshape(15, 15, 15) for x in balls.halves(count, surplus, 3))
    assert trust[7, 7, 7] == 1
    assert ahead[7, 7, 7] == behind[7, 7, 7] == len(ball_offsets(3, (1, 1, 1)))
    assert trust[0, 7, 7] < trust[1, 7, 7] < trust[2, 7, 7] < 1
    assert ahead[0, 7, 7] > behind[0, 7, 7]


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_keeps_its_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = []
        with HalfBalls(np.ones((2, 2, 2), bool), (1, 1, 1), 1) as balls:
            balls.each_direction(lambda d: seen.append((d, torch.get_num_threads())))
        assert sorted(seen) == [(d, 1) for d in range(13)]
        with (
            pytest.raises(ZeroDivisionError),
            HalfBalls(np.ones((2, 2, 2), bool), (1, 1, 1), 1) as balls,
        ):
            balls.each_direction(lambda d: 1 / 0)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
