import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.visualize import OcclusionSensitivity
from torch import nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.head import find_head
from napari_cnnvis.scan.volume import Volume

SMALL = (6, 5, 7)


@pytest.fixture(scope="module")
def tiny(brain_of):
    return brain_of((9, 8, 7))


def box_around(centre, size, shape):
    """The cube of a definition: `size` voxels along each axis, cut off at the volume's edges."""
    mask = np.zeros(shape, bool)
    low = [c - size // 2 for c in centre]
    mask[tuple(slice(max(a, 0), max(a + size, 0)) for a in low)] = True
    return mask


def plain_loop(model, volume, size, baselines, target, centres):
    """The mean drop of the class's logit for a box around each centre; NaN elsewhere."""
    inputs = [volume.data]
    for centre in centres:
        box = box_around(centre, size, volume.shape)
        for baseline in baselines:
            occluded = volume.data.copy()
            voxels = np.flatnonzero(box & baseline.replaces)
            occluded.flat[voxels] = baseline.values(voxels)
            inputs.append(occluded)
    logits = model.logits(torch.from_numpy(np.stack(inputs))[:, None])
    clean, *scores = logits[:, target].tolist()
    drops = np.full(volume.shape, np.nan)
    drops[tuple(np.transpose(centres))] = clean - np.reshape(scores, (len(centres), -1)).mean(1)
    return drops


def assert_nearest(found, scored, inside, size):
    """Each voxel inside has the value of one of the boxes whose middle is nearest; 0 elsewhere."""
    centres = np.argwhere(np.isfinite(scored))
    values = scored[tuple(centres.T)]
    for place in np.argwhere(inside):
        away = ((centres - (size % 2 == 0) / 2 - place) ** 2).sum(1)
        nearest = values[away == away.min()]
        assert np.abs(nearest - found[tuple(place)]).min() < 2e-5
    assert not found[~inside].any()


@pytest.mark.parametrize(
    ("size", "baselines", "engine"),
    [
        (1, ["blur"], "full"),
        (3, ["blur"], "auto"),
        (4, [0, "noise"], "auto"),
        (4, ["border"], "full"),
        (20, ["border"], "full"),
    ],
)
def test_equals_a_plain_loop_over_all_centres(conv_model, tiny, size, baselines, engine):
    found = box_sensitivity(
        conv_model,
        tiny,
        1,
        size=size,
        stride=1,
        baseline=baselines,
        score="logit",
        inside=None,
        engine=engine,
    )
    made = [make_baseline(tiny.data, b, tiny.spacing) for b in baselines]
    expected = plain_loop(conv_model, tiny, size, made, 1, list(np.ndindex(tiny.shape)))
    assert np.abs(expected).max() > 0.1
    assert found.data.dtype == np.float32
    np.testing.assert_allclose(found.data, expected, atol=2e-5)


def test_both_engines_agree(conv_model, tiny):
    used = {"incremental": "incremental", "full": "full passes"}
    how = {"size": 2, "stride": 2, "baseline": ["blur", 0]}
    runs = [box_sensitivity(conv_model, tiny, 0, **how, engine=engine) for engine in used]
    for found, expected in zip(runs, used.values(), strict=True):
        assert found.provenance["engine"]["engine"] == expected
        assert found.notes == (found.provenance["engine"]["text"],)
    np.testing.assert_allclose(runs[0].data, runs[1].data, atol=1e-5)
    assert np.abs(runs[0].data).max() > 1e-3


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [2, 3])
def test_between_centres_the_nearest_counts(conv_model, tiny, size, stride):
    lattice = np.zeros(tiny.shape, bool)
    lattice[(slice(stride // 2, None, stride),) * 3] = True
    head = tiny.data > 0
    made = [make_baseline(tiny.data, "blur", tiny.spacing)]
    scored = plain_loop(conv_model, tiny, size, made, 0, np.argwhere(lattice & head))
    found = box_sensitivity(
        conv_model, tiny, 0, size=size, stride=stride, score="logit", engine="full"
    )
    assert found.provenance["boxes_scored"] == (lattice & head).sum()
    assert_nearest(found.data, scored, head, size)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_boxes_that_tile_the_scan_give_each_voxel_the_value_of_its_box(linear_model, size):
    shape = (13, 12, 11)
    rng = np.random.default_rng(size)
    weights = rng.integers(-4, 5, (2, *shape))
    volume = Volume(rng.integers(1, 8, shape))
    found = box_sensitivity(
        linear_model(weights),
        volume,
        1,
        size=size,
        stride=size,
        baseline=0,
        score="logit",
        inside=None,
    )
    change = weights[1] * volume.data
    tiles = np.indices(shape) // size
    for tile in np.unique(tiles.reshape(3, -1), axis=1).T:
        here = (tiles == tile[:, None, None, None]).all(0)
        if all(size * t + size // 2 < n for t, n in zip(tile, shape, strict=True)):
            np.testing.assert_allclose(found.data[here], change[here].sum(), atol=1e-4)


@settings(max_examples=15)
@given(seed=st.integers(0, 999), size=st.integers(1, 8), target=st.integers(0, 1))
def test_linear_model_drops_by_w_times_change_in_the_box(linear_model, seed, size, target):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-4, 5, (2, *SMALL))
    volume = Volume(rng.integers(0, 8, SMALL))
    model = linear_model(weights)
    found = box_sensitivity(
        model,
        volume,
        target,
        size=size,
        stride=1,
        baseline=2,
        score="logit",
        inside=None,
        engine="full",
    )
    change = weights[target] * (volume.data - 2)
    expected = [change[box_around(c, size, SMALL)].sum() for c in np.ndindex(SMALL)]
    np.testing.assert_allclose(found.data.ravel(), expected, atol=1e-4)


def test_voxels_inside_the_head_have_a_value(conv_model, brain):
    found = box_sensitivity(conv_model, brain, 0, size=3, stride=4, engine="full")
    everywhere = box_sensitivity(conv_model, brain, 0, size=3, stride=4, inside=None, engine="full")
    head = find_head(brain.data)
    assert found.data[head].all()
    assert not found.data[~head].any()
    assert everywhere.data[~head].any()
    assert found.provenance["inside"] == "head"
    assert everywhere.provenance["inside"] == "everywhere"


@pytest.mark.parametrize("kind", [bool, np.int32, np.float32])
def test_inside_a_mask(linear_model, volume_of, kind):
    mask = np.zeros(SMALL, kind)
    mask[1:4, 2:, 3] = 1 if kind is bool else 256 if kind is np.int32 else 0.5
    weights = np.random.default_rng(0).normal(size=(2, *SMALL))
    volume = volume_of(SMALL)
    how = {"size": 3, "stride": 1, "baseline": 0, "score": "logit", "engine": "full"}
    found = box_sensitivity(linear_model(weights), volume, 0, inside=mask, **how)
    everywhere = box_sensitivity(linear_model(weights), volume, 0, inside=None, **how)
    np.testing.assert_allclose(found.data, np.where(mask, everywhere.data, 0), atol=1e-5)
    assert found.provenance["inside"] == "mask"
    assert found.provenance["boxes_scored"] == (mask != 0).sum()


def test_a_mask_between_the_lattices_centres_is_not_left_empty(conv_model, brain):
    mask = np.zeros(brain.shape, bool)
    mask[6, 8, 6] = True
    how = {"inside": mask, "engine": "full"}
    found = box_sensitivity(conv_model, brain, 0, size=3, stride=5, **how)
    np.testing.assert_array_equal(found.data != 0, mask)
    np.testing.assert_array_equal(
        found.data, box_sensitivity(conv_model, brain, 0, size=3, stride=1, **how).data
    )


def test_a_mask_without_a_centre_of_the_lattice_is_scored_at_its_middle(conv_model, brain):
    inside = np.zeros(brain.shape, bool)
    inside[1:12, 6, 6] = True
    found = box_sensitivity(conv_model, brain, 0, size=3, stride=5, baseline=0, inside=inside)
    np.testing.assert_array_equal(found.regions.centres, [[6, 6, 6]])


def test_boxes_that_change_nothing_drop_nothing_and_are_not_run(conv_model, tiny):
    found = box_sensitivity(
        conv_model, tiny, 0, size=3, stride=1, baseline=0, inside=None, score="logit"
    )
    reached = np.reshape(
        [(tiny.data != 0)[box_around(c, 3, tiny.shape)].any() for c in np.ndindex(tiny.shape)],
        tiny.shape,
    )
    assert found.provenance["boxes_scored"] == reached.sum() < reached.size
    assert not found.partial
    np.testing.assert_array_equal(found.data != 0, reached)
    left = found.regions.map(0, "probability")[~reached]
    np.testing.assert_allclose(left, conv_model.predict(tiny)[0], atol=1e-6)


def test_the_scan_itself_as_baseline_drops_nothing(conv_model, brain):
    found = box_sensitivity(
        conv_model, brain, 0, size=3, stride=2, baseline=Volume(brain.data, brain.affine, "copy")
    )
    assert found.provenance["boxes_scored"] == 0
    assert not found.partial
    assert not found.data.any()


@pytest.mark.parametrize(("done", "step"), [(1, 8), (3, 4), (13, 2)])
def test_a_cancelled_map_has_coarser_boxes_everywhere(conv_model, volume_of, done, step):
    volume, cancel = volume_of((9, 8, 7)), threading.Event()
    how = {"size": 3, "stride": 1, "score": "logit", "inside": None, "engine": "full"}
    how["batch_size"] = 1000
    whole = box_sensitivity(conv_model, volume, 0, **how)
    part = box_sensitivity(
        conv_model,
        volume,
        0,
        **how,
        progress=lambda step: cancel.set() if step.done >= done else None,
        cancel=cancel,
    )
    assert part.partial
    centres = part.regions.centres
    known = np.isfinite(part.regions.occluded[0, :, 0])
    np.testing.assert_array_equal(known, (centres % step == 0).all(1))
    place = tuple(centres[known].T)
    scored = np.full(volume.shape, np.nan)
    scored[place] = whole.data[place]
    assert_nearest(part.data, scored, np.ones(volume.shape, bool), size=3)


def test_every_centre_is_scored_once(conv_model, tiny):
    steps = []
    found = box_sensitivity(conv_model, tiny, 0, size=3, stride=1, progress=steps.append)
    assert steps[-1].done == found.provenance["boxes_scored"] == (tiny.data > 0).sum()
    assert np.isfinite(found.regions.occluded).all()


@pytest.fixture(scope="module")
def scores(conv_model, tiny):
    return box_sensitivity(conv_model, tiny, 0, size=3, stride=2).regions


@pytest.mark.parametrize("quantity", ["drop", "probability"])
@pytest.mark.parametrize("score", ["logit", "log_prob", "probability"])
def test_other_class_and_quantity_follow_without_a_new_run(
    conv_model, tiny, scores, score, quantity
):
    anew = box_sensitivity(
        conv_model,
        tiny,
        1,
        size=3,
        stride=2,
        baseline="blur",
        quantity=quantity,
        score=score,
        engine="full",
    )
    np.testing.assert_allclose(scores.map(1, quantity, score), anew.data, rtol=1e-4, atol=1e-5)
    assert anew.provenance["quantity"] == quantity


def test_probability_is_what_is_left_of_it(conv_model, brain):
    clean = conv_model.predict(brain)[0]
    how = {"size": 5, "stride": 4, "baseline": 0, "engine": "full"}
    left = box_sensitivity(conv_model, brain, 0, quantity="probability", **how)
    drop = box_sensitivity(conv_model, brain, 0, **how)
    inside = brain.data > 0
    assert np.abs(drop.data).max() > 0.1
    np.testing.assert_allclose(left.data[inside], (clean - drop.data)[inside], atol=1e-6)


def test_several_baselines(conv_model, tiny):
    how = {"size": 3, "stride": 2, "score": "logit"}
    together = box_sensitivity(conv_model, tiny, 0, baseline=["border", 0], **how)
    alone = [
        box_sensitivity(conv_model, tiny, 0, baseline=b, engine="full", **how)
        for b in ("border", 0)
    ]
    maps, found = [a.data for a in alone], together.regions
    np.testing.assert_allclose(together.data, np.mean(maps, axis=0), atol=2e-5)
    np.testing.assert_allclose(found.map(0, score="logit", baseline="0"), maps[1], atol=2e-5)
    np.testing.assert_allclose(
        found.disagreement(0, score="logit"), np.ptp(maps, axis=0), atol=2e-5
    )
    assert together.provenance["boxes_scored"] == sum(a.provenance["boxes_scored"] for a in alone)


@pytest.mark.parametrize("orientation", ["LPI", "SAR"])
def test_map_is_back_on_the_scans_grid(orientation, volume_of):
    shape = (6, 5, 4)
    volume = volume_of(shape)
    turned = volume.reoriented(orientation)
    weights = np.random.default_rng(0).normal(size=(2, *turned.shape)).astype(np.float32)
    layer = nn.Linear(120, 2)
    layer.weight.data = torch.from_numpy(weights.reshape(2, -1))
    spec = InputSpec(turned.shape, orientation=orientation, intensity="none")
    model = Model(nn.Sequential(nn.Flatten(), layer), None, spec, "cpu")
    found = box_sensitivity(
        model, volume, 0, size=3, stride=1, baseline=0, score="logit", inside=None
    )
    change = Volume(weights[0], turned.affine).reoriented("RAS").data * volume.data
    expected = [change[box_around(c, 3, shape)].sum() for c in np.ndindex(shape)]
    np.testing.assert_allclose(found.data.ravel(), expected, atol=1e-5)
    np.testing.assert_array_equal(found.affine, volume.affine)


def test_a_mask_is_of_the_scans_grid(volume_of, conv_model):
    model = Model(conv_model.module, None, InputSpec(orientation="SAR", intensity="none"), "cpu")
    volume = volume_of((8, 7, 9))
    mask = np.zeros(volume.shape, bool)
    mask[2, 1:4, 5] = True
    found = box_sensitivity(
        model, volume, 0, size=1, stride=1, inside=mask, baseline=0, engine="full"
    )
    np.testing.assert_array_equal(found.data != 0, mask)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_monai_agrees_on_tiles(conv_model, volume_of):
    volume = volume_of((9, 12, 6))
    found = box_sensitivity(
        conv_model,
        volume,
        1,
        size=3,
        stride=3,
        baseline=0.5,
        quantity="probability",
        inside=None,
        engine="full",
    )
    monai = OcclusionSensitivity(
        conv_model.module,
        mask_size=3,
        mode=0.5,
        overlap=0.0,
        activate=lambda logits: logits.softmax(1),
        verbose=False,
    )
    expected, _ = monai(torch.from_numpy(volume.data)[None, None])
    np.testing.assert_allclose(found.data, expected[0, 1].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"size": 0}, "box size of 0 is not possible"),
        ({"stride": 0}, "stride of 0 is not possible"),
        ({"inside": "brain"}, "'brain' is not a place for boxes; use one of head"),
        ({"inside": np.ones((3, 4, 5), bool)}, r"The mask has \(3, 4, 5\) voxels, but the scan"),
        ({"inside": np.zeros((14, 15, 13), bool)}, "no voxel that the network sees"),
        ({"target": 7}, "no class 7"),
        ({"score": "loss"}, "logit, log_prob, probability"),
        ({"quantity": "gain"}, "drop, absolute, probability"),
        ({"baseline": "mean"}, "use 'blur', 'border', 'noise', a number such as 0"),
        ({"baseline": Volume(np.ones((2, 2, 2)), name="other")}, "'other' is not on the grid"),
        ({"engine": "fast"}, "auto, incremental, full"),
        ({"precision": "double"}, "single, half"),
        ({"size": 2.5}, "box size of 2.5 is not possible"),
        ({"stride": "3"}, "stride of '3' is not possible"),
        ({"time_budget": -1}, "limit of -1 is not possible; give a number of seconds"),
        ({"time_budget": "5"}, "limit of '5' is not possible"),
    ],
)
def test_wrong_options_are_refused(conv_model, brain, wrong, text, plain):
    with pytest.raises(MethodError, match=text) as error:
        box_sensitivity(conv_model, brain, **{"target": 0, **wrong})
    plain(error.value)
