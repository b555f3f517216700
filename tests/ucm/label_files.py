"""Label volumes on disk, and comparisons of what is read of them."""

import numpy as np
from skimage.io import imsave

ARRAYS = ("leaves", "parents", "altitudes", "levels")


def assert_equal(a, b):
    for name in ARRAYS:
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def assert_levels(levels, expected):
    assert len(levels) == len(expected)
    for level, wanted in zip(levels, expected, strict=True):
        assert level.dtype.kind in "iu"
        np.testing.assert_array_equal(level, wanted)


def write_ppm(path, levels, names="{:02d}"):
    """As the C++ of the reference: a folder a level, rows from the far end of the first axis."""
    for number, level in enumerate(levels):
        (path / names.format(number)).mkdir(parents=True)
        for k in range(level.shape[2]):
            labels = level[::-1, :, k]
            colours = np.stack([labels >> 16, labels >> 8 & 255, labels & 255], axis=-1)
            place = path / names.format(number) / f"{k + 1:05d}.ppm"
            imsave(place, colours.astype(np.uint8), check_contrast=False)
    (path / "time.txt").write_text("7")
    return path
