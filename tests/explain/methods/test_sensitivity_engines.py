import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy

BASELINES = ["blur", "border", "noise", 0, "average"]


@pytest.fixture(scope="module")
def hierarchy(brain, cubes):
    return cubes(brain, 4, 8)


@pytest.fixture(scope="module")
def average(brain_of, brain):
    """Another head, which lies where the brain lies."""
    data = 0.8 * brain_of(seed=1).data
    data[:7] = brain.data[:7]
    return Volume(data, brain.affine, "average")


@pytest.fixture(scope="module")
def given_as(average):
    """Names of baselines -> what is given for them."""
    return lambda names: [average if name == "average" else name for name in names]


def definition(model, volume, hierarchy, baselines, target):
    """The mean of the drops over all levels and baselines, each region occluded by itself."""
    inputs, masks = [volume.data], []
    for level in map(hierarchy.label_volume, hierarchy.levels):
        for label in range(1, level.max() + 1):
            for baseline in baselines:
                masks.append(level == label)
                voxels = np.flatnonzero(masks[-1] & baseline.replaces)
                occluded = volume.data.copy()
                occluded.flat[voxels] = baseline.values(voxels)
                inputs.append(occluded)
    logits = model.logits(torch.from_numpy(np.stack(inputs))[:, None])
    clean, *scores = logits.double().softmax(1)[:, target].tolist()
    total = sum(mask * (clean - score) for mask, score in zip(masks, scores, strict=True))
    return total / (len(hierarchy.levels) * len(baselines))


@pytest.mark.parametrize("names", [*([name] for name in BASELINES), BASELINES])
def test_both_engines_give_the_definition(conv_model, brain, hierarchy, given_as, names):
    chosen = given_as(names)
    made = [
        make_baseline(brain.data, b.data if isinstance(b, Volume) else b, brain.spacing)
        for b in chosen
    ]
    expected = definition(conv_model, brain, hierarchy, made, 1)
    assert np.abs(expected).max() > 0.03
    for engine, used in (("auto", "incremental"), ("full", "full passes")):
        found = sensitivity(conv_model, brain, hierarchy, 1, baseline=chosen, engine=engine)
        assert found.provenance["engine"]["engine"] == used
        assert found.provenance["baseline"] == [str(name) for name in names]
        np.testing.assert_allclose(found.data, expected, atol=1e-5)


def test_several_baselines_are_the_mean_of_single_runs(conv_model, brain, hierarchy, given_as):
    chosen = given_as(BASELINES)
    together = sensitivity(conv_model, brain, hierarchy, 0, baseline=chosen)
    alone = [
        sensitivity(conv_model, brain, hierarchy, 0, baseline=b, engine="full").data for b in chosen
    ]
    np.testing.assert_allclose(together.data, np.mean(alone, axis=0), atol=1e-5)
    for name, expected in zip(BASELINES, alone, strict=True):
        found = together.regions.map(0, baseline=str(name))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    found = together.regions.disagreement(0)
    np.testing.assert_allclose(found, np.ptp(alone, axis=0), atol=1e-5)


@pytest.mark.parametrize("join", ["size-aware", "strongest"])
def test_joins_follow_without_a_new_run(conv_model, brain, hierarchy, join):
    regions = sensitivity(conv_model, brain, hierarchy, 0, baseline="border").regions
    anew = sensitivity(conv_model, brain, hierarchy, 0, baseline="border", join=join, engine="full")
    assert anew.provenance["join"] == join
    np.testing.assert_allclose(regions.map(0, join=join), anew.data, atol=1e-5)
    assert np.abs(regions.map(0) - anew.data).max() > 1e-3


@given(st.integers(0, 999))
def test_linear_model_drops_by_w_times_change_to_another_scan(linear_model, seed):
    rng, shape = np.random.default_rng(seed), (4, 3, 5)
    weights = rng.integers(-4, 5, (2, *shape))
    volume, other = (Volume(rng.integers(0, 8, shape)) for _ in range(2))
    labels = rng.integers(0, 6, shape)
    hierarchy = Hierarchy.from_levels([labels])
    model = linear_model(weights)
    found = sensitivity(model, volume, hierarchy, 1, baseline=other, score="logit", engine="full")
    change = weights[1] * (volume.data - other.data)
    expected = sum((labels == v) * change[labels == v].sum() for v in range(6))
    np.testing.assert_allclose(found.data, expected, atol=1e-4)


@pytest.mark.parametrize("engine", ["auto", "incremental", "full"])
def test_another_scan_is_brought_to_the_models_grid(engine):
    rng, shape = np.random.default_rng(0), (6, 6, 6)
    layer = nn.Linear(216, 2)
    spec = InputSpec(shape, orientation="SAR", intensity="max")
    model = Model(nn.Sequential(nn.Flatten(), layer), None, spec, "cpu")
    volume, other = (Volume(scale * rng.random(shape)) for scale in (5, 300))
    hierarchy = Hierarchy.from_levels([np.arange(216).reshape(shape)])
    found = sensitivity(model, volume, hierarchy, 0, baseline=other, score="logit", engine=engine)
    weights = layer.weight[0].detach().numpy().reshape(shape)
    weights = Volume(weights, volume.reoriented("SAR").affine).reoriented("RAS").data
    change = volume.data / volume.data.max() - other.data / other.data.max()
    np.testing.assert_allclose(found.data, weights * change, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "shift"), [((14, 15, 12), 0.0), ((15, 14, 13), 0.0), ((14, 15, 13), 1.0)]
)
def test_a_baseline_on_another_grid_is_refused(
    conv_model, brain, hierarchy, brain_of, shape, shift, plain
):
    affine = brain.affine.copy()
    affine[0, 3] = shift
    other = Volume(brain_of(shape).data, affine, "patient 8")
    with pytest.raises(MethodError, match="'patient 8' is not on the grid of 'brain'") as error:
        sensitivity(conv_model, brain, hierarchy, 0, baseline=["blur", other])
    plain(error.value)


@pytest.mark.parametrize(
    ("engine", "used"),
    [("auto", "incremental"), ("incremental", "incremental"), ("full", "full passes")],
)
def test_provenance_and_notes_tell_the_engine(conv_model, brain, hierarchy, engine, used):
    found = sensitivity(conv_model, brain, hierarchy, 0, engine=engine)
    report = found.provenance["engine"]
    assert report["engine"] == used
    assert found.notes == (report["text"],)
    assert found.provenance["regions_scored"] == hierarchy.n_nodes


def test_notes_of_the_scan_are_kept_beside_the_engines(wrap, brain, hierarchy, conv_model):
    model = wrap(conv_model.module, (14, 15, 8))
    found = sensitivity(model, brain, hierarchy, 0)
    outside, engine = found.notes
    assert "is outside the model's 14 x 15 x 8 voxels" in outside
    assert engine == found.provenance["engine"]["text"]


def test_half_precision_is_close_and_noted(conv_model, brain, hierarchy):
    single = sensitivity(conv_model, brain, hierarchy, 0, baseline=0)
    half = sensitivity(conv_model, brain, hierarchy, 0, baseline=0, precision="half")
    (note,) = half.notes
    assert "bfloat16" in note
    assert f"differ by {half.provenance['engine']['largest_difference']:.1e}" in note
    assert "bfloat16" not in single.notes[0]
    assert 1e-4 < np.abs(half.data - single.data).max() < 0.1 * np.abs(single.data).max()


@pytest.mark.parametrize("engine", ["incremental", "full"])
def test_regions_the_model_does_not_see_drop_nothing(wrap, brain, conv_model, engine):
    model = wrap(conv_model.module, (8, 15, 13))
    labels = np.indices(brain.shape)[0]
    found = sensitivity(
        model, brain, Hierarchy.from_levels([labels]), 0, baseline=["blur", 0], engine=engine
    )
    seen = (labels >= 3) & (labels < 11)
    assert found.provenance["regions_scored"] == 16
    assert found.data[seen].all()
    assert not found.data[~seen].any()


def test_regions_that_are_as_the_baseline_drop_nothing(conv_model, brain, hierarchy, average):
    found = sensitivity(conv_model, brain, hierarchy, 0, baseline=average)
    alike = np.indices(brain.shape)[0] < 4
    assert found.provenance["regions_scored"] < hierarchy.n_nodes
    level = found.regions.map(0, level_weights=[1, 0])
    assert not level[alike].any()
    assert level[~alike & (hierarchy.leaves > 0)].any()


def test_the_scan_itself_as_baseline_drops_nothing(conv_model, brain, hierarchy):
    found = sensitivity(
        conv_model, brain, hierarchy, 0, baseline=Volume(brain.data, brain.affine, "copy")
    )
    assert "nothing to occlude" in found.notes[0]
    assert not found.partial
    assert not found.data.any()
