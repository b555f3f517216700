"""What layers keep for this plugin: copied and saved with them, beside what others keep there."""

import ast
import copy
import json
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

import napari_cnnvis
from napari_cnnvis._napari.layers.maps import (
    keep_trust,
    keep_whole,
    map_of,
    mark_as_map,
    overlay_arguments,
)
from napari_cnnvis._napari.layers.metadata import Entry, as_aside, is_aside
from napari_cnnvis._napari.layers.regions import labels_arguments, regions_of
from napari_cnnvis._napari.layers.scans import scan_of, set_scan, spatial_state, volume_to_layer
from napari_cnnvis._napari.widgets.layer_picker import is_scan
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.hierarchy import Hierarchy

FOLDER = Path(napari_cnnvis.__file__).parent / "_napari"
SHAPE = (4, 5, 6)


def make_scan(name="scan"):
    data, arguments = volume_to_layer(Volume(np.ones(SHAPE), np.diag([1, 2, 3, 1]), name))
    return Image(data, **arguments)


def made_of(scan, method="Grad-CAM"):
    values = np.random.default_rng(0).random(scan.data.shape, np.float32)
    record = {"method": method, "class_name": "a", "scan": {"name": scan.name}}
    return Attribution(values, np.eye(4), record, Volume(scan.data))


def make_map(scan):
    made = made_of(scan)
    return Image(made.data, **overlay_arguments(made, scan))


def make_labels(scan):
    labels = np.arange(scan.data.size).reshape(scan.data.shape) // 10 + 1
    hierarchy = Hierarchy.from_levels([labels, labels // 3])
    return Labels(hierarchy.cut(6), **labels_arguments(hierarchy, spatial_state(scan), "labels"))


# --- only one module knows the keys -----------------------------------------------------


def is_signal(node):
    """Whether it is ``events.metadata``, by which a layer tells of a change."""
    value = node.value
    return "events" in (getattr(value, "attr", ""), getattr(value, "id", ""))


@pytest.mark.parametrize(
    "path", sorted(FOLDER.rglob("*.py")), ids=lambda p: p.relative_to(FOLDER).as_posix()
)
def test_metadata_is_touched_in_one_module_only(path):
    if path == FOLDER / "layers" / "metadata.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "metadata":
            assert is_signal(node), f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in {e.value for e in Entry}, f"line {node.lineno}"
            if path.parent.name != "layers":
                assert node.value != "metadata", f"line {node.lineno}"


def test_entries_are_read_and_written_by_the_typed_layers_only():
    using = {
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*.py")
        if "Entry" in {getattr(node, "id", "") for node in ast.walk(ast.parse(path.read_text()))}
    }
    assert using == {f"layers/{name}.py" for name in ("maps", "metadata", "regions", "scans")}


def test_all_keys_begin_with_the_name_of_the_plugin():
    assert all(entry.value.startswith("napari-cnnvis ") for entry in Entry)
    for layer in (make_scan(), make_map(make_scan()), make_labels(make_scan())):
        assert layer.metadata
        assert set(layer.metadata) <= {entry.value for entry in Entry}


# --- what others keep -------------------------------------------------------------------


def test_entries_of_the_user_survive_every_writer():
    scan = make_scan()
    layer = make_map(scan)
    own = {"site": [1, 2], "napari_cnnvis": 3}
    layer.metadata = {**layer.metadata, **own}
    told = []
    layer.events.metadata.connect(lambda event: told.append(event))
    keep_whole(layer, np.ones(layer.data.shape))
    keep_whole(layer, None)
    mark_as_map(layer, made_of(scan, "CAM"))
    set_scan(layer, scan_of(make_scan("other")))
    set_scan(layer, None)
    assert len(told) == 5
    keep_trust(layer, None)
    assert len(told) == 5
    assert {key: layer.metadata[key] for key in own} == own
    assert map_of(layer).provenance["method"] == "CAM"
    assert scan_of(layer) is None
    assert set(layer.metadata) == {*own, Entry.MAP.value}


def test_a_new_layer_takes_the_scan_but_nothing_else_from_the_one_it_lies_on():
    scan = make_scan()
    scan.metadata["site"] = 1
    layer = make_map(scan)
    assert set(spatial_state(layer)["metadata"]) == {Entry.SCAN.value}
    np.testing.assert_array_equal(scan_of(layer).affine, scan_of(scan).affine)
    assert set(spatial_state(Image(scan.data))["metadata"]) == set()


def test_layers_beside_the_users_are_neither_scans_nor_regions():
    scan = make_scan()
    data, arguments, kind = scan.as_layer_data_tuple()
    preview = Layer.create(data, as_aside(arguments), kind)
    assert is_aside(preview)
    assert is_scan(scan)
    assert not is_aside(scan)
    assert not is_scan(preview)
    marks = Labels(np.ones(SHAPE, int), **as_aside(spatial_state(scan)))
    assert regions_of(marks) is None


# --- copies -----------------------------------------------------------------------------


def as_napari_duplicates(layer):
    data, state, kind = layer.as_layer_data_tuple()
    return Layer.create(copy.deepcopy(data), state, kind)


def as_another_session_loads_it(layer):
    data, state, kind = layer.as_layer_data_tuple()
    return Layer.create(data, {**state, "metadata": copy.deepcopy(state["metadata"])}, kind)


@pytest.mark.parametrize("again", [as_napari_duplicates, as_another_session_loads_it])
def test_typed_values_come_through_copies(again):
    scan = make_scan()
    layer = make_map(scan)
    labels = make_labels(scan)
    scan.metadata["site"] = 1
    other = again(scan)
    np.testing.assert_array_equal(scan_of(other).affine, scan_of(scan).affine)
    assert scan_of(other).stored_orientation == scan_of(scan).stored_orientation
    assert other.metadata["site"] == 1
    assert is_scan(other)
    assert map_of(again(layer)).provenance == map_of(layer).provenance
    np.testing.assert_array_equal(map_of(again(layer)).values, map_of(layer).values)
    found = regions_of(again(labels)).hierarchy
    np.testing.assert_array_equal(found.leaves, regions_of(labels).hierarchy.leaves)


def test_a_copy_and_the_layer_are_marked_each_by_itself():
    scan = make_scan()
    layer = make_map(scan)
    other = as_napari_duplicates(layer)
    mark_as_map(other, made_of(scan, "CAM"))
    keep_whole(other, np.ones(layer.data.shape))
    assert map_of(layer).provenance["method"] == "Grad-CAM"
    assert map_of(layer).values is layer.data


def test_what_a_program_wrote_as_json_is_read_as_far_as_it_is_the_same():
    scan = make_scan()
    written = json.dumps(scan.metadata, default=lambda value: value.tolist())
    scan.metadata = json.loads(written)
    np.testing.assert_array_equal(scan_of(scan).affine, np.diag([1, 2, 3, 1])[:, [2, 1, 0, 3]])


@pytest.mark.parametrize("entry", Entry)
@pytest.mark.parametrize("value", [3, "x", [], {}, {"affine": 3}, np.ones(3), {"provenance": []}])
def test_damaged_metadata_is_no_error(entry, value):
    for layer in (make_scan(), make_map(make_scan()), make_labels(make_scan())):
        layer.metadata[entry.value] = value
        found = scan_of(layer), map_of(layer), regions_of(layer), is_scan(layer), is_aside(layer)
        if entry is Entry.SCAN:
            assert found[0] is None
        if entry is Entry.MAP:
            assert found[1] is None
        if entry is Entry.TRUST and found[1] is not None:
            assert found[1].trust is None
        if entry is Entry.WHOLE_MAP and found[1] is not None:
            assert found[1].values is layer.data
        if entry is Entry.REGIONS and isinstance(layer, Labels):
            assert found[2].hierarchy is None


def test_no_layer_and_layers_of_others_are_nothing_of_ours():
    for layer in (None, Image(np.ones(SHAPE))):
        assert scan_of(layer) is None
        assert map_of(layer) is None
        assert regions_of(layer) is None


def test_a_map_made_into_labels_is_no_map_any_more():
    layer = make_map(make_scan())
    labels = Labels((layer.data > 0.5).astype(int), metadata=layer.metadata)
    assert map_of(labels) is None
    assert regions_of(labels).hierarchy is None
