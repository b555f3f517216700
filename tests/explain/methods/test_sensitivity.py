import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy

SHAPE = (5, 4, 6)


@pytest.fixture(autouse=True)
def known_to_take_batches(monkeypatch):
    """Passes are counted here; those that try whether batches can be taken are another test's."""
    monkeypatch.setattr(Model, "takes_batches", lambda self, x: True)
    monkeypatch.setattr(Model, "use_faster_layout", lambda self, x: None)
    monkeypatch.setattr(Model, "pass_seconds", lambda self, x, in_batches=False: 1.0)


class Seen(list):
    """No plain list, which would be put back as it was after each pass."""


class Counting(nn.Module):
    """Two tanh units on all voxels; keeps how many inputs it was given, and which."""

    def __init__(self, shape):
        super().__init__()
        torch.manual_seed(0)
        n = int(np.prod(shape))
        self.inner = nn.Sequential(nn.Linear(n, 3), nn.Tanh(), nn.Linear(3, 2))
        self.seen = Seen()

    def forward(self, x):
        x = x.flatten(1)
        if x.device.type != "meta" and not isinstance(x, FakeTensor):
            self.seen += list(x)
        return self.inner(x)


@pytest.fixture
def net(wrap):
    return wrap(Counting(SHAPE), SHAPE)


def nested(seed, n=9, joined=4):
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, n, SHAPE)
    middle = rng.integers(0, joined, n)[fine]
    return [fine, middle, middle, middle // 2]


def plain_loop(model, volume, levels, target, baseline, quantity):
    """The definition: every region of every level, one pass each."""
    data = torch.from_numpy(volume.data)
    filled = torch.from_numpy(make_baseline(volume.data, baseline, volume.spacing).image)

    def probability(x):
        with torch.no_grad():
            return float(model.module(x[None, None]).double().softmax(1)[0, target])

    clean = probability(data)
    total = np.zeros(volume.shape)
    for level in levels:
        for label in np.unique(level):
            mask = torch.from_numpy(level == label)
            left = probability(torch.where(mask, filled, data))
            total[mask] += clean - left if quantity == "drop" else left
    return total / len(levels)


@given(seed=st.integers(0, 999), baseline=st.integers(-3, 3) | st.just("blur"))
def test_linear_model_drops_by_w_times_change(linear_model, seed, baseline):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-4, 5, (3, *SHAPE))
    data = rng.integers(0, 8, SHAPE).astype(np.float32) * (rng.random(SHAPE) > 0.4)
    volume, levels = Volume(data), nested(seed)
    found = sensitivity(
        linear_model(weights, [1.0, 2.0, -1.0]),
        volume,
        Hierarchy.from_levels(levels),
        target=2,
        baseline=baseline,
        score="logit",
        engine="full",
    ).data
    change = weights[2] * (volume.data - make_baseline(volume.data, baseline, volume.spacing).image)
    drops = [sum((level == v) * change[level == v].sum() for v in range(9)) for level in levels]
    tolerance = 1e-3 if baseline == "blur" else 1e-5
    np.testing.assert_allclose(found, np.mean(drops, axis=0), atol=tolerance)


@pytest.mark.parametrize("baseline", [0, 0.3, "blur"])
@pytest.mark.parametrize("quantity", ["drop", "probability"])
def test_equals_a_plain_loop(net, volume_of, baseline, quantity):
    volume, levels = volume_of(SHAPE), nested(3)
    expected = plain_loop(net, volume, levels, 1, baseline, quantity)
    found = sensitivity(
        net, volume, Hierarchy.from_levels(levels), 1, baseline=baseline, quantity=quantity
    )
    assert found.data.dtype == np.float32
    np.testing.assert_allclose(found.data, expected, atol=1e-6)


def test_each_distinct_region_is_scored_once(net, volume_of):
    volume, levels = volume_of(SHAPE), nested(5)
    sensitivity(net, volume, Hierarchy.from_levels(levels), 0, baseline=0, engine="full")
    clean, *occluded = (x.numpy() for x in net.module.seen)
    np.testing.assert_array_equal(clean, volume.data.ravel())
    regions = {tuple((level == v).ravel()) for level in levels for v in np.unique(level)}
    assert {tuple(x == 0) for x in occluded} == regions
    assert len(occluded) == len(regions)


def test_reference_levels_take_865_passes(shared_data, wrap, volume_of):
    labels = np.load(shared_data / "reference_levels.npz")["labels"].reshape(19, -1)
    _, one_of_each = np.unique(labels[0], return_index=True)
    shape = (len(one_of_each), 1, 1)
    hierarchy = Hierarchy.from_levels(labels[:, one_of_each].reshape(19, *shape))
    model = wrap(Counting(shape), shape)
    attribution = sensitivity(model, volume_of(shape), hierarchy, 0, baseline=0, engine="full")
    assert len(model.module.seen) == 1 + 865
    assert attribution.provenance["regions_scored"] == 865
    assert sum(attribution.provenance["levels"]) == 1213


@pytest.mark.parametrize("quantity", ["drop", "probability"])
def test_reference_levels_equal_a_plain_loop(shared_data, wrap, volume_of, quantity):
    labels = np.load(shared_data / "reference_levels.npz")["labels"][:, ::5, ::5, ::5]
    model, volume = wrap(Counting((22, 22, 22)), (22, 22, 22)), volume_of((22, 22, 22))
    expected = plain_loop(model, volume, labels, 1, 0, quantity)
    found = sensitivity(
        model, volume, Hierarchy.from_levels(labels), 1, baseline=0, quantity=quantity
    ).data
    np.testing.assert_allclose(found, expected, atol=1e-5)


class SmallMemory(Counting):
    def forward(self, x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(x)


def test_running_out_of_memory_does_not_change_the_map(net, wrap, volume_of):
    volume, hierarchy = volume_of(SHAPE), Hierarchy.from_levels(nested(1))
    short = wrap(SmallMemory(SHAPE), SHAPE)
    expected = sensitivity(net, volume, hierarchy, 0, engine="full").data
    found = sensitivity(short, volume, hierarchy, 0, batch_size=16, engine="full").data
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(short.module.seen) == len(net.module.seen)


def test_progress_counts_up_to_all_regions(net, volume_of):
    volume, hierarchy, steps = volume_of(SHAPE), Hierarchy.from_levels(nested(1)), []
    result = sensitivity(net, volume, hierarchy, 0, batch_size=4, progress=steps.append)
    done = [s.done for s in steps]
    assert done == sorted(set(done))
    assert done[0] == 4
    assert done[-1] == hierarchy.n_nodes
    assert {s.total for s in steps} == {hierarchy.n_nodes}
    assert all(s.partial.partial for s in steps)
    np.testing.assert_array_equal(steps[-1].partial.data, result.data)
    assert not result.partial


def test_largest_regions_come_first(net, volume_of):
    volume, hierarchy = volume_of(SHAPE), Hierarchy.from_levels(nested(2))
    sensitivity(net, volume, hierarchy, 0, baseline=0, batch_size=3, engine="full")
    sizes = [int((x == 0).sum()) for x in net.module.seen[1:]]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 3


def stop_after(n, cancel):
    return lambda step: cancel.set() if step.done >= n else None


def test_cancelled_map_averages_what_was_scored(net, volume_of):
    volume, levels = volume_of(SHAPE), nested(4)
    hierarchy, cancel = Hierarchy.from_levels(levels), threading.Event()
    full = sensitivity(net, volume, hierarchy, 0)
    part = sensitivity(
        net, volume, hierarchy, 0, batch_size=1, progress=stop_after(6, cancel), cancel=cancel
    )
    assert part.partial
    assert part.name.endswith("(partial)")
    values = full.regions.values(0)
    scored = np.isfinite(part.regions.occluded[0, :, 0])
    assert scored.sum() == 6
    for place in np.ndindex(SHAPE):
        nodes = hierarchy.levels[:, hierarchy.leaves[place] - 1]
        known = [values[n] for n in nodes if scored[n]]
        assert part.data[place] == pytest.approx(np.mean(known) if known else 0, abs=1e-6)


def test_cancelled_before_it_began(net, volume_of):
    cancel = threading.Event()
    cancel.set()
    part = sensitivity(net, volume_of(SHAPE), Hierarchy.from_levels(nested(4)), 0, cancel=cancel)
    assert part.partial
    assert not part.data.any()


def test_partial_maps_keep_their_values(net, volume_of):
    steps, kept = [], []

    def progress(step):
        steps.append(step.partial)
        kept.append(step.partial.regions.occluded.copy())

    hierarchy = Hierarchy.from_levels(nested(4))
    sensitivity(net, volume_of(SHAPE), hierarchy, 0, batch_size=2, progress=progress)
    for partial, before in zip(steps, kept, strict=True):
        np.testing.assert_array_equal(partial.regions.occluded, before)


@pytest.mark.parametrize("quantity", ["drop", "probability"])
@pytest.mark.parametrize("score", ["logit", "log_prob", "probability"])
def test_other_class_and_quantity_follow_without_a_new_run(net, volume_of, score, quantity):
    volume, hierarchy = volume_of(SHAPE), Hierarchy.from_levels(nested(6))
    regions = sensitivity(net, volume, hierarchy, 0).regions
    anew = sensitivity(net, volume, hierarchy, 1, quantity=quantity, score=score)
    np.testing.assert_allclose(regions.map(1, quantity, score), anew.data, atol=1e-6)


@pytest.mark.parametrize("level", [0, 1, 3])
def test_one_level_alone_follows_without_a_new_run(net, volume_of, level):
    volume, levels = volume_of(SHAPE), nested(6)
    regions = sensitivity(net, volume, Hierarchy.from_levels(levels), 0).regions
    anew = sensitivity(net, volume, Hierarchy.from_levels([levels[level]]), 0)
    found = regions.map(0, level_weights=np.eye(4)[level])
    np.testing.assert_allclose(found, anew.data, atol=1e-6)


def test_levels_by_their_number_of_regions(net, volume_of):
    volume, levels = volume_of(SHAPE), nested(6)
    counts = [len(np.unique(levels[0])), len(np.unique(levels[3]))]
    found = sensitivity(net, volume, Hierarchy.from_levels(levels), 0, levels=counts)
    expected = sensitivity(net, volume, Hierarchy.from_levels([levels[0], levels[3]]), 0)
    assert found.provenance["levels"] == counts
    np.testing.assert_allclose(found.data, expected.data, atol=1e-6)


def test_regions_the_model_does_not_see_drop_nothing(volume_of):
    module = Counting((3, 3, 3))
    model = Model(module, None, InputSpec(shape=(3, 3, 3), intensity="none"), "cpu")
    labels = np.zeros((7, 7, 7), int)
    labels[2:5, 2:5, 2:5] = 1
    labels[:, :, 6] = 2
    hierarchy = Hierarchy.from_levels([labels])
    found = sensitivity(model, volume_of((7, 7, 7)), hierarchy, 0, baseline=0, engine="full")
    assert len(module.seen) == 2
    assert (found.data[labels == 1] != 0).all()
    assert not found.data[labels != 1].any()


def test_levels_on_which_a_region_is_not_seen_count_as_no_drop(volume_of):
    module = Counting((3, 3, 3))
    model = Model(module, None, InputSpec(shape=(3, 3, 3), intensity="none"), "cpu")
    labels = np.arange(343).reshape(7, 7, 7)
    hierarchy = Hierarchy.from_levels([labels, labels * 0])
    found = sensitivity(model, volume_of((7, 7, 7)), hierarchy, 0, baseline=0)
    whole = found.regions.values(0)[-1]
    assert abs(whole) > 1e-3
    assert found.data[0, 0, 0] == pytest.approx(whole / 2)


@pytest.mark.parametrize("orientation", ["LPI", "SAR"])
def test_regions_follow_the_models_orientation(orientation, volume_of):
    weights = np.random.default_rng(0).normal(size=(2, 6, 6, 6)).astype(np.float32)
    layer = nn.Linear(216, 2)
    layer.weight.data = torch.from_numpy(weights.reshape(2, -1))
    spec = InputSpec((6, 6, 6), orientation=orientation, intensity="none")
    model = Model(nn.Sequential(nn.Flatten(), layer), None, spec, "cpu")
    volume = volume_of((6, 6, 6))
    hierarchy = Hierarchy.from_levels([np.arange(216).reshape(6, 6, 6)])
    found = sensitivity(model, volume, hierarchy, 0, baseline=0, score="logit")
    oriented = Volume(weights[0], volume.reoriented(orientation).affine).reoriented("RAS")
    np.testing.assert_allclose(found.data, oriented.data * volume.data, atol=1e-5)


def test_background_of_the_hierarchy_is_never_occluded(net, volume_of):
    volume, labels = volume_of(SHAPE), nested(0)[0]
    hierarchy = Hierarchy.from_levels([labels], background=0)
    found = sensitivity(net, volume, hierarchy, 0, baseline=0, engine="full")
    assert not found.data[labels == 0].any()
    for x in net.module.seen[1:]:
        assert (x.numpy().reshape(SHAPE) != 0)[labels == 0].all()


def test_hierarchy_of_another_scan_is_refused(net, volume_of):
    hierarchy = Hierarchy.from_levels([np.zeros((5, 4, 7), int)])
    with pytest.raises(MethodError, match=r"\(5, 4, 7\) voxels, but the scan \(5, 4, 6\)"):
        sensitivity(net, volume_of(SHAPE), hierarchy, 0)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"levels": []}, "no levels"),
        ({"levels": [0]}, "number of regions of 0 is not possible"),
        ({"target": 7}, "no class 7"),
        ({"score": "loss"}, "logit, log_prob, probability"),
        ({"quantity": "gain"}, "drop, absolute, probability"),
        ({"baseline": "mean"}, "use 'blur', 'border', 'noise', a number such as 0"),
        ({"baseline": ["blur", "blur"]}, "'blur' is given twice"),
        ({"join": "median"}, "mean, size-aware, strongest"),
        ({"engine": "fast"}, "auto, incremental, full"),
        ({"precision": "double"}, "single, half"),
        ({"time_budget": 0}, "limit of 0 is not possible"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(net, volume_of, wrong, text):
    with pytest.raises(MethodError, match=text):
        sensitivity(
            net, volume_of(SHAPE), Hierarchy.from_levels(nested(0)), **{"target": 0, **wrong}
        )
    assert not net.module.seen


class Failing(Counting):
    def forward(self, x):
        if len(self.seen) > 2:
            raise RuntimeError("broken")
        return super().forward(x)


@pytest.mark.parametrize("kind", [Counting, Failing])
def test_model_is_left_as_found(wrap, state_of, volume_of, kind):
    model = wrap(kind(SHAPE), SHAPE)
    model.module.train()
    before = state_of(model.module)
    fails = pytest.raises(ComputeError) if kind is Failing else nullcontext()
    with fails:
        sensitivity(model, volume_of(SHAPE), Hierarchy.from_levels(nested(0)), 0, batch_size=1)
    assert state_of(model.module) == before


def test_scorer_takes_the_batch_size_that_was_asked_for(net, volume_of, monkeypatch):
    sizes = []
    occluded = FullPassScorer._occluded

    def counted(self, occlusions, members):
        sizes.append(len(members))
        return occluded(self, occlusions, members)

    monkeypatch.setattr(FullPassScorer, "_occluded", counted)
    hierarchy = Hierarchy.from_levels(nested(0))
    sensitivity(net, volume_of(SHAPE), hierarchy, 0, batch_size=5, engine="full")
    assert set(sizes[:-1]) == {5}
