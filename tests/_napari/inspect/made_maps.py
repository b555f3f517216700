"""Maps with known clusters and peaks, as the panel "Explain CNN" adds them."""

from functools import partial
from types import SimpleNamespace

import numpy as np

import napari_cnnvis as cv
from napari_cnnvis._napari.layers.maps import overlay_arguments
from napari_cnnvis._napari.layers.scans import scan_of
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.layers.layer_maps import nearest_cells
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.volume import Volume

SHAPE = (20, 22, 24)


OBLIQUE = np.array(
    [[-1.0, 0.1, 0.05, 30], [0.12, 1.5, -0.2, -40], [-0.02, 0.2, 2.0, 5], [0, 0, 0, 1]]
)


def make_volume(orientation="RAS", affine=OBLIQUE):
    data = np.zeros(SHAPE[::-1], np.float32)  # R, A, S; layers are S, A, R
    return Volume(data, affine, "scan").reoriented(orientation)


def attribution(data, volume, regions=None, cells=None, **more):
    entries = {"method": "Grad-CAM", "class_name": "patient", "layer": "relu4", **more}
    return Attribution(
        data.astype(np.float32), volume.affine, entries, volume, regions=regions, **cells or {}
    )


def add_map(viewer, scan, data, native=None, regions=None, **more):
    """An overlay as the panel "Explain CNN" adds it; `data` is on the scan layer's grid."""
    made = attribution(data, Volume(data), regions, native, **more)
    return viewer.add_image(made.data, **overlay_arguments(made, scan))


def two_blobs():
    """A large part of 60 voxels and a small one of 8, stronger."""
    data = np.zeros(SHAPE)
    data[2:5, 3:7, 4:9] = 0.5
    data[3, 5, 6] = 0.6
    data[12:14, 15:17, 18:20] = 0.8
    data[13, 16, 19] = 0.9
    return data.astype(np.float32)


def click(viewer, panel, layer, voxel):
    panel._on_click(
        SimpleNamespace(
            position=layer.data_to_world(voxel), dims_displayed=[1, 2], view_direction=None
        )
    )


def ucm_map(viewer, scan):
    rng = np.random.default_rng(0)
    fine = np.arange(64).reshape(4, 4, 4).repeat(5, 0).repeat(6, 1).repeat(6, 2)
    fine = fine[tuple(slice(n) for n in SHAPE)]
    hierarchy = cv.Hierarchy.from_levels([fine, fine // 2, fine // 16, fine // 32])
    logits = rng.normal(size=(2, hierarchy.n_nodes, 2)).astype(np.float32)
    logits[:, 5::7] = np.nan
    scores = RegionScores(
        np.array([0.3, -0.2], np.float32),
        logits,
        ("blur", "0"),
        Outputs("softmax", 2),
        hierarchy,
        hierarchy.levels,
    )
    provenance = {"method": "UCM sensitivity", "layer": None, "class": 1, "score": "probability"}
    return add_map(viewer, scan, scores.map(1), regions=scores, **provenance), scores


def native_of(scan, shape, spec=None, alignment="stretch", grid=None, seed=0):
    """Cells of a network's layer of this shape on a scan's layer, as an attribution has them."""
    known = scan_of(scan)
    volume = Volume(scan.data, known.affine, stored_orientation=known.stored_orientation)
    conformed = conform(volume, spec or InputSpec())
    cells = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    where = grid if alignment == "receptive field" else None
    near = nearest_cells(cells, conformed.data.shape, where)
    cell_grid = {
        "affine": conformed.affine,
        "shape": conformed.data.shape,
        "grid": grid,
        "alignment": alignment,
    }
    nearest = partial(conformed.back, near, 0)
    return {"native": cells, "nearest": nearest, "cell_grid": cell_grid}


def measured(qtbot, panel):
    panel.regions.measure_button.click()
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    return panel.regions.rows


def add_atlas(viewer, scan, **more):
    labels = np.zeros(SHAPE, np.int32)
    labels[1:8, 2:9, 3:10], labels[11:15, 14:18, 17:22], labels[0, 0] = 1, 5, 9
    features = {"index": [5, 1], "name": ["amygdala", "thalamus, left"]}
    place = {key: getattr(scan, key) for key in ("scale", "translate", "units", "axis_labels")}
    return viewer.add_labels(labels, **place, name="atlas", features=features, **more)
