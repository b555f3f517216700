"""Directions of view, voxels at millimetres."""

import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.figure.geometry import VIEWS, is_oblique, slice_views, voxel_at
from napari_cnnvis.scan.volume import Volume


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [
        ("left", "A", "P"),
        ("right", "P", "A"),
        ("anterior", "R", "L"),
        ("posterior", "L", "R"),
        ("superior", "L", "R"),
        ("inferior", "R", "L"),
    ],
)
def test_what_lies_on_the_sides_of_a_view(name, left, right):
    assert (VIEWS[name].left, VIEWS[name].right) == (left, right)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_lays_the_nearest_top_left_voxel_first(name):
    view = VIEWS[name]
    shape = (3, 4, 5)
    corner = np.unravel_index(view.laid_out(np.arange(60).reshape(shape))[0, 0, 0], shape)
    # nearest is where one comes from
    comes_from = view.vector(view.up) + view.vector(view.left) - view.vector(view.forward)
    np.testing.assert_array_equal(corner, np.where(comes_from > 0, np.array(shape) - 1, 0))


def test_slices_are_looked_at_from_the_feet_or_from_the_top():
    assert slice_views("radiological")["axial"].right == "L"
    assert slice_views("radiological")["coronal"].right == "L"
    assert slice_views("neurological")["axial"].right == "R"
    assert slice_views("neurological")["coronal"].right == "R"
    for side in ("radiological", "neurological"):
        assert slice_views(side)["axial"].up == "A"
        assert slice_views(side)["sagittal"].up == slice_views(side)["coronal"].up == "S"


def test_voxel_at_a_position_is_the_one_that_holds_it():
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = [-10, -20, -30]
    volume = Volume(np.zeros((20, 20, 12)), affine)
    assert voxel_at(volume, (-10, -20, -30)) == (0, 0, 0)
    assert voxel_at(volume, (2.4, 0.9, 2.4)) == (12, 10, 6)
    assert voxel_at(volume, (2.6, 1.1, 2.6)) == (13, 11, 7)


def test_voxel_at_a_position_outside_is_refused(plain):
    with pytest.raises(VolumeError, match="reaches over x 0 to 9") as caught:
        voxel_at(Volume(np.zeros((10, 10, 10))), (50, 0, 0))
    plain(caught.value, "50, 0, 0 mm")


def test_a_turned_volume_is_oblique():
    a = np.deg2rad(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    assert is_oblique(turn @ np.diag([1, 2, 3, 1]))
    assert not is_oblique(np.diag([-1, 2, 3, 1]))
