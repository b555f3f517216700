"""A scan of blocks, and what a user does with it in the panel "Supervoxels"."""

from types import SimpleNamespace

import numpy as np

import napari_cnnvis as cv

SPACING = (1.0, 1.5, 2.0)


SHAPE = (20, 22, 24)


def make_scan(name="scan", seed=0):
    """A head of blocks, stored as LAS with unequal voxel sides."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(100, 900, [n // 4 + 1 for n in SHAPE])
    data = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)[tuple(slice(n) for n in SHAPE)]
    data = data + rng.normal(0, 15, SHAPE)
    for axis in range(3):
        np.moveaxis(data, axis, 0)[:2] = 0
    affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1])
    affine[:3, 3] = [9, -20, 5]
    return cv.Volume(data, affine, name)


def labels_of(panel):
    return panel.viewer.layers[-1]


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def click(viewer, voxel, layer, *, to=(0, 0), button=1, **how):
    """Press on a voxel, move by some pixels, release, as the canvas tells a viewer's callbacks."""
    event = SimpleNamespace(
        button=button,
        modifiers=(),
        type="mouse_press",
        pos=(100, 100),
        position=layer.data_to_world(voxel),
        dims_displayed=[1, 2],
        view_direction=None,
    )
    vars(event).update(how)
    listening = [callback(viewer, event) for callback in viewer.mouse_drag_callbacks]
    listening = [one for one in listening if hasattr(one, "send")]
    for pos, kind in (((100, 100), ""), (to, "mouse_move"), (to, "mouse_release")):
        if kind == "mouse_move" and to == (0, 0):
            continue
        event.type = kind or event.type
        event.pos = (100 + pos[0], 100 + pos[1]) if kind else pos
        for one in listening:
            next(one, None)


def inside(hierarchy):
    """Some voxel that belongs to a region."""
    where = np.argwhere(hierarchy.leaves > 0)
    return tuple(int(i) for i in where[len(where) // 2])
