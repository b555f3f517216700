"""Networks with several input channels: scans of one subject on one grid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.run import explain
from napari_cnnvis.explain.scoring.baselines import make_baseline, make_baselines
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer
from napari_cnnvis.explain.scoring.incremental.classify import classify
from napari_cnnvis.explain.scoring.incremental.engine import IncrementalScorer
from napari_cnnvis.explain.scoring.incremental.trace import trace
from napari_cnnvis.explain.scoring.occlusions import RegionOcclusions
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.scores import Part, Reading
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

READING = Reading(Part("", (1, 2)))  # two classes

GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")
OCCLUDING = ("sensitivity", "box")


@pytest.fixture(scope="module")
def model(gap_net):
    torch.manual_seed(3)
    layers = [nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU()]
    net = gap_net([*layers, nn.Conv3d(4, 6, 3, stride=2), nn.ReLU()], 6).eval()
    with torch.no_grad():
        net[-1].weight.normal_(0, 8)
    return Model(net, None, InputSpec(channels=2, intensity="none"), "cpu")


@pytest.fixture(scope="module")
def scan(brain_of):
    """Two channels; the head of the second is smaller."""
    t1, t2 = brain_of(seed=0), brain_of(seed=1)
    data = t2.data.copy()
    data[:5] = 0
    return Volume(t1.data, t1.affine, "T1"), Volume(data, t1.affine, "T2")


@pytest.fixture(scope="module")
def hierarchy(scan, cubes):
    return cubes(scan[0], 4, 8)


def as_tensor(scan):
    return torch.from_numpy(np.stack([volume.data for volume in scan]))[None]


def assert_maps_equal(found, expected, tolerance=1e-4):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def occluded_by_hand(scan, mask, baseline):
    """Each channel's masked voxels become what its own baseline says."""
    channels = []
    for volume in scan:
        own = make_baseline(volume.data, baseline, volume.spacing)
        voxels, data = np.flatnonzero(mask & own.replaces), volume.data.copy()
        if voxels.size:
            data.flat[voxels] = own.values(voxels)
        channels.append(data)
    return np.stack(channels)


def definition(model, scan, masks, baseline, target):
    """Probability of the scan, and with each mask occluded in all channels."""
    inputs = [as_tensor(scan)[0].numpy()]
    inputs += [occluded_by_hand(scan, mask, baseline) for mask in masks]
    with torch.no_grad():
        p = model.module(torch.from_numpy(np.stack(inputs))).double().softmax(1)[:, target]
    return p[0].item(), p[1:].numpy()


@pytest.mark.parametrize("baseline", ["blur", "border", "noise", 0, 0.4])
@pytest.mark.parametrize("engine", ["auto", "full"])
def test_regions_are_occluded_in_all_channels(model, scan, hierarchy, baseline, engine):
    labels = [hierarchy.label_volume(level) for level in hierarchy.levels]
    masks = [level == n for level in labels for n in range(1, level.max() + 1)]
    clean, occluded = definition(model, scan, masks, baseline, 1)
    drops = [mask * (clean - p) for mask, p in zip(masks, occluded, strict=True)]
    found = sensitivity(model, scan, hierarchy, 1, baseline=baseline, engine=engine)
    used = {"auto": "incremental", "full": "full passes"}[engine]
    assert found.provenance["engine"]["engine"] == used
    assert_maps_equal(found.data, np.sum(drops, axis=0) / len(labels))
    assert found.data.shape == scan[0].shape


@pytest.mark.parametrize("baseline", ["blur", "border", 0])
def test_boxes_are_occluded_in_all_channels(model, scan, baseline):
    centres = [(5, 6, 4), (10, 9, 8)]
    inside = np.zeros(scan[0].shape, bool)
    inside[tuple(np.transpose(centres))] = True
    masks = np.zeros((2, *inside.shape), bool)
    for mask, (i, j, k) in zip(masks, centres, strict=True):
        mask[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = True
    clean, occluded = definition(model, scan, masks, baseline, 0)
    found = box_sensitivity(model, scan, 0, size=3, stride=1, baseline=baseline, inside=inside)
    assert_maps_equal(found.data[inside], clean - occluded)


networks = st.fixed_dictionaries(
    {
        "channels": st.integers(2, 4),
        "grouped": st.booleans(),
        "stride": st.integers(1, 2),
        "padding": st.integers(0, 1),
        "middle": st.sampled_from(["none", "norm", "pool", "group norm"]),
        "flat": st.booleans(),
        "shape": st.tuples(*[st.integers(6, 9)] * 3),
        "baseline": st.sampled_from(["blur", "border", "noise", 0]),
        "seed": st.integers(0, 99),
    }
)


def random_network(channels, grouped, stride, padding, middle, flat, shape, seed, **_):
    torch.manual_seed(seed)
    middles = {
        "none": nn.Identity(),
        "norm": nn.BatchNorm3d(2 * channels),
        "pool": nn.MaxPool3d(2, 1, 1),
        "group norm": nn.GroupNorm(channels, 2 * channels),
    }
    groups = channels if grouped else 1
    first = nn.Conv3d(channels, 2 * channels, 3, stride, padding, groups=groups)
    features = nn.Sequential(first, middles[middle], nn.ReLU()).eval()
    with torch.no_grad():
        maps = features(torch.zeros(1, channels, *shape))
    pool = nn.Identity() if flat else nn.AdaptiveAvgPool3d(1)
    head = nn.Linear(maps[0].numel() if flat else maps.shape[1], 2)
    return nn.Sequential(*features, pool, nn.Flatten(), head).eval()


@settings(max_examples=15)
@given(networks)
def test_incremental_equals_full_passes(case):
    net, rng = random_network(**case), np.random.default_rng(case["seed"])
    shape, channels = case["shape"], case["channels"]
    head = rng.random((channels, *shape)) < 0.8
    data = np.where(head, rng.uniform(0.5, 1, head.shape), 0).astype(np.float32)
    labels = rng.integers(0, 5, shape).ravel()
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=5))
    baselines = make_baselines(data, case["baseline"], (2, 2, 2))
    first = np.concatenate([[0], ends[:-1]])
    occlusions = RegionOcclusions(order, first, ends, [baselines], shape)
    clean = torch.from_numpy(data)[None]
    spec = InputSpec(shape=shape, channels=channels, intensity="none")
    full = FullPassScorer(Model(net, None, spec, "cpu"), clean, 2)
    fast = IncrementalScorer(classify(trace(net, clean, READING)), clean)
    logits = np.full((2, len(occlusions.boxes), 2), np.nan)
    for rows, scorer in zip(logits, (full, fast), strict=True):
        for members, scores in scorer.score(occlusions):
            rows[members] = scores
    np.testing.assert_allclose(fast.clean_logits, full.clean_logits, atol=1e-5)
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)


def test_baseline_leaves_the_background_of_each_channel(scan):
    data = as_tensor(scan)[0].numpy()
    for name in ("blur", "border", "noise"):
        baseline = make_baselines(data, name, (2, 2, 2))
        voxels = np.flatnonzero(baseline.replaces)
        values = baseline.values(voxels)
        assert values.shape == (2, len(voxels))
        for channel, found in zip(data, values, strict=True):
            before = channel.flat[voxels]
            np.testing.assert_array_equal(found[before == 0], 0)
            assert (found[before != 0] != before[before != 0]).mean() > 0.9


def test_values_of_a_baseline_are_not_the_scans_own_memory(scan):
    data = as_tensor(scan)[0].numpy().copy()
    baseline = make_baselines(data, "border", (2, 2, 2))
    kept = data.copy()
    baseline.values(np.flatnonzero(baseline.replaces))[:] = 7
    np.testing.assert_array_equal(data, kept)


@pytest.mark.parametrize("method", GRADIENT)
def test_gradient_maps_equal_torch(model, scan, method):
    with torch.no_grad():
        a = model.module[:4](as_tensor(scan))
    a.requires_grad_()
    (g,) = torch.autograd.grad(model.module[4:](a)[0, 1], a)
    if method == "grad-cam++":
        share = 1 / (2 + a.sum((2, 3, 4), keepdim=True) * g)
        weights = (share * g.relu()).sum((2, 3, 4), keepdim=True)
    else:
        averaged = g.mean((2, 3, 4), keepdim=True)
        weights = {"grad-cam": averaged, "hirescam": g, "layercam": g.relu()}[method]
    expected = (weights * a).sum(1)[0].detach().numpy()
    found = explain(model, scan, method, target=1, layer="3", relu=False)
    assert_maps_equal(found.native, expected)
    assert found.data.shape == scan[0].shape
    np.testing.assert_array_equal(found.affine, scan[0].affine)


def test_cam_is_the_mean_of_its_cells(model, scan):
    found = cam(model, scan, 0).native.mean() + model.module[-1].bias[0].item()
    with torch.no_grad():
        assert found == pytest.approx(model.module(as_tensor(scan))[0, 0].item(), rel=1e-4)


def test_both_channels_matter(model, scan, hierarchy):
    t1, t2 = scan
    swapped = (t2, t1)
    for run in (
        lambda s: explain(model, s, "hirescam", target=0, layer="2", relu=False).data,
        lambda s: sensitivity(model, s, hierarchy, 0, engine="full").data,
    ):
        assert np.abs(run(scan) - run(swapped)).max() > 1e-3 * np.abs(run(scan)).max()


def test_record_names_the_channels(model, scan):
    found = cam(model, scan, 0)
    assert found.provenance["scan"]["name"] == "T1"
    assert found.provenance["scan"]["other_channels"][0]["name"] == "T2"
    assert found.provenance["model"]["input"]["channels"] == 2
    assert found.source is scan[0]


@pytest.mark.parametrize("method", ["cam", *GRADIENT, *OCCLUDING])
@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_channels(model, scan, hierarchy, method, count, plain):
    given = (*scan, scan[0])[:count] if count > 1 else scan[0]
    with pytest.raises(VolumeError, match="takes 2 input channel") as error:
        explain(model, given, ExplainRequest(method, 0), hierarchy=hierarchy)
    plain(error.value, f"but {count} volume(s) were given")


@pytest.mark.parametrize("method", ["cam", "layercam", *OCCLUDING])
def test_channels_on_different_grids(model, scan, brain_of, hierarchy, method, plain):
    t1, t2 = scan
    moved = Volume(t2.data, t2.affine + np.diag([0, 0, 0.5, 0]), "moved")
    cropped = Volume(t2.data[1:], t2.affine, "cropped")
    for other in (moved, cropped):
        with pytest.raises(VolumeError, match="not on the grid of 'T1'") as error:
            explain(model, (t1, other), ExplainRequest(method, 0), hierarchy=hierarchy)
        plain(error.value, other.name)


@pytest.mark.parametrize("method", OCCLUDING)
def test_a_scan_as_baseline_is_refused(model, scan, brain_of, hierarchy, method, plain):
    average = Volume(brain_of(seed=2).data, scan[0].affine, "average")
    request = ExplainRequest(method, 0, baseline=["blur", average])
    with pytest.raises(MethodError, match="networks of one input channel") as error:
        explain(model, scan, request, hierarchy=hierarchy)
    plain(error.value, "average")


@pytest.mark.parametrize("method", ["cam", *GRADIENT, *OCCLUDING])
def test_one_volume_in_a_list_is_one_channel(fitting, conv_model, brain, cubes, method):
    request = fitting(method, 0, size=5, stride=4)
    hierarchy = cubes(brain, 8)
    expected = explain(conv_model, brain, request, hierarchy=hierarchy)
    found = explain(conv_model, [brain], request, hierarchy=hierarchy)
    np.testing.assert_array_equal(found.data, expected.data)
