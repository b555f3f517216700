"""Explanations of networks with one sigmoid, several labels, values, or probabilities as outputs."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.explain.common_parameters import SCORES
from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.methods.cam import cam
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.remap import remap
from napari_cnnvis.explain.run import explain
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec

GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")

LAYER = "4"


@pytest.fixture
def net_of(gap_net, brain):
    """n_outputs, last layers -> a small network, undecided about the brain."""

    def make(n_outputs, *last):
        torch.manual_seed(5)
        features = [nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 6, 3), nn.ReLU()]
        net = gap_net(features, 6, n_outputs).eval()
        with torch.no_grad():
            net[-1].weight.normal_(0, 8)
            net[-1].bias -= net(torch.from_numpy(brain.data[None, None]))[0] - 0.3
        return net.extend(last)

    return make


@pytest.fixture
def model_of(net_of):
    def make(n_outputs, *last, names=None, output=None):
        net = net_of(n_outputs, *last)
        return Model(net, names, InputSpec(intensity="none"), "cpu", output=output)

    return make


@pytest.fixture(scope="module")
def hierarchy(brain, cubes):
    return cubes(brain, 4, 8)


def assert_maps_equal(found, expected, tolerance=1e-4):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def clean_and_occluded(model, scan, hierarchy, value=0.0):
    """Raw outputs of the scan, and of it with each region of the finest level filled."""
    labels = hierarchy.label_volume(hierarchy.levels[0])
    inputs = [scan.data]
    for label in range(1, labels.max() + 1):
        inputs.append(np.where(labels == label, np.float32(value), scan.data))
    with torch.no_grad():
        raw = model.module(torch.from_numpy(np.stack(inputs))[:, None]).double().numpy()
    return raw[0], raw[1:], labels


def as_map(values, labels):
    return np.concatenate([[0], values])[labels]


def finest(model, scan, hierarchy, target, **how):
    """Sensitivity on the finest level alone, occluding by 0."""
    n = len(np.unique(hierarchy.levels[0]))
    return sensitivity(model, scan, hierarchy, target, baseline=0, levels=[n], **how)


# one output and a sigmoid: the class, and its absence


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_absence_of_a_class_is_explained_by_the_opposite_gradient(model_of, brain, method, score):
    model = model_of(1, names=["AD"])
    assert model.class_names == ("not AD", "AD")
    maps = [
        explain(model, brain, method, target=name, layer=LAYER, relu=False, score=score).native
        for name in model.class_names
    ]
    if method in ("grad-cam", "hirescam"):
        assert_maps_equal(maps[0], -maps[1])
    else:  # these take positive gradients only
        assert all(m.min() >= 0 for m in maps)
        assert np.abs(maps[0] - maps[1]).max() > 0.1 * np.abs(maps).max()


def test_cam_of_absence_is_the_opposite(model_of, brain):
    model = model_of(1, names=["AD"])
    present = cam(model, brain, "AD")
    np.testing.assert_array_equal(cam(model, brain, "not AD").native, -present.native)
    raw = model.logits(model.tensor(brain.data))[0, 0].item()
    bias = model.module[-1].bias.item()
    assert present.native.mean() == pytest.approx(raw - bias, rel=1e-4)


@pytest.mark.parametrize("engine", ["auto", "full"])
@pytest.mark.parametrize("score", SCORES)
def test_one_sigmoid_drops_as_on_paper(model_of, brain, hierarchy, score, engine):
    model = model_of(1, names=["AD"])
    clean, occluded, labels = clean_and_occluded(model, brain, hierarchy)
    for target, sign in (("not AD", -1), ("AD", 1)):
        scores = {
            "logit": lambda x, sign=sign: sign * x,
            "log_prob": lambda x, sign=sign: np.log(sigmoid(sign * x)),
            "probability": lambda x, sign=sign: sigmoid(sign * x),
        }[score]
        expected = as_map(scores(clean) - scores(occluded[:, 0]), labels)
        found = finest(model, brain, hierarchy, target, score=score, engine=engine)
        assert_maps_equal(found.data, expected)
        assert found.provenance["score"] == score
        assert found.provenance["class_name"] == target


def test_probabilities_of_one_sigmoid(model_of, brain):
    model = model_of(1)
    raw = model.logits(model.tensor(brain.data))[0, 0].item()
    expected = [sigmoid(-raw), sigmoid(raw)]
    np.testing.assert_allclose(model.predict(brain), expected, rtol=1e-5)


def test_remap_to_the_absence_needs_no_new_run(model_of, brain, hierarchy):
    model = model_of(1, names=["AD"])
    present = sensitivity(model, brain, hierarchy, "AD")
    absent = remap(present, "not AD")
    assert absent.provenance["class_name"] == "not AD"
    assert_maps_equal(absent.data, -present.data)
    assert_maps_equal(absent.data, sensitivity(model, brain, hierarchy, "not AD").data)


def test_boxes_on_one_sigmoid(model_of, brain):
    model = model_of(1, names=["AD"])
    maps = [
        box_sensitivity(model, brain, name, size=5, stride=4).data for name in model.class_names
    ]
    assert_maps_equal(maps[0], -maps[1])


# several labels, each present or absent


@pytest.mark.parametrize("target", [0, 1, 2])
def test_labels_do_not_compete(model_of, brain, hierarchy, target):
    names = ["a", "b", "c"]
    model = model_of(3, names=names, output="sigmoid")
    assert model.class_names == tuple(names)
    clean, occluded, labels = clean_and_occluded(model, brain, hierarchy)
    np.testing.assert_allclose(model.predict(brain), sigmoid(clean), rtol=1e-5)
    expected = as_map(sigmoid(clean[target]) - sigmoid(occluded[:, target]), labels)
    found = finest(model, brain, hierarchy, names[target])
    assert_maps_equal(found.data, expected)
    competing = finest(model_of(3, names=names), brain, hierarchy, names[target])
    assert np.abs(competing.data - expected).max() > 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("method", GRADIENT)
def test_a_label_is_explained_as_by_a_network_with_this_output_only(model_of, brain, method):
    several = model_of(3, output="sigmoid")
    alone = model_of(1)
    with torch.no_grad():
        alone.module[-1].weight.copy_(several.module[-1].weight[1:2])
        alone.module[-1].bias.copy_(several.module[-1].bias[1:2])
    for score in SCORES:
        how = {"layer": LAYER, "relu": False, "score": score}
        found = explain(several, brain, method, target=1, **how)
        assert_maps_equal(found.native, explain(alone, brain, method, target=1, **how).native)


# values


@pytest.mark.parametrize("score", SCORES)
def test_a_value_is_explained_in_its_own_unit(model_of, brain, hierarchy, score):
    model = model_of(1, names=["age"], output="regression")
    assert model.class_names == ("lower age", "higher age")
    clean, occluded, labels = clean_and_occluded(model, brain, hierarchy)
    assert model.predict(brain) == pytest.approx(clean, rel=1e-5)
    higher = finest(model, brain, hierarchy, "higher age", score=score)
    assert_maps_equal(higher.data, as_map(clean - occluded[:, 0], labels))
    lower = finest(model, brain, hierarchy, "lower age", score=score)
    assert_maps_equal(lower.data, -higher.data)
    assert higher.provenance["score"] == lower.provenance["score"] == "value"
    assert higher.provenance["model"]["output"] == "regression"


def test_value_with_a_region_occluded(model_of, brain, hierarchy):
    model = model_of(2, names=["age", "score"], output="regression")
    _, occluded, labels = clean_and_occluded(model, brain, hierarchy)
    found = finest(model, brain, hierarchy, "higher score", quantity="probability")
    assert_maps_equal(found.data, as_map(occluded[:, 1], labels))


@pytest.mark.parametrize("method", GRADIENT)
def test_gradient_of_a_value(model_of, brain, method):
    regression = model_of(2, output="regression")
    classes = model_of(2)
    how = {"layer": LAYER, "relu": False}
    expected = explain(classes, brain, method, target=1, **how, score="logit")
    for score in SCORES:  # a value has one score only
        found = explain(regression, brain, method, target="higher output 1", **how, score=score)
        np.testing.assert_array_equal(found.native, expected.native)
        assert found.provenance["score"] == "value"
    lower = explain(regression, brain, method, target="lower output 1", **how)
    if method in ("grad-cam", "hirescam"):
        np.testing.assert_array_equal(lower.native, -expected.native)


def test_cam_of_a_value(model_of, brain):
    model = model_of(2, output="regression")
    raw = model.predict(brain)
    for target, sign, output in ((0, -1, 0), (1, 1, 0), (2, -1, 1), (3, 1, 1)):
        bias = model.module[-1].bias[output].item()
        found = cam(model, brain, target).native.mean()
        assert sign * found == pytest.approx(raw[output] - bias, rel=1e-4)


# networks that end in probabilities

ENDS = {
    "softmax": ([nn.Softmax(1)], 3),
    "log_softmax": ([nn.LogSoftmax(1)], 3),
    "sigmoid": ([nn.Sigmoid()], 1),
    "sigmoid of labels": ([nn.Sigmoid()], 3),
}


@pytest.fixture(params=ENDS)
def pair(request, model_of):
    """The same network without and with its last operation inside, and what that is."""
    last, n = ENDS[request.param]
    plain = model_of(n, output="sigmoid" if "sigmoid" in request.param else None)
    return plain, model_of(n, *last), request.param.split()[0]


def test_last_operation_is_found_and_counts_in_predictions(pair, brain):
    plain, ending, last = pair
    assert ending.reading.ends_in == last
    assert ending.outputs.kind == ("sigmoid" if last == "sigmoid" else "softmax")
    assert ending.class_names == plain.class_names
    np.testing.assert_allclose(ending.predict(brain), plain.predict(brain), rtol=1e-5)


@pytest.mark.parametrize("method", GRADIENT)
def test_gradient_maps_in_spite_of_a_last_operation(pair, brain, method):
    plain, ending, _ = pair
    for score in SCORES:
        how = {"layer": LAYER, "relu": False}
        found = explain(ending, brain, method, target=1, **how, score=score)
        expected = explain(plain, brain, method, target=1, **how, score=score)
        assert_maps_equal(found.native, expected.native)


@pytest.mark.parametrize("engine", ["auto", "full"])
def test_sensitivity_in_spite_of_a_last_operation(pair, brain, hierarchy, engine):
    plain, ending, _ = pair
    for score in SCORES:
        found = sensitivity(ending, brain, hierarchy, 1, baseline=0, score=score, engine=engine)
        expected = sensitivity(plain, brain, hierarchy, 1, baseline=0, score=score, engine="full")
        assert_maps_equal(found.data, expected.data)


def test_cam_in_spite_of_a_last_operation(pair, brain):
    plain, ending, _ = pair
    for target in range(len(plain.class_names)):
        expected = cam(plain, brain, target)
        np.testing.assert_array_equal(cam(ending, brain, target).data, expected.data)


def test_a_certain_network_has_finite_maps(model_of, brain, hierarchy):
    for last, n in ([nn.Softmax(1)], 2), ([nn.Sigmoid()], 1):
        model = model_of(n, *last)
        with torch.no_grad():
            model.module[-2].bias[:] = torch.tensor([300.0, -300.0])[:n]
        for score in SCORES:
            for target in (0, 1):
                found = finest(model, brain, hierarchy, target, score=score, engine="full")
                assert np.isfinite(found.data).all()
                for method in GRADIENT:
                    found = explain(model, brain, method, target=target, layer=LAYER, score=score)
                    assert np.isfinite(found.data).all()


# several outputs, of which one holds the scores


class WithFeatures(nn.Module):
    def __init__(self, net, wrap):
        super().__init__()
        self.net, self.wrapped = net, wrap

    def forward(self, x):
        features = self.net[:5](x)
        return self.wrapped(self.net[5:](features), features)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda scores, features: (scores, features),
        lambda scores, features: [features, scores],
        lambda scores, features: {"features": features, "logits": scores},
        lambda scores, features: scores[:, :, None, None, None],
    ],
    ids=["tuple", "list", "dictionary", "trailing axes"],
)
def test_scores_among_other_outputs(net_of, brain, hierarchy, wrap, wrapped):
    plain, wrapping = wrap(net_of(2)), wrap(WithFeatures(net_of(2), wrapped))
    np.testing.assert_array_equal(wrapping.predict(brain), plain.predict(brain))
    np.testing.assert_array_equal(cam(wrapping, brain, 1).data, cam(plain, brain, 1).data)
    for method in GRADIENT:
        found = explain(wrapping, brain, method, target=1, layer=f"net.{LAYER}", relu=False)
        expected = explain(plain, brain, method, target=1, layer=LAYER, relu=False)
        np.testing.assert_array_equal(found.data, expected.data)
    found = sensitivity(wrapping, brain, hierarchy, 1)
    assert found.provenance["engine"]["engine"] == "incremental"
    assert_maps_equal(found.data, sensitivity(plain, brain, hierarchy, 1).data)
