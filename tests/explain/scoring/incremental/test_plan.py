import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_cnnvis.explain.scoring.incremental import plan
from napari_cnnvis.explain.scoring.incremental.plan import Cones, cones_of, make_batches

MUCH = 1e18


@st.composite
def cones(draw):
    """Up to 40 regions of up to 8 kinds, whose boxes grow from one of three operations to the next."""
    kinds = draw(st.lists(st.tuples(*[st.integers(0, 30)] * 3), min_size=1, max_size=8))
    members = draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=40))
    sizes = np.array(kinds)[members][:, None] + np.array([0, 2, 6])[:, None]
    return Cones(sizes, np.array([0.0, 27.0, 4000.0]), np.array([8.0, 64.0, 128.0]))


def kind_of_each(of):
    return np.unique(of.sizes.reshape(len(of.sizes), -1), axis=0, return_inverse=True)[1].ravel()


budgets = st.sampled_from([0.0, 1.0, 1e5, 1e6, MUCH])


@given(cones(), budgets)
def test_batches_hold_each_region_exactly_once(of, budget):
    members = np.concatenate(make_batches(of, budget))
    np.testing.assert_array_equal(np.sort(members), np.arange(len(of.sizes)))


@given(cones())
def test_regions_of_equal_cones_go_together(of):
    batch_of = np.empty(len(of.sizes), int)
    for number, batch in enumerate(make_batches(of, MUCH)):
        batch_of[batch] = number
    kind = kind_of_each(of)
    for each in range(kind.max() + 1):
        assert len(set(batch_of[kind == each])) == 1


@given(cones(), budgets)
def test_batches_stay_within_the_budget_unless_they_are_single(of, budget):
    for batch in make_batches(of, budget):
        assert len(batch) == 1 or len(batch) * of.bytes(batch) <= budget


@given(cones(), budgets)
def test_batches_with_the_most_work_come_first(of, budget):
    work = of.multiply_adds()
    heaviest = [work[batch].max() for batch in make_batches(of, budget)]
    assert heaviest == sorted(heaviest, reverse=True)


@given(cones())
def test_batches_cost_no_more_than_one_batch_or_one_for_each_kind(of):
    found = sum(of.cost(batch) for batch in make_batches(of, MUCH))
    assert found <= of.cost(np.arange(len(of.sizes))) * (1 + 1e-9)


def many(sizes, work=1000.0):
    sizes = np.array(sizes)[:, None, None] * np.ones((1, 1, 3), int)
    return Cones(sizes, np.array([work]), np.array([4.0]))


def test_very_different_regions_go_apart_and_like_ones_together():
    of = many([60, 2, 61, 3, 2, 60], work=300.0)
    assert sorted(sorted(b) for b in make_batches(of, MUCH)) == [[0, 2, 5], [1, 3, 4]]


def test_starting_a_batch_costs_something(monkeypatch):
    of = many([2, 3, 4, 5])
    assert len(make_batches(of, MUCH)) == 1
    monkeypatch.setattr(plan, "_STARTING", 0.0)
    assert len(make_batches(of, MUCH)) == 4


def test_no_batch_is_larger_than_the_limit():
    lengths = [len(b) for b in make_batches(many([3] * 600), MUCH)]
    assert sum(lengths) == 600
    assert max(lengths) <= plan._LARGEST_BATCH


def one_voxel(*low):
    low = np.array([low])
    return low, low + 1


def test_multiply_adds_of_two_convolutions(program_of, gap_net):
    program = program_of(gap_net([nn.Conv3d(1, 2, 3), nn.Conv3d(2, 3, 3)], 3), (12, 12, 12))
    head = 3 * 2
    inside = cones_of(program, one_voxel(6, 6, 6)).multiply_adds()
    np.testing.assert_array_equal(inside, [27 * 27 * 2 + 125 * 27 * 2 * 3 + head])
    corner = cones_of(program, one_voxel(0, 11, 6)).multiply_adds()
    np.testing.assert_array_equal(corner, [3 * 27 * 2 + 5 * 27 * 2 * 3 + head])
    whole = cones_of(program, (np.zeros((1, 3), int), np.full((1, 3), 12))).multiply_adds()
    np.testing.assert_array_equal(whole, [program.work])


def test_whole_maps_count_in_full_for_each_region(program_of, gap_net):
    program = program_of(gap_net([nn.GroupNorm(1, 1), nn.Conv3d(1, 4, 3)], 4), (8, 8, 8))
    found = cones_of(program, one_voxel(0, 0, 0)).multiply_adds()
    np.testing.assert_array_equal(found, [6**3 * 27 * 4 + 8])


def test_bytes_count_the_gathered_input_and_the_result(program_of, gap_net):
    program = program_of(gap_net([nn.Conv3d(1, 6, 3, padding=1)], 6), (9, 9, 9))
    of = cones_of(program, one_voxel(4, 4, 4), itemsize=2)
    assert of.bytes(np.array([0])) == 27 * (6 + 1) * 2


def test_a_network_without_work_has_cones(program_of, calls):
    def brightest_and_mean(x):
        return torch.stack([x.mean((1, 2, 3, 4)), x.amax((1, 2, 3, 4))], 1)

    of = cones_of(program_of(calls(brightest_and_mean), (5, 5, 5)), one_voxel(2, 2, 2))
    np.testing.assert_array_equal(of.multiply_adds(), [0])
    assert len(make_batches(of, MUCH)) == 1


CHAINS = {
    "convolutions": [nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, (1, 3, 5))],
    "strides": [nn.Conv3d(1, 1, 3, 2, 1), nn.Conv3d(1, 1, (2, 3, 3), (2, 1, 3))],
    "pools": [nn.AvgPool3d(3, 2, 1), nn.Conv3d(1, 1, 2), nn.AvgPool3d(2)],
    "padding": [nn.ConstantPad3d((1, 3, 0, 2, 2, 0), 0.0), nn.Conv3d(1, 1, 3, 2)],
}


def changed_box(layers, low, high, shape):
    """Size of the box in which each layer's output changes, found by running them."""
    x = torch.ones(1, 1, *shape)
    y = x.clone()
    y[(..., *(slice(a, b) for a, b in zip(low, high, strict=True)))] = 2
    sizes = []
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.fill_(0.5)
            x, y = layer(x), layer(y)
            places = np.nonzero((x != y)[0, 0].numpy())
            sizes.append([p.max() + 1 - p.min() if len(p) else 0 for p in places])
    return sizes


@pytest.mark.parametrize("chain", CHAINS)
def test_sizes_are_those_of_the_boxes_that_change(program_of, gap_net, chain):
    layers, shape = CHAINS[chain], (17, 18, 19)
    rng = np.random.default_rng(0)
    low = rng.integers(0, shape, (12, 3))
    high = np.minimum(low + rng.integers(1, 7, (12, 3)), shape)
    program = program_of(gap_net(layers, 1), shape)
    found = cones_of(program, (low, high)).sizes[:, : len(layers)]
    expected = [changed_box(layers, a, b, shape) for a, b in zip(low, high, strict=True)]
    for ours, measured in zip(found, expected, strict=True):
        assert ours[-1].all() == np.all(measured[-1])
        if np.any(measured[-1]):
            np.testing.assert_array_equal(ours, measured)


def test_branches_are_joined_in_the_box_around_both(program_of, calls):
    net = calls(
        lambda x, a, b: (a(x) + b(x)).mean((2, 3, 4)),
        nn.Conv3d(1, 2, (5, 1, 1), padding=(2, 0, 0)),
        nn.Conv3d(1, 2, (1, 3, 1), padding=(0, 1, 0)),
    )
    sizes = cones_of(program_of(net, (9, 9, 9)), one_voxel(4, 4, 4)).sizes[0]
    np.testing.assert_array_equal(sizes, [[5, 1, 1], [1, 3, 1], [5, 3, 1]])
