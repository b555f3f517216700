import dataclasses

import pytest

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.options import METHODS, ExplainRequest, check_baseline, check_choice


def test_choice_is_given_back():
    assert check_choice("b", ("a", "b"), "a letter") == "b"


def test_wrong_choice_names_the_right_ones():
    with pytest.raises(MethodError, match="'z' is not a letter; use one of a, b"):
        check_choice("z", ("a", "b"), "a letter")


@pytest.mark.parametrize(("given", "kept"), [("blur", "blur"), (0, 0.0), ("-1e-2", -0.01)])
def test_baseline(given, kept):
    assert check_baseline(given) == kept


@pytest.mark.parametrize("given", ["zero", "nan", float("inf"), None, [1, 2]])
def test_wrong_baseline(given):
    with pytest.raises(MethodError, match="use 'blur' or a number"):
        check_baseline(given)


@pytest.mark.parametrize(
    ("method", "score"), [("cam", "logit"), ("grad-cam", "logit"), ("sensitivity", "probability")]
)
def test_score_that_a_method_takes_by_default(method, score):
    assert ExplainRequest(method, 0).score == score


@pytest.mark.parametrize("method", METHODS)
def test_score_that_was_asked_for_stays(method):
    assert ExplainRequest(method, 0, score="log_prob").score == "log_prob"


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "saliency"},
        {"score": "loss"},
        {"alignment": "corners"},
        {"quantity": "gain"},
        {"baseline": "mean"},
        {"finest": 0},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(MethodError):
        ExplainRequest(**{"method": "cam", "target": 0, **wrong})


def test_a_request_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ExplainRequest("cam", 0).target = 1
