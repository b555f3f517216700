"""Networks that run on windows of a scan: maps are put together, windows untouched are not run."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers.utils import sliding_window_inference
from torch import nn
from torch.nn import functional as F

from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.run import explain
from napari_cnnvis.explain.scoring.baselines import make_baselines
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer
from napari_cnnvis.explain.scoring.occlusions import RegionOcclusions
from napari_cnnvis.explain.scoring.scorer_choice import choose_scorer
from napari_cnnvis.explain.scoring.window_passes import WindowScorer
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec

GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")

SHAPE = (14, 15, 13)
WINDOW = (8, 7, 9)


def small_net(gap_net, channels=1):
    torch.manual_seed(4)
    layers = [nn.Conv3d(channels, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU()]
    net = gap_net([*layers, nn.Conv3d(4, 6, 3, stride=2), nn.ReLU()], 6).eval()
    with torch.no_grad():
        net[-1].weight.normal_(0, 8)
    return net


@pytest.fixture
def model_of(gap_net):
    """window, overlap, channels -> a model that runs on such windows; None for the whole scan."""

    def make(window=WINDOW, overlap=0.5, channels=1, net=None):
        spec = InputSpec(window=window, overlap=overlap, channels=channels, intensity="none")
        return Model(net or small_net(gap_net, channels), None, spec, "cpu")

    return make


@pytest.fixture(scope="module")
def hierarchy(brain, cubes):
    return cubes(brain, 4, 8)


@pytest.fixture
def passes():
    """Windows that a model's network has been run on, from now on."""
    counts = []

    def watch(model):
        model.module.register_forward_hook(lambda _, x, __: counts.append(len(x[0])))
        return counts

    return watch


def assert_maps_equal(found, expected, tolerance=1e-4):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def by_hand(method, net, window, target):
    """A method's map of one window, by autograd, spread over its voxels by torch."""
    with torch.no_grad():
        a = net[:5](window)
    a.requires_grad_()
    (g,) = torch.autograd.grad(net[5:](a)[0, target], a)
    a = a.detach()
    if method == "cam":
        weights = net[-1].weight[target].detach()[None, :, None, None, None]
    elif method == "grad-cam++":
        share = 1 / (2 + a.sum((2, 3, 4), keepdim=True) * g)
        weights = (share * g.relu()).sum((2, 3, 4), keepdim=True)
    else:
        averaged = g.mean((2, 3, 4), keepdim=True)
        weights = {"grad-cam": averaged, "hirescam": g, "layercam": g.relu()}[method]
    cells = (weights * a).sum(1, keepdim=True)
    return F.interpolate(cells, window.shape[2:], mode="trilinear", align_corners=False)


def joined_by_monai(method, net, volume, window, overlap, target=1):
    """MONAI's own sliding windows with Gaussian weights."""
    x = torch.from_numpy(volume.data)[None, None]
    expected = sliding_window_inference(
        x, window, 1, lambda w: by_hand(method, net, w, target), overlap, mode="gaussian"
    )
    return expected[0, 0].numpy()


def maps_of(method, model, volume, target=1):
    if method == "cam":
        return cam(model, volume, target)
    return explain(model, volume, method, target=target, layer="4", relu=False)


@pytest.mark.parametrize("method", ["cam", *GRADIENT])
def test_maps_of_windows_are_joined_as_by_monai(model_of, brain, method):
    model = model_of()
    expected = joined_by_monai(method, model.module, brain, WINDOW, 0.5)
    found = maps_of(method, model, brain)
    assert_maps_equal(found.data, expected)
    assert found.native is None


@settings(max_examples=8)
@given(
    window=st.tuples(*[st.integers(7, 13)] * 3),
    overlap=st.sampled_from([0, 0.25, 0.6]),
)
def test_any_window_and_overlap(gap_net, brain, window, overlap):
    net = small_net(gap_net)
    spec = InputSpec(window=window, overlap=overlap, intensity="none")
    model = Model(net, None, spec, "cpu")
    expected = joined_by_monai("hirescam", net, brain, window, overlap)
    assert_maps_equal(maps_of("hirescam", model, brain).data, expected)


@pytest.mark.parametrize("method", ["cam", *GRADIENT])
def test_a_window_of_the_scans_size_is_the_plain_run(model_of, brain, method):
    whole, window = model_of(window=None), model_of(window=SHAPE)
    plain, found = (maps_of(method, model, brain) for model in (whole, window))
    np.testing.assert_array_equal(found.data, plain.data)
    np.testing.assert_array_equal(found.native, plain.native)
    assert found.notes == plain.notes
    np.testing.assert_allclose(window.predict(brain), whole.predict(brain), rtol=1e-6)


def test_relu_is_taken_in_each_window(model_of, brain):
    model = model_of()
    signed = explain(model, brain, "grad-cam", target=1, layer="4", relu=False)
    rectified = explain(model, brain, "grad-cam", target=1, layer="4")
    assert rectified.data.min() >= 0
    assert (rectified.data >= signed.data - 1e-6).all()


def test_number_of_windows_is_noted(model_of, brain):
    found = maps_of("grad-cam", model_of(), brain)
    starts = [3, 4, 2]  # 14 by 8 in steps of 4, 15 by 7 in steps of 3, 13 by 9 in steps of 4
    assert f"mean of {np.prod(starts)} overlapping windows of 8 x 7 x 9 voxels" in found.notes[-1]


def test_all_layers_and_methods_from_one_pass_over_the_windows(model_of, brain, passes):
    model = model_of(overlap=0)
    counts = passes(model)
    maps = explain(model, brain, "grad-cam", target=1, layer="all", relu=False)
    used = sum(counts)
    for method in GRADIENT:
        assert maps.of(method)["4"].data.shape == SHAPE
    assert sum(counts) == used
    for method in GRADIENT:
        alone = maps_of(method, model, brain)
        assert_maps_equal(maps.of(method)["4"].data, alone.data)


def test_a_scan_smaller_than_the_window_is_padded(model_of, brain_of):
    small = brain_of((8, 9, 7))
    model = model_of(window=(10, 9, 12))
    assert maps_of("layercam", model, small).data.shape == small.shape
    padded = np.zeros((1, 1, 10, 9, 12), np.float32)
    padded[0, 0, 1:9, :, 2:9] = small.data
    with torch.no_grad():
        expected = model.module(torch.from_numpy(padded)).softmax(1)[0]
    np.testing.assert_allclose(model.predict(small), expected, rtol=1e-5)


# occlusion


def regions_in(volume, baseline, seed=0, channels=None, n=8):
    """Boxes in the volume, of any size."""
    data = volume.data[None] if channels is None else channels
    rng = np.random.default_rng(seed)
    voxels, ends = [], [0]
    for _ in range(n):
        low = rng.integers(0, volume.shape)
        high = np.minimum(low + rng.integers(1, 7, 3), volume.shape)
        box = np.zeros(volume.shape, bool)
        box[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        voxels.append(np.flatnonzero(box))
        ends.append(ends[-1] + len(voxels[-1]))
    made = make_baselines(data, baseline, volume.spacing)
    first, last = np.array(ends[:-1]), np.array(ends[1:])
    return RegionOcclusions(np.concatenate(voxels), first, last, [made], volume.shape)


def logits_of(scorer, occlusions):
    rows = np.full((len(occlusions.boxes), len(scorer.clean_logits)), np.nan, np.float32)
    for members, logits in scorer.score(occlusions):
        rows[members] = logits
    return rows


@settings(max_examples=15)
@given(
    window=st.tuples(*[st.integers(5, 14)] * 3),
    overlap=st.sampled_from([0, 0.5, 0.7]),
    channels=st.integers(1, 2),
    baseline=st.sampled_from(["blur", "border", 0]),
    seed=st.integers(0, 99),
)
def test_window_scorer_equals_full_passes(
    gap_net, brain, brain_of, window, overlap, channels, baseline, seed
):
    spec = InputSpec(window=window, overlap=overlap, channels=channels, intensity="none")
    model = Model(small_net(gap_net, channels), None, spec, "cpu")
    data = np.stack([brain_of(seed=s).data for s in range(channels)])
    occlusions = regions_in(brain, baseline, seed, data)
    clean = model.tensor(data)
    windows, full = WindowScorer(model, clean), FullPassScorer(model, clean, 3)
    expected = logits_of(full, occlusions)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(logits_of(windows, occlusions), expected, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(windows.clean_logits, full.clean_logits, rtol=0, atol=1e-6 * scale)


def test_only_windows_that_a_region_touches_are_run(model_of, brain, passes):
    model = model_of(overlap=0)
    occlusions = regions_in(brain, 0)
    scorer, report = choose_scorer(model, model.tensor(brain.data), occlusions)
    counts = passes(model)
    logits_of(scorer, occlusions)
    starts = [(0, 6), (0, 7, 8), (0, 4)]
    touched = 0
    for box in occlusions.boxes:
        for place in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 3):
            touched += ((place < box[:, 1]) & (place + WINDOW > box[:, 0])).all()
    assert set(counts) == {1}
    assert len(counts) == 12 + touched  # the scan as it is, and the regions
    assert scorer.passes(occlusions) == touched < 12 * len(occlusions.boxes)
    assert report.engine == "windows"
    assert f"run: {touched} of {12 * len(occlusions.boxes)} passes" in report.text
    work = report.full_multiply_adds / report.multiply_adds
    assert work == pytest.approx(12 * len(occlusions.boxes) / touched)


def test_multiply_adds_of_windows(model_of, brain):
    net = nn.Sequential(nn.Conv3d(1, 5, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(5, 2))
    model = model_of(net=net)
    occlusions = regions_in(brain, 0, n=3)
    scorer, report = choose_scorer(model, model.tensor(brain.data), occlusions)
    of_window = 6 * 5 * 7 * 27 * 5 + 5 * 2
    assert report.multiply_adds == scorer.passes(occlusions) * of_window
    assert report.full_multiply_adds == len(occlusions.boxes) * 24 * of_window


def test_windows_are_never_in_half_precision(model_of, brain):
    model = model_of()
    for precision, text in (("half", "They are in single precision."), ("single", "passes.")):
        _, report = choose_scorer(
            model, model.tensor(brain.data), regions_in(brain, 0), precision=precision
        )
        assert report.text.endswith(text)


def test_the_scan_stays_what_it_was(model_of, brain):
    model = model_of()
    clean = model.tensor(brain.data)
    before = clean.clone()
    logits_of(WindowScorer(model, clean), regions_in(brain, 0))
    torch.testing.assert_close(clean, before, rtol=0, atol=0)


@pytest.mark.parametrize("baseline", ["blur", 0])
def test_sensitivity_with_windows_equals_a_plain_loop(model_of, brain, hierarchy, baseline):
    model = model_of()
    labels = hierarchy.label_volume(hierarchy.levels[0])
    made = make_baselines(brain.data[None], baseline, brain.spacing)
    expected = np.zeros(brain.shape)
    clean = model.predict(brain)[1]
    for label in range(1, labels.max() + 1):
        voxels = np.flatnonzero((labels == label) & made.replaces)
        data = brain.data.copy()
        data.flat[voxels] = made.values(voxels)
        p = model.outputs.predictions(model.logits(model.tensor(data)))[0, 1].item()
        expected[labels == label] = clean - p
    found = sensitivity(model, brain, hierarchy, 1, baseline=baseline, levels=[labels.max()])
    assert_maps_equal(found.data, expected)
    assert found.provenance["engine"]["engine"] == "windows"
    assert found.notes[-1].startswith("Only windows that a region touches were run")


def test_boxes_with_windows_equal_a_plain_loop(model_of, brain):
    model = model_of(overlap=0)
    centres = [(5, 6, 4), (9, 9, 8), (7, 7, 6)]
    inside = np.zeros(brain.shape, bool)
    inside[tuple(np.transpose(centres))] = True
    clean, expected = model.predict(brain)[0], []
    for i, j, k in centres:
        data = brain.data.copy()
        data[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = 0
        p = model.outputs.predictions(model.logits(model.tensor(data)))[0, 0].item()
        expected.append(clean - p)
    found = box_sensitivity(model, brain, 0, size=5, stride=1, baseline=0, inside=inside)
    assert_maps_equal(found.data[tuple(np.transpose(centres))], np.array(expected))
    assert found.provenance["engine"]["engine"] == "windows"


@pytest.mark.parametrize("run", ["cam", "layercam", "sensitivity", "box"])
def test_model_is_left_as_found(model_of, busy_net, state_of, brain, hierarchy, run):
    model = model_of(net=busy_net)
    before = state_of(busy_net)
    runs = {
        "cam": lambda: cam(model, brain, 0),
        "layercam": lambda: explain(model, brain, "layercam", target=0, layer="all"),
        "sensitivity": lambda: sensitivity(model, brain, hierarchy, 0),
        "box": lambda: box_sensitivity(model, brain, 0, size=5, stride=4),
    }
    runs[run]()
    assert state_of(busy_net) == before
