"""A head with a marked left side, on grids of several orientations and voxel sizes."""

import nibabel as nib
import numpy as np
import pytest

from napari_cnnvis.figure.plate import draw_plate, pixels_of
from napari_cnnvis.figure.spec import FigureSpec
from napari_cnnvis.scan.volume import Volume

SHAPE = (24, 28, 20)


def marked_volumes(orientation="RAS", spacing=(2.0, 2.0, 2.0)):
    """A gray box as head, and a map that is 1 in a block on its left, front, top; in RAS."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * [12, 14, 10]
    head = np.zeros(SHAPE)
    head[3:-3, 3:-3, 3:-3] = 0.5
    head[3, 3, 3] = 1.0
    mark = np.zeros(SHAPE)
    mark[4:8, 19:24, 12:16] = 1.0
    scan = Volume(head, affine, "scan").reoriented(orientation)
    return scan, Volume(mark, affine, "map").reoriented(orientation)


@pytest.fixture
def marked():
    """Makes a scan and a map with a marked left side."""
    return marked_volumes


@pytest.fixture
def centre_of_mark():
    """Share of the width and the height at which the coloured pixels of an RGB(A) array lie."""

    def find(picture):
        rgb = picture[..., :3].astype(int)
        coloured = rgb.max(axis=2) - rgb.min(axis=2) > 40
        assert coloured.any()
        rows, columns = np.nonzero(coloured)
        return columns.mean() / picture.shape[1], rows.mean() / picture.shape[0]

    return find


#: a plate without anything coloured but the map
PLAIN = {"colour_bar": False, "scale_bar": False, "title": "", "dpi": 100, "width_mm": 90}


@pytest.fixture
def panels():
    """Pixels of each picture of a plate, from left to right and top to bottom."""

    def draw(scan, map_, **spec):
        plate = draw_plate(scan, map_, FigureSpec(**(PLAIN | spec)))
        pixels = pixels_of(plate)
        high, wide = pixels.shape[:2]
        boxes = [axes.get_position() for axes in plate.figure.axes]
        return [
            pixels[
                round((1 - box.y1) * high) : round((1 - box.y0) * high),
                round(box.x0 * wide) : round(box.x1 * wide),
            ]
            for box in boxes
        ]

    return draw


@pytest.fixture
def files(tmp_path):
    """A scan and a map as files."""

    def write(orientation="LPI"):
        paths = []
        for volume in marked_volumes(orientation):
            path = tmp_path / f"{volume.name}.nii.gz"
            nib.save(nib.Nifti1Image(volume.data, volume.affine), path)
            paths.append(path)
        return paths

    return write
