import threading

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from napari_cnnvis.evaluate.trust.deletion import (
    Curves,
    affordable,
    removal_curves,
    score_of,
)
from napari_cnnvis.evaluate.trust.edges import edge_map
from napari_cnnvis.evaluate.trust.removal_orders import StepOcclusions, fractions_of, surrogates
from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.explain.scoring.occluded_scan import OccludedScan
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.vox import VoxResNetGAP, VoxVGG
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

SHAPE = (9, 8, 10)
INPUT = InputSpec(intensity="none")


@pytest.fixture(scope="module")
def scan():
    data = np.random.default_rng(0).uniform(0.5, 1, SHAPE)
    data[:2] = 0
    return Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]), "scan")


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def linear(weights):
    """Logits w . x and -w . x."""
    layer = nn.Linear(weights.size, 2, bias=False)
    with torch.no_grad():
        flat = torch.from_numpy(weights.ravel())
        layer.weight.copy_(torch.stack([flat, -flat]))
    return Model(
        nn.Sequential(nn.Flatten(), layer), None, InputSpec(SHAPE, intensity="none"), "cpu"
    )


@pytest.fixture(scope="module")
def head(scan):
    return scan.data > 0


def curves_of(model, scan, map_, head, **how):
    how = {"steps": 6, "random_orders": 8, "score": "logit"} | how
    occluded = OccludedScan(model, scan, how.pop("baseline", 0.0))
    return removal_curves(model, occluded, map_, how.pop("target", 0), head, **how)


@pytest.fixture(scope="module")
def perfect(linear, scan, weights, head):
    """The map that is the network's own sum, voxel by voxel."""
    return curves_of(linear, scan, weights * scan.data, head)


def test_curves_of_a_linear_network_are_its_sums(perfect, scan, weights, head):
    parts = np.sort((weights * scan.data)[head])[::-1].astype(np.float64)
    counts = np.round(fractions_of(6) * parts.size).astype(int)
    left = np.array([parts[n:].sum() for n in counts])
    back = np.array([parts[:n].sum() for n in counts])
    np.testing.assert_allclose(perfect.deletion.map, left, atol=1e-4)
    np.testing.assert_allclose(perfect.insertion.map, back, atol=1e-4)


def test_insertion_mirrors_deletion_in_a_linear_network(perfect):
    total = perfect.deletion.map[0]
    np.testing.assert_allclose(perfect.insertion.map, total - perfect.deletion.map, atol=1e-4)
    change = perfect.deletion.change(perfect.deletion.map)
    assert perfect.insertion.change(perfect.insertion.map) == pytest.approx(change, abs=1e-3)


def test_no_order_beats_the_perfect_one(perfect, linear, scan, weights, head):
    least = perfect.deletion.area(perfect.deletion.map)
    assert (perfect.deletion.area(perfect.deletion.random) > least).all()
    assert perfect.deletion.area(perfect.deletion.edges) > least
    for seed in range(5):
        order = np.random.default_rng(seed).normal(size=SHAPE)
        other = curves_of(linear, scan, order, head, random_orders=2).deletion
        assert other.area(other.map) > least
    assert perfect.as_good == 0
    assert perfect.p < 0.001


def test_the_worst_order_is_worse_than_random(linear, scan, weights, head):
    worst = curves_of(linear, scan, -weights * scan.data, head)
    assert worst.deletion.z < -3
    assert worst.p > 0.99


def test_every_curve_begins_at_the_scan_and_ends_at_the_baseline(perfect, linear, scan):
    clean = linear.logits(linear.tensor(scan.data))[0, 0].item()
    for curves, ends in ((perfect.deletion, (clean, 0)), (perfect.insertion, (0, clean))):
        every = np.stack([curves.map, curves.brain, curves.edges, *curves.random])
        np.testing.assert_allclose(every[:, 0], ends[0], atol=1e-4)
        np.testing.assert_allclose(every[:, -1], ends[1], atol=1e-4)


def test_random_orders_are_run_both_ways(perfect):
    deleted, put_back = perfect.deletion.random, perfect.insertion.random
    np.testing.assert_array_equal(put_back[:4], deleted[4:, ::-1])
    np.testing.assert_array_equal(put_back[4:], deleted[:4, ::-1])
    total = perfect.deletion.map[0]  # each order's insertion mirrors its own deletion here
    np.testing.assert_allclose(put_back, total - deleted, atol=1e-4)


def test_an_order_in_reverse_gains_the_negative(head):
    """In any network."""
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 3, 3), nn.ReLU(), nn.AdaptiveMaxPool3d(1), nn.Flatten()]
    model = Model(nn.Sequential(*layers, nn.Linear(3, 2)), None, INPUT, "cpu")
    scan = Volume(np.where(head, np.random.default_rng(2).random(SHAPE), 0))
    found = curves_of(model, scan, scan.data, head)
    own, random = found.gain
    np.testing.assert_allclose(random[:4], -random[4:], atol=1e-9)
    spread = np.sqrt(np.mean(random[:4] ** 2))
    assert found.z == pytest.approx(own / spread)
    assert found.p == pytest.approx(stats.t.sf(own / spread, 4))


def test_the_background_stays(linear, scan, head, weights):
    """Whatever the map says of it."""
    map_ = np.where(head, weights * scan.data, 100)
    found = curves_of(linear, scan, map_, head, baseline="blur")
    same = curves_of(linear, scan, np.where(head, map_, 0), head, baseline="blur")
    np.testing.assert_array_equal(found.deletion.map, same.deletion.map)


def test_the_same_seed_gives_the_same_curves(linear, scan, weights, head):
    one, two = (curves_of(linear, scan, weights, head, seed=3).to_dict() for _ in range(2))
    assert one == two


def test_small_steps_use_the_incremental_engine():
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    model = Model(nn.Sequential(*layers, nn.Linear(4, 2)), None, INPUT, "cpu")
    data = np.random.default_rng(0).uniform(0.5, 1, (16, 16, 16))
    big = Volume(data, np.eye(4), "big")
    away = -((np.indices(big.shape) ** 2).sum(0)).astype(np.float32)
    everything = np.ones(big.shape, bool)
    found = curves_of(model, big, away, everything, steps=60, random_orders=2)
    assert "incremental" in found.engine
    step = 5
    count = round(found.deletion.fractions[step] * big.data.size)
    flat = np.argsort(-away.ravel(), kind="stable")
    scores = []
    for n in (
        np.searchsorted(-away.ravel()[flat], -away.ravel()[flat[count]], side)
        for side in ("left", "right")
    ):
        x = big.data.copy()
        x.reshape(-1)[flat[:n]] = 0
        scores.append(model.logits(model.tensor(x))[0, 0].item())
    assert min(scores) - 1e-4 <= found.deletion.map[step] <= max(scores) + 1e-4


def test_boxes_and_voxels_of_steps(scan):
    rng = np.random.default_rng(0)
    flat = np.flatnonzero(scan.data > 0)
    orders = np.stack([rng.permutation(flat) for _ in range(3)])
    counts = np.array([1, 1, 5, 100])
    steps = StepOcclusions(orders, counts, make_baseline(scan.data, 0.0, scan.spacing), SHAPE)
    assert len(steps.boxes) == 3 * 4 + 1
    for index, box in enumerate(steps.boxes):
        voxels = steps.voxels(index)
        order, step = divmod(index, 4)
        expected = flat if order == 3 else np.sort(orders[order, : counts[step]])
        np.testing.assert_array_equal(voxels, expected)
        places = np.stack(np.unravel_index(voxels, SHAPE))
        np.testing.assert_array_equal(box, np.stack([places.min(1), places.max(1) + 1], 1))
        assert not steps.values(index).any()


def test_surrogates_have_the_maps_spectrum():
    rng = np.random.default_rng(0)
    map_ = rng.normal(size=(8, 8, 8))
    inside = np.ones(map_.shape, bool)
    for made in surrogates(map_, inside, 2, rng):
        power, own = (
            np.abs(np.fft.fftn(x - x.mean()))[1:, 1:, 1:] for x in (made.reshape(8, 8, 8), map_)
        )
        middle = np.s_[:3, :3, :3]
        np.testing.assert_allclose(power[middle], own[middle], rtol=1e-6)
        assert abs(np.corrcoef(made, map_.ravel())[0, 1]) < 0.5


def test_surrogates_of_a_constant_map_are_noise():
    (made,) = surrogates(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), 1, np.random.default_rng(0))
    assert made.std() > 0


def test_scores():
    logits = np.array([[1.0, 3.0], [-40.0, 60.0]])
    outputs = Outputs("softmax", 2)
    np.testing.assert_allclose(score_of(outputs, logits, 1, "log_odds")[0], 2)
    assert np.isfinite(score_of(outputs, logits, 1, "log_odds")).all()
    np.testing.assert_allclose(score_of(outputs, logits, 1, "logit"), [3, 60])
    sigmoid = score_of(Outputs("sigmoid", 1), np.array([[2.0]]), 0, "log_odds")
    np.testing.assert_allclose(sigmoid, [-2])
    value = score_of(Outputs("regression", 1), np.array([[71.0]]), 1, "log_odds")
    np.testing.assert_allclose(value, [71])


def test_fractions_are_finer_at_the_ends_and_symmetric():
    fractions = fractions_of(24)
    assert len(fractions) == 26
    np.testing.assert_allclose(fractions, 1 - fractions[::-1], atol=1e-12)
    assert fractions[1] < 0.01 < np.diff(fractions).max() < 0.1


def test_measures_of_curves():
    fractions = np.array([0, 0.5, 1])
    curve, random = np.array([1.0, 0, 0]), np.array([[1.0, 0.5, 0], [1.0, 0.7, 0]])
    curves = Curves("deletion", fractions, curve, random, random[0], random[1])
    assert curves.area(curve) == pytest.approx(0.25)
    assert curves.change(curve) == pytest.approx(0.75)
    assert curves.times == pytest.approx(0.75 / 0.45)
    assert curves.normalised == pytest.approx(0.25)
    flat = np.zeros(3)
    assert Curves("deletion", fractions, flat, random, flat, flat).normalised is None
    assert Curves("deletion", fractions, flat, random - random, flat, flat).z == 0


def test_cancelling_gives_nothing(linear, scan, weights, head):
    cancel = threading.Event()
    cancel.set()
    assert curves_of(linear, scan, weights, head, cancel=cancel) is None


def test_heavy_networks_get_fewer_passes():
    light = Model(VoxVGG(), None, InputSpec((110, 110, 110)), "cpu")
    assert affordable(light, (110, 110, 110)) == (24, 20)
    heavy = Model(VoxResNetGAP(), None, INPUT, "cpu")
    steps, orders = affordable(heavy, (110, 110, 110))
    assert 10 <= steps < 24
    assert 6 <= orders < 20


def test_edges_of_a_step():
    data = np.zeros((20, 12, 12))
    data[10:] = 1
    edges = edge_map(data, (2.0, 2.0, 2.0), 4.0)
    profile = edges[:, 6, 6]
    assert set(np.argsort(profile)[-2:]) == {9, 10}
    # the slope of a step behind a Gaussian, half a voxel from its middle
    assert profile[10] == pytest.approx(
        np.exp(-(1**2) / (2 * 4**2)) / (4 * np.sqrt(2 * np.pi)), rel=0.05
    )
