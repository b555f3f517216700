import threading

import numpy as np
import pytest

from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.run import explain
from napari_cnnvis.explain.scoring.box_run import BoxScores
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.build import build_hierarchy
from napari_cnnvis.ucm.hierarchy import Hierarchy

GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")
METHODS = {key: method.title for key, method in methods().items()}


@pytest.fixture(scope="module")
def hierarchy(brain, cubes):
    return cubes(brain, 4, 8)


@pytest.fixture
def average(brain_of):
    return Volume(0.9 * brain_of(seed=1).data, np.diag([2.0, 2.0, 2.0, 1.0]), "average")


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("layer", ["3", "all", None])
def test_gradient_methods(conv_model, brain, method, layer):
    how = {"layer": layer, "relu": False, "score": "log_prob", "alignment": "receptive field"}
    found = explain(conv_model, brain, ExplainRequest(method, 1, **how))
    expected = explain(conv_model, brain, method, target=1, **how)
    if layer == "all":
        assert list(found) == list(expected) == conv_model.target_layers
        found, expected = found["3"], expected["3"]
    assert found.name == expected.name
    assert found.name.startswith(f"{METHODS[method]} · class 1 · ")
    np.testing.assert_array_equal(found.data, expected.data)


def test_box(conv_model, brain):
    request = ExplainRequest("box", 1, baseline=0, size=4, stride=3)
    found = explain(conv_model, brain, request)
    expected = box_sensitivity(conv_model, brain, 1, size=4, stride=3, baseline=0)
    assert isinstance(found.regions, BoxScores)
    assert found.name == expected.name == "Box occlusion · class 1"
    np.testing.assert_allclose(found.data, expected.data, atol=1e-6)


@pytest.mark.parametrize("method", ["sensitivity", "box"])
def test_several_baselines(fitting, conv_model, brain, hierarchy, average, method):
    baselines = ["border", 0, average]
    how = {"quantity": "probability", "score": "log_prob"}
    request = fitting(method, 1, baseline=baselines, size=5, stride=4, **how)
    found = explain(conv_model, brain, request, hierarchy=hierarchy)
    if method == "box":
        expected = box_sensitivity(
            conv_model, brain, 1, size=5, stride=4, baseline=baselines, **how, engine="full"
        )
    else:
        expected = sensitivity(
            conv_model, brain, hierarchy, 1, baseline=baselines, **how, engine="full"
        )
    assert found.regions.baselines == ("border", "0", "average")
    np.testing.assert_allclose(found.data, expected.data, atol=1e-5)


@pytest.mark.parametrize("join", ["size-aware", "strongest"])
def test_join_of_sensitivity(conv_model, brain, hierarchy, join):
    found = explain(
        conv_model, brain, ExplainRequest("sensitivity", 0, join=join), hierarchy=hierarchy
    )
    expected = sensitivity(conv_model, brain, hierarchy, 0, join=join, engine="full")
    np.testing.assert_allclose(found.data, expected.data, atol=1e-5)


def test_margin_of_sensitivity(conv_model, brain, hierarchy):
    found = explain(
        conv_model, brain, ExplainRequest("sensitivity", 0, margin=2.0), hierarchy=hierarchy
    )
    expected = sensitivity(conv_model, brain, hierarchy, 0, margin=2.0, engine="full")
    np.testing.assert_allclose(found.data, expected.data, atol=1e-5)
    without = sensitivity(conv_model, brain, hierarchy, 0, engine="full")
    assert np.abs(found.data - without.data).max() > 1e-4


@pytest.mark.parametrize("method", ["sensitivity", "box"])
def test_precision_and_time_budget_reach_the_run(fitting, conv_model, brain, hierarchy, method):
    request = fitting(method, 0, size=3, stride=4, time_budget=1e-9, precision="half")
    found = explain(conv_model, brain, request, hierarchy=hierarchy)
    assert "bfloat16" in found.notes[0]
    assert found.partial


@pytest.mark.parametrize("method", ["sensitivity", "box"])
def test_progress_and_cancel_reach_the_run(fitting, conv_model, brain, hierarchy, method):
    cancel, steps = threading.Event(), []
    request = fitting(method, 0, size=3, stride=4)
    whole = explain(
        conv_model, brain, request, hierarchy=hierarchy, progress=steps.append, cancel=cancel
    )
    assert steps[-1].done == steps[-1].total
    assert not whole.partial
    cancel.set()
    assert explain(conv_model, brain, request, hierarchy=hierarchy, cancel=cancel).partial


def levels_of(found):
    return found.provenance["levels"]


def test_a_hierarchy_of_few_levels_is_used_as_it_is(conv_model, brain, cubes):
    for hierarchy in (cubes(brain, 4, 8), cubes(brain, 8)):
        levels = [len(np.unique(level)) for level in hierarchy.levels]
        found = explain(
            conv_model, brain, ExplainRequest("sensitivity", 0, finest=3), hierarchy=hierarchy
        )
        assert levels_of(found) == levels


def test_a_tree_is_cut_from_the_finest_level_that_is_asked_for(conv_model, brain):
    hierarchy = build_hierarchy(brain)
    found = explain(
        conv_model, brain, ExplainRequest("sensitivity", 0, finest=20), hierarchy=hierarchy
    )
    assert levels_of(found)[0] == 20
    assert levels_of(found)[-1] == 12


def test_a_tree_is_not_cut_coarser_than_it_goes(conv_model, brain):
    whole = build_hierarchy(brain)
    tops = whole.cut_nodes(15)  # fifteen trees instead of one
    parents = whole.parents.copy()
    parents[tops] = tops
    kept = whole.n_leaves + whole.n_leaves - 15
    forest = Hierarchy(whole.leaves, parents[:kept], whole.altitudes[:kept], whole.levels[:0])
    found = explain(
        conv_model, brain, ExplainRequest("sensitivity", 0, finest=30), hierarchy=forest
    )
    assert levels_of(found)[0] == 30
    assert levels_of(found)[-1] == 15
