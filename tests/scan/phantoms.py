"""Scans with every kind of background that people have, each with the true mask of its head.

A brain (the template) with its skull and scalp around it; noise of a magnitude image, halos of
resampling, rings, offsets, beds, coils, cuts.
"""

from functools import cache

import numpy as np
from scipy import ndimage

from napari_cnnvis.sample_data import sample_path
from napari_cnnvis.scan.files import read_volume

__all__ = ["BACKGROUNDS", "brain", "head"]

#: millimetres of a voxel
SPACING = 3.0


@cache
def brain():
    """The skull-stripped template on 3 mm, and its mask; smooth at the edge, as resampled scans are."""
    data = read_volume(sample_path("mni152_t1_2mm.nii.gz")).data
    mask = ndimage.binary_fill_holes(data > 0)
    data, mask = (
        ndimage.zoom(a.astype(np.float32), 2 / SPACING, order=1) for a in (255 * data / data.max(), mask)
    )  # fmt: skip
    return np.pad(data, 4), np.pad(mask, 4) > 0.5


@cache
def head():
    """Brain, fluid, skull and scalp without noise, and the mask of all of it."""
    data, mask = brain()
    depth = ndimage.distance_transform_edt(~mask) * SPACING
    values = np.where(mask, data, 0)
    for near, far, value in ((0, 4, 40), (4, 9, 12), (9, 16, 210)):
        values = np.where(~mask & (depth > near) & (depth <= far), value, values)
    return ndimage.gaussian_filter(values, 0.4).astype(np.float32), depth <= 16


def noisy(values, sigma, seed=0):
    """A magnitude image: Rician noise."""
    rng = np.random.default_rng(seed)
    real, imaginary = (rng.normal(0, sigma, values.shape) for _ in range(2))
    return np.hypot(values + real, imaginary).astype(np.float32)


def z_scored(values, inside=None):
    some = values if inside is None else values[inside]
    return ((values - some.mean()) / some.std()).astype(np.float32)


def exact():
    data, mask = brain()
    return np.where(mask, data, 0), mask


def ringing():
    data, mask = exact()
    spectrum = np.fft.fftshift(np.fft.fftn(data))
    kept = np.zeros(data.shape, bool)
    kept[tuple(slice(n // 2 - int(0.33 * n), n // 2 + int(0.33 * n)) for n in data.shape)] = True
    return np.fft.ifftn(np.fft.ifftshift(spectrum * kept)).real.astype(np.float32), mask


def halo(order):
    data, mask = exact()
    fine = ndimage.affine_transform(data, [1.13] * 3, [-1.7] * 3, order=order)
    true = ndimage.affine_transform(mask.astype(np.float32), [1.13] * 3, [-1.7] * 3, order=1)
    return fine, true > 0.5


def faint_halo():
    """As nilearn's template: much of the background between 0 and 2 % of the maximum."""
    data, mask = exact()
    rng = np.random.default_rng(0)
    near = ndimage.distance_transform_edt(~mask) < 9
    faint = np.abs(rng.normal(0, 0.008, data.shape)) * data.max()
    return np.where(mask, data, np.where(near, faint, 0)).astype(np.float32), mask


def inside_z_score():
    """Standardised inside the brain, with a background of exactly 0 in the middle of the values."""
    data, mask = exact()
    return np.where(mask, z_scored(data, mask), 0).astype(np.float32), mask


def background_largest():
    data, mask = exact()
    return np.where(mask, data, 4095).astype(np.float32), mask


def with_bias():
    values, mask = head()
    field = 0.4 + 1.2 * np.linspace(0, 1, len(values))[:, None, None]
    return noisy(values * field, 5), mask


def defaced():
    values, mask = head()
    data, face = noisy(values, 5), np.zeros_like(mask)
    face[:, int(0.7 * mask.shape[1]) :, : int(0.45 * mask.shape[2])] = True
    return np.where(face, 0, data).astype(np.float32), mask & ~face


def bed(touching):
    values, mask = head()
    where = np.flatnonzero(mask.any((0, 2)))[0] if touching else 1
    plate = np.zeros_like(mask)
    plate[:, max(where - 1, 0) : where + 1] = True
    return noisy(np.where(plate & ~mask, 110, values), 5), mask


def coil():
    values, mask = head()
    _, y, z = np.indices(mask.shape)
    radius = np.hypot(y - mask.shape[1] / 2, z - mask.shape[2] / 2)
    ring = np.abs(radius - 0.49 * min(mask.shape[1:])) < 1
    return noisy(np.where(ring & ~mask, 70, values), 5), mask


def cut():
    values, mask = head()
    part = np.s_[:, :, int(0.3 * mask.shape[2]) : int(0.7 * mask.shape[2])]
    return noisy(values, 6)[part], mask[part]


def tight():
    data, mask = exact()
    (box,) = ndimage.find_objects(mask.astype(int))
    return data[box], mask[box]


def of_head(change):
    values, mask = head()
    return change(noisy(values, 7)).astype(np.float32), mask


#: what the scan is called, and what makes scan and true mask
BACKGROUNDS = {
    "skull-stripped": exact,
    "skull-stripped in noisy air": lambda: (noisy(exact()[0], 6), exact()[1]),
    "skull-stripped, resampled (linear)": lambda: halo(1),
    "skull-stripped, resampled (cubic)": lambda: halo(3),
    "skull-stripped, faint halo": faint_halo,
    "skull-stripped, rings": ringing,
    "skull-stripped, z-scored": lambda: (z_scored(exact()[0]), exact()[1]),
    "skull-stripped, z-scored inside": inside_z_score,
    "skull-stripped, inverted": lambda: (255 - exact()[0], exact()[1]),
    "skull-stripped, background largest": background_largest,
    "skull-stripped, cropped to the brain": tight,
    "head": head,
    "head, little noise": lambda: (noisy(head()[0], 2), head()[1]),
    "head, much noise": lambda: (noisy(head()[0], 15), head()[1]),
    "head, whole numbers": lambda: of_head(np.round),
    "head, z-scored": lambda: of_head(z_scored),
    "head, inverted": lambda: of_head(lambda x: 300 - x),
    "head, negative": lambda: of_head(lambda x: -x),
    "head, offset": lambda: of_head(lambda x: x - 1024),
    "head, tiny values": lambda: of_head(lambda x: 1e-6 * x),
    "head, one huge voxel": lambda: of_head(lambda x: np.where(x == x.max(), 1e5, x)),
    "head, uneven coil": with_bias,
    "head, defaced": defaced,
    "head on a bed": lambda: bed(False),
    "head touching a bed": lambda: bed(True),
    "head in a coil": coil,
    "head, cut above and below": cut,
    "head, thick slices": lambda: (noisy(head()[0], 6)[:, :, ::2], head()[1][:, :, ::2]),
}
