import numpy as np
import pytest

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.parameter import baseline_names, check_baselines, check_choice
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.scan.volume import Volume

METHODS = {key: method.title for key, method in methods().items()}

AVERAGE = Volume(np.zeros((2, 2, 2)), name="average")


def test_choice_is_given_back():
    assert check_choice("b", ("a", "b"), "a letter") == "b"


def test_wrong_choice_names_the_right_ones():
    with pytest.raises(MethodError, match="'z' is not a letter; use one of a, b"):
        check_choice("z", ("a", "b"), "a letter")


@pytest.mark.parametrize(
    ("given", "kept", "names"),
    [
        ("blur", ("blur",), ("blur",)),
        (0, (0.0,), ("0",)),
        ("-1e-2", (-0.01,), ("-0.01",)),
        (["border", 1, "0.25"], ("border", 1.0, 0.25), ("border", "1", "0.25")),
        (AVERAGE, (AVERAGE,), ("average",)),
        (("noise", AVERAGE), ("noise", AVERAGE), ("noise", "average")),
    ],
)
def test_baselines(given, kept, names):
    found = check_baselines(given)
    assert found == kept
    assert list(map(type, found)) == list(map(type, kept))
    assert baseline_names(found) == names


@pytest.mark.parametrize("given", ["zero", "nan", float("inf"), None, [[1, 2]], ["blur", "zero"]])
def test_wrong_baseline(given, plain):
    text = "use 'blur', 'border', 'noise', a number such as 0, or a volume"
    with pytest.raises(MethodError, match=text) as error:
        check_baselines(given)
    plain(error.value)


@pytest.mark.parametrize("given", [[], ()])
def test_no_baseline(given, plain):
    with pytest.raises(MethodError, match="at least one baseline") as error:
        check_baselines(given)
    plain(error.value)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (["blur", 0, "blur"], "blur"),
        ([0, "0.0"], "0"),
        (["border", AVERAGE, AVERAGE], "average"),
        (["noise", Volume(np.ones((2, 2, 2)), name="noise")], "noise"),
    ],
)
def test_a_baseline_given_twice(given, name, plain):
    with pytest.raises(MethodError, match=f"'{name}' is given twice") as error:
        check_baselines(given)
    plain(error.value)


@pytest.mark.parametrize(
    ("method", "score"),
    [
        ("cam", "logit"),
        ("grad-cam", "logit"),
        ("grad-cam++", "logit"),
        ("hirescam", "logit"),
        ("layercam", "logit"),
        ("sensitivity", "probability"),
        ("box", "probability"),
    ],
)
def test_score_that_a_method_takes_by_default(method, score):
    assert getattr(ExplainRequest(method, 0).how, "score", "logit") == score


@pytest.mark.parametrize("method", [name for name in METHODS if name != "cam"])
def test_score_that_was_asked_for_stays(method):
    assert ExplainRequest(method, 0, score="log_prob").how.score == "log_prob"


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "saliency"},
        {"score": "loss"},
        {"alignment": "corners"},
        {"quantity": "gain"},
        {"baseline": "mean"},
        {"baseline": ["blur", "mean"]},
        {"baseline": []},
        {"finest": 0},
        {"size": 0},
        {"size": 2.5},
        {"stride": -1},
        {"time_budget": 0},
        {"time_budget": "5"},
        {"margin": -1},
        {"margin": float("nan")},
        {"margin": "2"},
        {"join": "median"},
        {"precision": "double"},
    ],
)
def test_wrong_values_are_refused(wrong, plain):
    (name,) = wrong
    having = [key for key, m in methods().items() if name in m.parameters()]
    for method in having or ["cam"]:
        with pytest.raises(MethodError) as error:
            ExplainRequest(**{"method": method, "target": 0, **wrong})
        plain(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_that_the_method_does_not_have_is_refused(method, plain):
    other = "margin" if method != "sensitivity" else "stride"
    with pytest.raises(
        MethodError, match=f"has no parameter '{other}'; its parameters are"
    ) as error:
        ExplainRequest(method, 0, **{other: 3})
    plain(error.value)


def test_a_request_cannot_be_changed():
    with pytest.raises(AttributeError, match="does not change"):
        ExplainRequest("cam", 0).target = 1
