"""What a network's outputs mean: probabilities, scores and names of the targets."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.scan.volume import Volume

SCORES = ["logit", "log_prob", "probability"]
logits = st.lists(st.floats(-12, 12), min_size=2, max_size=5).map(lambda v: torch.tensor([v]))


def all_scores(outputs, raw, score):
    return torch.stack([outputs.score(raw, t, score) for t in range(outputs.n_targets)], 1)


@given(logits)
def test_softmax_scores_are_those_of_torch(raw):
    outputs = Outputs("softmax", raw.shape[1])
    torch.testing.assert_close(all_scores(outputs, raw, "logit"), raw)
    torch.testing.assert_close(all_scores(outputs, raw, "log_prob"), raw.log_softmax(1))
    torch.testing.assert_close(all_scores(outputs, raw, "probability"), raw.softmax(1))
    torch.testing.assert_close(outputs.predictions(raw), raw.softmax(1))


@given(logits)
def test_labels_are_there_or_not_each_by_itself(raw):
    outputs = Outputs("sigmoid", raw.shape[1])
    assert outputs.n_targets == raw.shape[1]
    torch.testing.assert_close(all_scores(outputs, raw, "logit"), raw)
    torch.testing.assert_close(all_scores(outputs, raw, "log_prob"), raw.sigmoid().log())
    torch.testing.assert_close(outputs.predictions(raw), raw.sigmoid())


@given(st.floats(-12, 12))
def test_one_sigmoid_is_a_class_and_its_absence(value):
    raw = torch.tensor([[value]])
    outputs = Outputs("sigmoid", 1)
    assert outputs.n_targets == 2
    torch.testing.assert_close(all_scores(outputs, raw, "logit"), torch.cat([-raw, raw], 1))
    both = outputs.predictions(raw)
    torch.testing.assert_close(both.sum(), torch.tensor(1.0))
    torch.testing.assert_close(both[:, 1:], raw.sigmoid())
    torch.testing.assert_close(both, torch.cat([torch.zeros(1, 1), raw], 1).softmax(1))


@given(logits, st.sampled_from(SCORES))
def test_a_regression_has_the_value_and_its_negative_whatever_score_is_asked_for(raw, score):
    outputs = Outputs("regression", raw.shape[1])
    found = all_scores(outputs, raw, score)
    torch.testing.assert_close(found[:, 1::2], raw)
    torch.testing.assert_close(found[:, ::2], -raw)
    torch.testing.assert_close(outputs.predictions(raw), raw)
    assert outputs.score_name(score) == "value"


@given(logits, st.sampled_from(SCORES))
def test_a_final_sigmoid_is_undone(raw, score):
    n = raw.shape[1]
    found = all_scores(Outputs("sigmoid", n, "sigmoid"), raw.double().sigmoid(), score)
    wanted = all_scores(Outputs("sigmoid", n), raw.double(), score)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last", ["softmax", "log_softmax"])
@given(logits)
def test_a_final_softmax_is_undone_up_to_a_constant(last, raw):
    raw = raw.double()
    outputs = Outputs("softmax", raw.shape[1], last)
    ended = getattr(raw, last)(1)
    for score in ("log_prob", "probability"):
        wanted = all_scores(Outputs("softmax", raw.shape[1]), raw, score)
        torch.testing.assert_close(all_scores(outputs, ended, score), wanted, rtol=1e-6, atol=1e-6)
    shift = all_scores(outputs, ended, "logit") - raw
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "last"), [("softmax", "softmax"), ("sigmoid", "sigmoid")])
def test_probabilities_of_0_and_1_give_finite_scores_and_gradients(kind, last):
    raw = torch.tensor([[0.0, 1.0]], requires_grad=True)
    for score in SCORES:
        found = all_scores(Outputs(kind, 2, last), raw, score)
        assert found.isfinite().all()
        (gradient,) = torch.autograd.grad(found.sum(), raw)
        assert gradient.isfinite().all()


def body(n_outputs):
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        nn.Linear(4, n_outputs),
    )


ENDS = {
    "softmax": (3, nn.Softmax(1), "softmax"),
    "log_softmax": (3, nn.LogSoftmax(1), "log_softmax"),
    "sigmoid of one": (1, nn.Sigmoid(), "sigmoid"),
    "sigmoid of labels": (3, nn.Sigmoid(), "sigmoid"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_net_with_its_last_operation_inside_predicts_as_without(end):
    n, last, name = ENDS[end]
    kind = "softmax" if "softmax" in name else "sigmoid"
    without = Model(body(n), device="cpu", output=kind)
    within = Model(body(n).append(last), device="cpu")
    assert within.outputs == Outputs(kind, n)  # the logits themselves are taken
    assert within.reading.ends_in == name
    assert within.class_names == without.class_names
    scan = Volume(np.random.default_rng(0).random((7, 8, 9)))
    np.testing.assert_allclose(within.predict(scan), without.predict(scan), rtol=1e-5)


def test_a_last_operation_behind_a_squeeze_is_found():
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = body(1)

        def forward(self, x):
            return torch.sigmoid(self.net(x)).squeeze(1)

    model = Model(Squeezed(), device="cpu")
    assert model.outputs == Outputs("sigmoid", 1)
    assert model.reading.ends_in == "sigmoid"


def test_a_regression_predicts_values():
    model = Model(body(2), ["age", "volume"], device="cpu", output="regression")
    assert model.class_names == ("lower age", "higher age", "lower volume", "higher volume")
    scan = Volume(np.random.default_rng(0).random((7, 8, 9)))
    values = model.predict(scan)
    raw = model.logits(model.tensor(model.conform(scan).channels))[0]
    np.testing.assert_allclose(values, raw.numpy())
    assert model.described(np.array([71.25, 3.0])) == [("age", "71.25"), ("volume", "3")]


NAMES = [
    (("softmax", 3), None, ("class 0", "class 1", "class 2")),
    (("softmax", 2), ["NC", "AD"], ("NC", "AD")),
    (("sigmoid", 1), None, ("class 0", "class 1")),
    (("sigmoid", 1), ["AD"], ("not AD", "AD")),
    (("sigmoid", 1), ["NC", "AD"], ("NC", "AD")),
    (("sigmoid", 2), ["tumour", "oedema"], ("tumour", "oedema")),
    (("regression", 1), None, ("lower output", "higher output")),
    (("regression", 1), ["age"], ("lower age", "higher age")),
    (("regression", 1), ["younger", "older"], ("younger", "older")),
    (("regression", 2), None, ("lower output 0", "higher output 0", "lower output 1", "higher output 1")),
    (("softmax", 2), [0, 1], ("0", "1")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given_names", "wanted"), NAMES)
def test_target_names(kind, given_names, wanted):
    assert Outputs(*kind).target_names(given_names) == wanted


@pytest.mark.parametrize(
    ("kind", "names", "words"),
    [
        (("softmax", 3), ["a", "b"], "2 class names were given for 3 outputs"),
        (("sigmoid", 1), ["a", "b", "c"], "3 class names were given for 1 outputs"),
        (("softmax", 2), ["AD", "AD"], "'AD' is given twice"),
    ],
)
def test_names_that_do_not_fit_are_refused(plain, kind, names, words):
    with pytest.raises(MethodError) as caught:
        Outputs(*kind).target_names(names)
    plain(caught.value, words)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (("labels", 2), "softmax, sigmoid, regression"),
        (("softmax", 0), "no outputs"),
        (("softmax", 1), "'sigmoid' or 'regression'"),
        (("softmax", 2, "sigmoid"), "ends in a sigmoid"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(plain, kind, words):
    with pytest.raises(MethodError) as caught:
        Outputs(*kind)
    plain(caught.value, words)


@pytest.mark.parametrize(
    ("n", "last", "kind"),
    [(1, "", "sigmoid"), (2, "", "softmax"), (2, "sigmoid", "sigmoid"), (1, "sigmoid", "sigmoid")],
)
def test_the_likely_kind_is_taken_if_none_is_given(n, last, kind):
    assert Outputs.of(None, n, last) == Outputs(kind, n, last)
    assert Outputs.of("regression", n, last).kind == "regression"
