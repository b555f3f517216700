"""Pictures of the canvas."""

import numpy as np

from napari_cnnvis._napari.figure.capture import _without_background


def test_opacity_is_worked_out_of_black_and_white():
    colour, alpha = np.array([200.0, 100.0, 50.0]), np.array([0.0, 0.5, 1.0])
    black = (colour * alpha[:, None])[None]
    white = black + 255 * (1 - alpha)[None, :, None]
    found = _without_background(black, white)[0]
    np.testing.assert_allclose(found[:, 3], [0, 128, 255], atol=1)
    np.testing.assert_allclose(found[1:, :3], [colour, colour], atol=1)
