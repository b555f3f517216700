"""The story of a new user, from the sample scan to the figure, in a real window."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_cnnvis._napari.layers.maps import map_of

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(
        os.environ.get("QT_QPA_PLATFORM") == "offscreen", reason="needs a display with OpenGL"
    ),
]


def test_from_the_sample_scan_to_the_figure(make_napari_viewer, tmp_path):
    path = Path(__file__).parents[1] / "benchmarks" / "story.py"
    spec = importlib.util.spec_from_file_location("story", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 720)
    steps = list(script.story(viewer, tmp_path))
    assert len(steps) == 7
    maps = [layer for layer in viewer.layers if map_of(layer) is not None]
    methods = {map_of(layer).provenance["method"] for layer in maps}
    assert methods == {"Grad-CAM", "UCM sensitivity"}
    scan = viewer.layers[0]
    for layer in maps:
        for corner in ((0, 0, 0), (50, 60, 70)):
            np.testing.assert_allclose(layer.data_to_world(corner), scan.data_to_world(corner))
    plate = np.asarray(Image.open(tmp_path / "views.png").convert("RGB")).astype(int)
    assert ((plate[..., 0] - plate[..., 2]) > 80).sum() > 200  # warm colours
    assert (tmp_path / "slices.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "views.json").exists()
