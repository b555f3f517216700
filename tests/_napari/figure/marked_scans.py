"""A scan and a map of known orientation, in a viewer."""

import numpy as np

from napari_cnnvis._napari.layers.maps import overlay_arguments
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.scan.volume import Volume

SHAPE = (16, 20, 12)


#: R, A and S of the patient in the viewer's world, whose axes are (-S, -A, -R)
WORLD = {"R": (0, 0, -1), "A": (0, -1, 0), "S": (-1, 0, 0)}


WORLD |= {o: tuple(-v for v in WORLD[d]) for d, o in zip("RAS", "LPI", strict=True)}


def make_scan(orientation="RAS"):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-16, -20, -18]
    data = np.zeros(SHAPE)
    data[2:-2, 2:-2, 2:-2] = 1.0
    return Volume(data, affine, "scan").reoriented(orientation)


def make_map(scan):
    """1 in a block on the left."""
    data = np.zeros(SHAPE, np.float32)
    data[3:6, 12:16, 6:9] = 1.0
    volume = Volume(data, make_scan().affine, "map").reoriented(scan.orientation)
    record = {"method": "CAM", "class_name": "atrophy", "layer": "relu4"}
    return Attribution(volume.data, volume.affine, record, scan)


def add(viewer, scan):
    """The scan's layer and its overlay, as the plugin makes them."""
    layer = viewer.add_image(*volume_to_layer(scan)[:1], **volume_to_layer(scan)[1])
    map_ = make_map(scan)
    shown = volume_to_layer(Volume(map_.data, map_.affine))[0]
    overlay = viewer.add_image(shown, **overlay_arguments(map_, layer, shown))
    return layer, overlay


def said(panel):
    return panel.form.status.text()


def coloured(pixels):
    """Share of the width and the height at which coloured pixels lie, or None."""
    rgb = pixels[..., :3].astype(int)
    rows, columns = np.nonzero(np.ptp(rgb, axis=2) > 60)
    shape = pixels.shape
    return (columns.mean() / shape[1], rows.mean() / shape[0]) if len(rows) else None
