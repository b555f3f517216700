"""Image layers of other readers: pyramids, axes of length one, colours, affines and units."""

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.layers.utils.stack_utils import stack_to_images

import napari_cnnvis as cv
from napari_cnnvis._napari.contributions import write_scan
from napari_cnnvis._napari.layers.maps import overlay_arguments
from napari_cnnvis._napari.layers.one_volume import (
    image_problem,
    millimetres_of_unit,
    shape_of,
    to_world,
)
from napari_cnnvis._napari.layers.place import affine_of, labels_on_grid, lies_on_grid, spacing_of
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker, is_scan
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.explain.attribution import Attribution

SHAPE = (6, 8, 7)
DATA = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def levels(data):
    return [data, data[..., ::2, ::2, ::2]]


#: one volume, however the reader gave it
LAYERS = {
    "plain": lambda **k: Image(DATA, **k),
    "c z y x": lambda **k: Image(DATA[None], **k),
    "t c z y x": lambda **k: Image(DATA[None, None], **k),
    "pyramid": lambda **k: Image(levels(DATA), multiscale=True, **k),
    "pyramid of c z y x": lambda **k: Image(levels(DATA[None]), multiscale=True, **k),
    "grey as colours": lambda **k: Image(np.stack([DATA] * 3, -1), rgb=True, **k),
    "grey with alpha": lambda **k: Image(
        np.concatenate([np.stack([DATA] * 3, -1), np.ones((*SHAPE, 1), np.float32)], -1),
        rgb=True,
        **k,
    ),
    "computed when it is asked for": lambda **k: Image(da.from_array(DATA, chunks=4), **k),
    "pyramid that is computed": lambda **k: Image(
        [da.from_array(one, chunks=4) for one in levels(DATA[None])], multiscale=True, **k
    ),
}


def volume_of(layer):
    return layer_to_volume(*snapshot(layer))


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_of_one_volume_is_a_scan(kind):
    layer = LAYERS[kind]()
    assert is_scan(layer) and image_problem(layer) == ""
    assert shape_of(layer) == SHAPE
    volume = volume_of(layer)
    np.testing.assert_array_equal(volume.data, DATA)
    assert not volume.orientation_known


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # of turned layers, napari's own
@pytest.mark.parametrize("units", ["mm", "cm", "pixel"])
@pytest.mark.parametrize("kind", LAYERS)
def test_maps_and_labels_lie_exactly_on_such_a_scan(kind, units):
    ndim = LAYERS[kind]().ndim
    first = (1.0,) * (ndim - 3)
    affine = np.eye(ndim + 1)
    affine[-4:-1, -4:-1] = TURN @ np.diag([1, 2, 0.5])
    affine[-4:-1, -1] = 3, -4, 5
    layer = LAYERS[kind](
        scale=(*first, 1.5, -2, 2.5), translate=(*first, 7, 8, 9), affine=affine, units=units
    )
    volume = volume_of(layer)
    attribution = Attribution(DATA, volume.affine, {"method": "CAM", "class_name": "a"}, volume)
    overlay = Image(attribution.data, **overlay_arguments(attribution, layer))
    for corner in ((0, 0, 0), (5, 7, 6), (1.5, 0.5, 2.25)):
        there = layer.data_to_world((*(0,) * (ndim - 3), *corner))
        np.testing.assert_allclose(overlay.data_to_world(corner), there[-3:], atol=1e-9)
    assert overlay.units == layer.units[-3:]
    np.testing.assert_allclose(to_world(overlay), to_world(layer), atol=1e-9)
    labels = Labels(np.arange(DATA.size).reshape(SHAPE), **{
        k: v for k, v in overlay_arguments(attribution, layer).items()
        if k in ("scale", "translate", "rotate", "shear", "affine", "units")
    })  # fmt: skip
    assert lies_on_grid(labels, layer)
    np.testing.assert_array_equal(labels_on_grid(labels, layer), labels.data)


# spacing and units


LENGTHS = {
    "mm": 1.0,
    "millimeter": 1.0,
    "micrometer": 1e-3,
    "um": 1e-3,
    "nm": 1e-6,
    "cm": 10.0,
    "meter": 1000.0,
    "inch": 25.4,
    "angstrom": 1e-7,
}


@pytest.mark.parametrize("unit", LENGTHS)
@pytest.mark.parametrize("kind", ["plain", "c z y x", "pyramid"])
def test_units_of_length_become_millimetres(kind, unit):
    layer = LAYERS[kind]()
    first = (1.0,) * (layer.ndim - 3)
    layer.scale = (*first, *(np.array([1.5, 2, 2.5]) / LENGTHS[unit]))
    layer.units = (*("pixel",) * len(first), unit, unit, unit)
    volume = volume_of(layer)
    np.testing.assert_allclose(volume.spacing, (1.5, 2, 2.5))
    assert volume.notes == ()


def test_each_axis_has_its_own_unit():
    layer = Image(DATA, scale=(0.2, 2000, 2), units=("cm", "um", "mm"))
    np.testing.assert_allclose(volume_of(layer).spacing, (2, 2, 2))


@pytest.mark.parametrize("unit", ["pixel", "second", "dimensionless", ""])
def test_what_is_no_length_is_taken_for_mm_and_said(unit):
    layer = Image(DATA, scale=(1, 2, 3), units=unit or None)
    volume = volume_of(layer)
    assert volume.spacing == (1, 2, 3)
    (note,) = volume.notes
    assert "1 x 2 x 3 mm" in note and "no unit of length" in note
    assert millimetres_of_unit("no such unit") is None


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("kind", ["plain", "t c z y x", "pyramid of c z y x"])
def test_the_spacing_may_be_in_the_affine_of_the_layer(kind):
    layer = LAYERS[kind](units="mm")
    affine = np.eye(layer.ndim + 1)
    affine[-4:-1, -4:-1] = TURN @ np.diag([1.5, 2, 2.5])
    layer.affine = affine
    np.testing.assert_allclose(volume_of(layer).spacing, (1.5, 2, 2.5))
    np.testing.assert_allclose(spacing_of(layer), (1.5, 2, 2.5))
    layer.scale = (*layer.scale[:-3], 2, -1, 0.5)
    np.testing.assert_allclose(volume_of(layer).spacing, (3, 2, 1.25))
    np.testing.assert_allclose(affine_of(layer), np.diag([3, 2, 1.25, 1]))


def test_saving_such_a_layer_keeps_its_spacing(tmp_path):
    for number, kind in enumerate(LAYERS):
        layer = LAYERS[kind](units="um")
        layer.scale = (*(1.0,) * (layer.ndim - 3), 1500, 2000, 2500)
        data, attributes, _ = layer.as_layer_data_tuple()
        (path,) = write_scan(str(tmp_path / f"{number}.nii.gz"), data, attributes)
        again = cv.read_volume(path)
        np.testing.assert_array_equal(again.data, DATA)
        np.testing.assert_allclose(again.spacing, (1.5, 2, 2.5))
        assert not again.orientation_known


# what is not one volume


SEVERAL = {
    "channels first": np.stack([DATA, DATA + 1]),
    "channels in the middle": np.stack([DATA, DATA + 1], axis=1),
    "channels last": np.stack([DATA, DATA + 1], axis=-1),
    "time and channels": np.stack([np.stack([DATA] * 3)] * 2),
    "one in the middle": DATA[:, None],
    "one at the end": DATA[..., None],
}


@pytest.mark.parametrize("multiscale", [False, True])
@pytest.mark.parametrize("kind", SEVERAL)
def test_other_layers_are_not_scans_and_it_is_said_why(kind, multiscale):
    data = SEVERAL[kind]
    layer = Image([data, data], multiscale=True) if multiscale else Image(data)
    layer.name = "x"
    assert not is_scan(layer)
    with pytest.raises(VolumeError) as caught:
        volume_of(layer)
    assert str(caught.value) == image_problem(layer)
    assert f"{data.ndim} dimensions" in str(caught.value)


@pytest.mark.parametrize("kind", SEVERAL)
def test_what_the_message_advises_makes_a_scan(kind):
    viewer = ViewerModel()
    layer = viewer.add_image(
        SEVERAL[kind], name="it's x", scale=np.arange(1, SEVERAL[kind].ndim + 1)
    )
    text = image_problem(layer)
    if "Split Stack" in text:
        made = stack_to_images(layer, 0)
        assert kind == "channels first" and len(made) == 2
        np.testing.assert_array_equal(volume_of(made[1]).data, DATA + 1)
        made = made[0]
    else:
        command = text.partition("console: ")[2]
        made = eval(command, {"viewer": viewer})
    assert is_scan(made)
    np.testing.assert_array_equal(volume_of(made).data, DATA)
    long = [axis for axis, n in enumerate(SEVERAL[kind].shape) if n > 3]
    np.testing.assert_allclose(made.scale, layer.scale[long])


def test_colours_say_how_to_split_them():
    coloured = np.stack([DATA, DATA / 2, DATA], -1)
    with pytest.raises(VolumeError, match="Split RGB"):
        volume_of(Image(coloured, rgb=True))


def test_flat_pictures_are_neither_scans_nor_talked_about(qtbot):
    viewer = ViewerModel()
    viewer.add_image(np.zeros((5, 6)))
    picker = LayerPicker(viewer)
    qtbot.addWidget(picker)
    assert picker.count() == 0 and "Open a scan first" in picker.hint


def test_the_list_of_scans_shows_what_cannot_be_chosen_and_why(qtbot):
    viewer = ViewerModel()
    picker = LayerPicker(viewer)
    qtbot.addWidget(picker)
    with qtbot.waitSignal(picker.layer_changed):
        viewer.add_image(SEVERAL["channels first"], name="two")
    assert picker.layer is None
    assert "'two'" in picker.hint and "Split Stack" in picker.hint
    scan = viewer.add_image(DATA, name="scan")
    assert picker.layer is scan and picker.hint == ""
    texts = [picker.itemText(n) for n in range(picker.count())]
    assert texts == ["scan", "two (not one volume)"]
    assert not picker.model().item(1).isEnabled()
    viewer.layers.remove(scan)
    assert picker.layer is None and "'two'" in picker.hint
    maps = LayerPicker(viewer, fits=lambda layer: False)
    qtbot.addWidget(maps)
    assert maps.count() == 0
