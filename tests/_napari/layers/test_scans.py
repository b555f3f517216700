"""Scans as layers: geometry, chirality, reading and writing through napari's contributions."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image

from napari_cnnvis._napari.contributions import get_reader, write_scan
from napari_cnnvis._napari.layers.maps import overlay_arguments
from napari_cnnvis._napari.layers.scans import (
    ScanLayer,
    layer_to_volume,
    scan_of,
    set_scan,
    snapshot,
    volume_to_layer,
)
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Volume


def oblique(degrees=20.0):
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 1.2, 2.0])
    affine[:3, 3] = [-20, 10, 5]
    return affine


def affine_of(orientation, spacing=(1.0, 1.5, 2.0), origin=(-11.0, 7.0, 3.0)):
    ornt = nib.orientations.axcodes2ornt(orientation)
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign * spacing[axis]
    affine[:, 3] = [*origin, 1]
    return affine


AFFINES = {o: affine_of(o) for o in ("LAS", "RAS", "LPI", "PSR")} | {"oblique": oblique()}


def write_nifti(path, affine, shape=(5, 6, 7)):
    data = np.random.default_rng(0).random(shape, dtype=np.float32)
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    return data


@pytest.mark.parametrize("name", AFFINES)
def test_scan_opened_and_saved_by_napari_is_voxel_exact(tmp_path, name):
    path = tmp_path / "scan.nii.gz"
    data = write_nifti(path, AFFINES[name])
    layer_data, attributes, kind = get_reader(str(path))(str(path))[0]
    assert kind == "image"
    (written,) = write_scan(str(tmp_path / "out.nii.gz"), layer_data, attributes)
    image = nib.load(written)
    np.testing.assert_array_equal(np.asarray(image.dataobj), data)
    np.testing.assert_allclose(image.affine, AFFINES[name], atol=1e-5)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1


@pytest.mark.parametrize("name", ["LAS", "RAS", "LPI", "PSR"])
def test_world_coordinates_are_minus_millimetres_superior_anterior_right(name):
    volume = Volume(np.zeros((5, 6, 7)), AFFINES[name])
    data, attributes = volume_to_layer(volume)
    layer = Image(data, **attributes)
    affine = scan_of(attributes).affine
    for index in ([0, 0, 0], [1, 2, 3], [4, 0, 2]):
        right, anterior, superior = (affine @ [*index, 1])[:3]
        np.testing.assert_allclose(
            layer.data_to_world(index), [-superior, -anterior, -right], atol=1e-6
        )


def test_oblique_scan_keeps_its_centre_and_spacing():
    volume = Volume(np.zeros((5, 6, 7)), AFFINES["oblique"])
    data, attributes = volume_to_layer(volume)
    layer = Image(data, **attributes)
    middle = (np.array(volume.shape) - 1) / 2
    right, anterior, superior = (volume.affine @ [*middle, 1])[:3]
    centre = layer.data_to_world((np.array(data.shape) - 1) / 2)
    np.testing.assert_allclose(centre, [-superior, -anterior, -right], atol=1e-6)
    np.testing.assert_allclose(np.sort(np.abs(layer.scale)), [1.0, 1.2, 2.0], atol=1e-6)


@pytest.mark.parametrize("name", AFFINES)
def test_left_stays_left_in_3d(name):
    data, attributes = volume_to_layer(Volume(np.zeros((5, 6, 7)), AFFINES[name]))
    layer = Image(data, **attributes)
    to_ras = scan_of(attributes).affine[:3, :3]
    to_world = np.linalg.inv(layer._transforms[1:].simplified.inverse.linear_matrix)
    assert np.sign(np.linalg.det(to_ras)) * np.sign(np.linalg.det(to_world)) == 1


finite = st.floats(-3, 3, allow_nan=False).map(lambda x: round(x, 3))
positive = st.floats(0.2, 4).map(lambda x: round(x, 3))
triple = st.tuples(finite, finite, finite)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
@settings(max_examples=40, deadline=None)
@given(
    scale=st.tuples(positive, positive, positive),
    translate=triple,
    rotate=triple.map(lambda t: tuple(20 * x for x in t)),
    shear=triple.map(lambda t: tuple(x / 6 for x in t)),
    extra=st.tuples(positive, triple),
    units=st.sampled_from(["mm", "micrometer", "pixel"]),
)
def test_overlay_lies_exactly_on_its_scan(scale, translate, rotate, shear, extra, units):
    affine = np.diag([extra[0], 1.0, 1.3, 1.0])
    affine[:3, 3] = extra[1]
    scan = Image(
        np.ones((4, 3, 5), np.float32),
        scale=scale,
        translate=translate,
        rotate=rotate,
        shear=shear,
        affine=affine,
        units=(units,) * 3,
        axis_labels=("a", "b", "c"),
    )
    volume = layer_to_volume(scan.data, {"name": "scan", "scale": scan.scale})
    attribution = Attribution(
        np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32),
        volume.affine,
        {"method": "CAM", "class_name": "a"},
        volume,
    )
    overlay = Image(attribution.data, **overlay_arguments(attribution, scan))
    for corner in ([0, 0, 0], [3, 2, 4], [1.5, 0.5, 2.25]):
        np.testing.assert_allclose(
            overlay.data_to_world(corner), scan.data_to_world(corner), atol=1e-9
        )
    assert overlay.units == scan.units
    assert overlay.axis_labels == scan.axis_labels


def test_layer_of_another_reader_keeps_its_axes_and_spacing():
    data = np.random.default_rng(0).random((3, 4, 5))
    volume = layer_to_volume(data, {"name": "other", "scale": (2.0, -1.0, 3.0)})
    assert volume.spacing == (2.0, 1.0, 3.0)
    assert not volume.orientation_known
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))


def test_snapshot_of_a_layer_is_a_copy():
    data = np.zeros((2, 2, 2), np.float32)
    volume = layer_to_volume(*snapshot(Image(data)))
    data[:] = 7
    assert volume.data.max() == 0


@pytest.mark.parametrize(
    ("data", "attributes", "word"),
    [
        (np.zeros((2, 3, 4, 5)), {}, "4 dimensions"),
        (np.zeros((3, 4)), {}, "2 dimensions"),
        (np.arange(72.0).reshape(2, 3, 4, 3), {"rgb": True}, "colour"),
        ([np.zeros((4, 4)), np.zeros((2, 2))], {"multiscale": True}, "2 dimensions"),
    ],
)
def test_layer_that_is_no_scan_is_refused(data, attributes, word):
    with pytest.raises(VolumeError, match=word):
        layer_to_volume(data, attributes)


def test_other_files_are_left_to_other_readers():
    assert get_reader("picture.png") is None
    assert get_reader(["a.nii", "b.png"]) is None
    assert get_reader(["a.nii", "b.mgz"]) is not None


def test_scan_of_a_layer_is_what_its_volume_knew(tmp_path):
    write_nifti(tmp_path / "scan.nii.gz", AFFINES["LPI"])
    volume = read_volume(tmp_path / "scan.nii.gz")
    data, attributes = volume_to_layer(volume)
    layer = Image(data, **attributes)
    for known in (scan_of(layer), scan_of(attributes)):
        assert known.source == volume.source
        assert known.stored_orientation == "LPI"
        assert known.orientation_known
        assert known.header == volume.header
        assert known.notes == volume.notes
        np.testing.assert_array_equal(known.affine, volume.reoriented("SAR").affine)


@pytest.mark.parametrize(
    "damaged",
    [
        *({"affine": None}, {"affine": np.eye(3)}, {"affine": np.zeros((4, 4))}),
        *({"affine": np.full((4, 4), np.nan)}, {"affine": [["a"] * 4] * 4}),
        *({"orientation_known": "yes"}, {"stored_orientation": 3}, {"stored_orientation": "LLL"}),
        *({"source": None}, {"header": {}}, {"notes": "doubtful"}, {"notes": 3}),
    ],
    ids=str,
)
def test_damaged_facts_are_not_taken(damaged):
    layer = Image(np.ones((2, 2, 2)))
    known = ScanLayer(np.eye(4), True, "LAS", "scan.nii")
    set_scan(layer, known)
    np.testing.assert_array_equal(scan_of(layer).affine, np.eye(4))
    set_scan(layer, replace(known, **damaged))
    assert scan_of(layer) is None
    assert layer_to_volume(*snapshot(layer)).source == ""
