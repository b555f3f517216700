"""A record is data: whatever stands in it, it is checked, and never becomes code."""

import ast
import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.errors import CnnVisError, MethodError
from napari_cnnvis.explain.record import Record, read_record
from napari_cnnvis.explain.run import explain
from napari_cnnvis.reading import source_file
from napari_cnnvis.writing import companion

SCAN = cv.Volume(
    np.random.default_rng(0).random((9, 10, 8)).astype(np.float32),
    np.diag([2, 2, 2, 1.0]),
    "scan",
    source="/data/sub#1/scan.nii#3",
)


def made(method, **parameters):
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2))
    )
    model = cv.Model(net, ["NC", "AD"], cv.InputSpec((9, 10, 8)), "cpu", path="/nets/net.pt")
    found = explain(model, SCAN, cv.ExplainRequest(method, "AD", **parameters))
    return found


def records():
    runs = [made("cam"), made("grad-cam", relu=False, score="log_prob")]
    runs.append(made("box", size=3, stride=4, baseline=[0, "blur"], smooth=2.0))
    tree = made("sensitivity", finest=4, baseline=["border", SCAN], margin=1.0)
    view = cv.remap(
        tree, "NC", baseline="disagreement", level_weights=[1.0] * len(tree.regions.levels)
    )
    return [json.loads(json.dumps(run.provenance)) for run in (*runs, tree, view)]


RECORDS = records()
CALLS = {
    *("read_volume", "load_model", "InputSpec", "build_hierarchy", "read", "load", "reoriented"),
    *("cam", "grad_cam", "sensitivity", "box_sensitivity", "remap", "save", "with_head"),
}
#: what would be code if it were written as it is
CODE = [
    "1); import os; os.mkdir('canary')  #",
    '"""\nimport os\nos.mkdir("canary")\n"""',
    "__import__('os').system('touch canary')",
    "\n\nimport os\n",
    "')\nimport os\nprint('",
]


def places(value, path=()):
    """Paths to everything in a record, keys of dictionaries included."""
    yield path
    if not isinstance(value, dict | list):
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from places(inner, (*path, key))


def with_value(record, path, value):
    changed = copy.deepcopy(record)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return changed


def with_key(record, path, key):
    """Another name for the last part of a path."""
    changed = copy.deepcopy(record)
    inside = changed
    for part in path[:-1]:
        inside = inside[part]
    inside[key] = inside.pop(path[-1])
    return changed


def assert_harmless(record):
    """The script, if there is one, is Python that calls nothing but what a script calls."""
    try:
        script = Record.read(record).script()
        Record.read(record).request()
    except MethodError as exc:
        assert len(str(exc)) < 600
        return
    tree = ast.parse(script)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Attribute)
            assert node.func.attr in CALLS
        elif isinstance(node, ast.Import | ast.ImportFrom):
            assert ast.unparse(node) == "import napari_cnnvis as cv"
        elif isinstance(node, ast.Name):
            assert node.id in {"cv", "volume", "model", "hierarchy", "result"}
        else:
            assert not isinstance(node, ast.Lambda | ast.BinOp | ast.Subscript | ast.FunctionDef)


@pytest.mark.parametrize("record", RECORDS)
def test_records_of_runs_are_good_as_they_are(record):
    found = Record.read(record)
    assert json.loads(found.to_json()) == record
    assert_harmless(record)
    ast.parse(Record.read(record).script())


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("record", RECORDS)
def test_code_in_any_place_never_becomes_code(record, code):
    for path in places(record):
        if path:
            assert_harmless(with_value(record, path, code))
            assert_harmless(with_value(record, path, [code]))
            assert_harmless(with_value(record, path, {code: code}))
        if path and isinstance(path[-1], str):
            assert_harmless(with_key(record, path, code))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(RECORDS), st.data(), json_values)
def test_any_value_in_any_place_is_used_rightly_or_refused(record, data, value):
    path = data.draw(st.sampled_from([p for p in places(record) if p]))
    assert_harmless(with_value(record, path, value))


@given(json_values)
def test_any_json_is_no_record_or_is_refused(value):
    assume(not (isinstance(value, dict) and "method" in value))
    with pytest.raises(MethodError):
        Record.read(value)


@pytest.mark.parametrize("part", ["class_name", "scan", "model"])
def test_a_record_without_a_part_says_which(plain, part):
    record = {k: v for k, v in RECORDS[0].items() if k != part}
    with pytest.raises(MethodError) as caught:
        Record.read(record).script()
    assert f"does not say its {part.replace('_', ' ')}" in plain(caught.value)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("relu", "yes"),
        ("alignment", "left"),
        ("baseline", "blur"),
        ("smooth", -1),
        ("smooth", float("nan")),
        ("size", 0),
        ("level_counts", ["300"]),
        ("versions", {"torch": 2}),
        ("model", {"input": {"shape": "9"}}),
        ("model", {"input": {"colour": 1}}),
        ("model", {"output": "tea"}),
        ("scan", {"axes": "__import__('os')"}),
        ("hierarchy", {"boundary": "gradient", "counts": "print()"}),
        ("notes", "x" * 5_000),
        ("engine", {"text": "x" * 5_000}),
        ("more", [[[[[[[[[[[]]]]]]]]]]]),
    ],
)
def test_what_no_run_writes_is_refused_with_a_sentence(plain, part, value):
    with pytest.raises(MethodError) as caught:
        Record.read({**RECORDS[1], part: value})
    text = plain(caught.value)
    assert f"'{part}" in text
    assert len(text) < 300


def test_a_map_with_a_changed_record_is_refused_by_everything_that_reads_it(plain, tmp_path):
    found = made("grad-cam")
    found.save(tmp_path / "map.nii.gz")
    record = json.loads((tmp_path / "map.json").read_text())
    record["model"]["input"] = {"shape": "a b c"}
    (tmp_path / "map.json").write_text(json.dumps(record))
    from napari_cnnvis.figure.files import provenance_beside

    for read in (cv.Attribution.load, read_record, provenance_beside):
        with pytest.raises(CnnVisError) as caught:
            read(tmp_path / "map.nii.gz")
        assert "was changed or damaged" in plain(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"a"', '{"RepetitionTime": 2}', "[" * 10_000])
def test_json_of_something_else_is_no_record(tmp_path, text):
    (tmp_path / "scan.json").write_text(text)
    assert read_record(tmp_path / "scan.nii.gz") is None
    assert read_record(tmp_path / "other.nii.gz") is None


@pytest.mark.parametrize(
    ("name", "side"),
    [("map.nii.gz", "map.json"), ("map.nii", "map.json"), ("a.b.mgz", "a.b.json")],
)
def test_where_a_record_lies(tmp_path, name, side):
    assert companion(tmp_path / name) == tmp_path / side


def test_a_hash_in_a_folders_name_is_no_volume_of_a_4d_file():
    assert source_file("/data/sub#1/scan.nii") == ("/data/sub#1/scan.nii", None)
    assert source_file("/data/sub#1/scan.nii#3") == ("/data/sub#1/scan.nii", 3)
    assert source_file("scan.nii#-3") == ("scan.nii#-3", None)
    assert source_file("") == ("", None)
    assert "cv.read_volume('/data/sub#1/scan.nii', index=3)" in Record.read(RECORDS[0]).script()
