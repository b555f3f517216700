"""A method is one file: what the window, the command and records know of it follows from that."""

import json
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.cohort.keys import ResultKeys
from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain import registry
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import parameter
from napari_cnnvis.explain.record import Record
from napari_cnnvis.models.networks.vox import VoxResNetGAP

OTHER_PACKAGE = Path(__file__).parents[1] / "other_package"
OWN = list(cv.methods())
VOLUME = cv.Volume(
    np.random.default_rng(0).random((9, 10, 8)).astype(np.float32), np.diag([2, 2, 2, 1.0]), "scan"
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2))
    )
    return cv.Model(net, ["NC", "AD"], cv.InputSpec((9, 10, 8)), "cpu", path="/nets/net.pt")


@pytest.fixture(scope="module")
def tree():
    return cv.build_hierarchy(VOLUME)


@pytest.fixture
def installed(monkeypatch):
    """Another package that adds a method."""
    monkeypatch.syspath_prepend(str(OTHER_PACKAGE))
    registry._methods.cache_clear()
    yield "gradient-x-input"
    registry._methods.cache_clear()
    sys.modules.pop("gradient_times_input", None)


def values_of(parameter):
    """Values that a parameter may have, but for scans as baselines."""
    if parameter.kind == "baselines":
        one = st.sampled_from(["blur", "border", "noise"]) | st.floats(-5, 5, width=32)
        return st.lists(one, min_size=1, max_size=3, unique_by=str).map(tuple)
    if parameter.name == "layer":
        return st.sampled_from(["0", "1"])
    if parameter.name == "shown":
        return st.none() | st.just("disagreement")
    if parameter.name == "inside":
        return st.sampled_from(["head", "everywhere"])
    if parameter.name == "level_weights":
        return st.none()  # one for each level of the run: see the test after this one
    if parameter.name == "levels":
        return st.none() | st.lists(st.integers(2, 6), min_size=1, max_size=3).map(tuple)
    if parameter.choices:
        return st.sampled_from(list(parameter.choices))
    if parameter.kind == "class":
        return st.none() | st.just("NC")
    low = parameter.low if parameter.low is not None else 1
    high = 4 if parameter.high is None else parameter.high
    if parameter.above is not None and parameter.low is None:
        low = min(0.5, high)
    plain = {
        "flag": st.booleans(),
        "whole": st.integers(int(low) + 1, 30),
        "number": st.floats(low, high, width=32).filter(lambda v: v != 0) | st.just(low or 1.0),
        "text": st.text(max_size=5),
    }[parameter.kind]
    return st.none() | plain if parameter.optional and parameter.name != "layer" else plain


def check_identity(model, tree, request):
    made = cv.explain(model, VOLUME, request, hierarchy=tree)
    record = Record.from_json(made.record.to_json())
    assert record.request() == request
    assert Record.from_json(Record.read(record).to_json()).request() == request
    assert record.title == made.name.removesuffix(" (partial)")
    assert f"target={request.target!r}" in record.script()


@pytest.mark.parametrize("method", OWN)
@settings(max_examples=12, phases=[Phase.generate])
@given(st.data())
def test_request_run_record_json_record_request_is_the_identity(model, tree, method, data):
    parameters = cv.methods()[method].parameters()
    given_ = {name: data.draw(values_of(p), label=name) for name, p in parameters.items()}
    if "shown" in parameters and len(given_["baseline"]) == 1:
        given_["shown"] = None  # one baseline cannot disagree
    check_identity(model, tree, cv.ExplainRequest(method, "AD", **given_))


def test_weights_of_levels_come_back(model, tree):
    request = cv.ExplainRequest("sensitivity", "NC", levels=(6, 3), level_weights=(1, 0.25))
    check_identity(model, tree, request)
    plain = cv.explain(model, VOLUME, "sensitivity", target="NC", hierarchy=tree, levels=(6, 3))
    weighted = cv.explain(model, VOLUME, request, hierarchy=tree)
    again = cv.remap(plain, "NC", level_weights=[1, 0.25])
    np.testing.assert_array_equal(weighted.data, again.data)


@pytest.mark.parametrize("method", [key for key in OWN if cv.methods()[key].function])
def test_by_key_is_the_function_of_its_name(model, tree, method):
    kind = cv.methods()[method]
    given_ = [tree] if kind.takes_hierarchy else []
    by_name = getattr(cv, kind.function)(model, VOLUME, *given_, "AD")
    by_key = cv.explain(model, VOLUME, method, target="AD", hierarchy=tree)
    np.testing.assert_array_equal(by_key.data, by_name.data)
    assert by_key.record.request() == by_name.record.request()


def test_explain_says_what_is_missing(model, plain):
    for wrong in (
        {"method": "tea leaves", "target": 0},
        {"method": "cam"},
        {"method": "cam", "target": 0, "layer": "0"},
    ):
        with pytest.raises(MethodError) as caught:
            cv.explain(model, VOLUME, **wrong)
        plain(caught.value)


# --- a method of another package ----------------------------------------------------------


def test_a_method_of_another_package_is_run_recorded_and_scripted(model, tree, installed, tmp_path):
    assert list(cv.methods()) == [*OWN, installed]
    request = cv.ExplainRequest(installed, "AD", power=0.5, positive=True, score="log_prob")
    check_identity(model, tree, request)
    made = cv.explain(model, VOLUME, request)
    assert made.name == "Gradient x input · AD"
    made.save(tmp_path / "map.nii.gz")
    assert Attribution.load(tmp_path / "map.nii.gz").record.request() == request
    script = made.record.script()
    assert "cv.explain(" in script
    assert "power=0.5" in script
    scope = {"volume": VOLUME, "model": model, "cv": cv}
    start, end = script.index("result = cv.explain("), script.index("result.save(")
    exec(script[start:end], scope)
    np.testing.assert_array_equal(scope["result"].data, made.data)
    keys = ResultKeys(model)
    other = request.replaced(power=2.0)
    assert keys.attribution("s", request) != keys.attribution("s", other)


def test_a_method_of_another_package_is_on_the_command_line(model, installed, tmp_path, capsys):
    net = tmp_path / "net.safetensors"
    small = cv.Model(VoxResNetGAP(), ["NC", "AD"], cv.InputSpec((9, 10, 8)), "cpu")
    cv.save_model(small, net)
    cv.write_volume(VOLUME, tmp_path / "scan.nii.gz")
    out = tmp_path / "map.nii.gz"
    command = ["explain", str(tmp_path / "scan.nii.gz"), "--model", str(net)]
    more = ["--method", installed, "--power", "2", "--positive", "-o", str(out)]
    assert main([*command, *more]) == 0, capsys.readouterr().err
    record = json.loads(out.with_name("map.json").read_text())
    assert (record["method"], record["power"], record["positive"]) == (
        "Gradient x input",
        2.0,
        True,
    )
    assert main([*command, *more, "--margin", "3", "--overwrite"]) == 2
    assert "--margin is for sensitivity" in capsys.readouterr().err


@dataclass(frozen=True)
class Taken(Method):
    key = "cam"
    title = "Another CAM"

    def run(self, *args, **how):
        return None


@dataclass(frozen=True)
class Reserved(Method):
    key = "mine"
    title = "Mine"
    engine: str = parameter("", "Engine", "Is a part of records.")

    def run(self, *args, **how):
        return None


class NotAMethod:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("test_methods_of_nowhere:Method", "No module named"),
        (Taken, "there is a method 'cam'"),
        (Reserved, "cannot be called 'engine'"),
        (NotAMethod, "not a class that inherits from Method"),
        (Method, "has to be a frozen dataclass"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_a_warning(monkeypatch, value, text):
    class Entry:
        name, value = "x", "package:Class"

        def load(self):
            if isinstance(target, str):
                return EntryPoint("x", target, registry.GROUP).load()
            return target

    target = value
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    registry._methods.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert list(cv.methods()) == OWN
        assert any(text in str(one.message) for one in said)
    finally:
        registry._methods.cache_clear()
