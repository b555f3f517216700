"""Movies that turn about the scan."""

import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as Picture

from napari_cnnvis._napari.figure import turntable
from napari_cnnvis._napari.figure.camera import CameraState, camera_of

from .marked_scans import WORLD, said


class FakeAnimation:
    """Stands for napari-animation's."""

    made = None

    def __init__(self, viewer):
        self.viewer, self.frames, self.steps = viewer, [], []
        FakeAnimation.made = self

    def capture_keyframe(self, steps):
        self.frames.append(np.array(camera_of(self.viewer).view_direction))
        self.steps.append(steps)

    def animate(self, path, **how):
        with open(path, "w") as file:
            file.write("movie")


@pytest.fixture
def fake_canvas(monkeypatch):
    """Pixels that say where the camera looks to, for viewers without a window."""

    def pixels(viewer, background, width=None):
        shade = np.rint(127 + 127 * np.array(camera_of(viewer).view_direction)).astype(np.uint8)
        return np.tile(np.r_[shade, np.uint8(255)], (4, 5, 1)), 1.0

    monkeypatch.setattr(turntable, "canvas_pixels", pixels)


def test_turntable_goes_once_around_the_long_axis_and_back(qtbot, loaded, tmp_path, fake_canvas):
    loaded.look_from("anterior")
    before = CameraState.of(loaded.viewer)
    loaded.save_turntable(tmp_path / "frames", frames=4)
    assert loaded.turntable.busy
    assert not loaded.form.buttons["turntable"].isEnabled()
    qtbot.waitUntil(lambda: not loaded.turntable.busy, timeout=20_000)
    frames = sorted((tmp_path / "frames").glob("*.png"))
    seen = [np.asarray(Picture.open(frame))[0, 0, :3] / 127.0 - 1 for frame in frames]
    expected = [WORLD["P"], WORLD["L"], WORLD["A"], WORLD["R"]]
    np.testing.assert_allclose(np.abs(np.array(seen)), np.abs(expected), atol=0.01)
    np.testing.assert_allclose(seen[0], -seen[2], atol=0.02)
    assert CameraState.of(loaded.viewer) == before
    assert said(loaded) == "Saved frames."
    loaded.save_turntable(tmp_path / "frames", frames=4)
    assert "already contains files" in said(loaded)


def test_turntable_as_gif_and_stopped(qtbot, loaded, tmp_path, fake_canvas):
    loaded.look_from("left")
    loaded.save_turntable(tmp_path / "turn.gif", frames=5)
    qtbot.waitUntil(lambda: not loaded.turntable.busy, timeout=20_000)
    with Picture.open(tmp_path / "turn.gif") as movie:
        assert movie.n_frames == 5
    loaded.save_turntable(tmp_path / "second.gif", frames=500)
    loaded.form.cancel.click()
    assert not loaded.turntable.busy
    assert said(loaded) == "Stopped."
    assert not (tmp_path / "second.gif").exists()


def test_movies_are_made_by_napari_animation(loaded, tmp_path, monkeypatch):
    module = ModuleType("napari_animation")
    module.Animation = FakeAnimation
    monkeypatch.setitem(sys.modules, "napari_animation", module)
    loaded.look_from("anterior")
    loaded.save_turntable(tmp_path / "turn.mp4", frames=72)
    assert (tmp_path / "turn.mp4").exists()
    frames = FakeAnimation.made.frames
    assert sum(FakeAnimation.made.steps[1:]) == 72
    np.testing.assert_allclose(frames[0], frames[-1], atol=1e-6)
    np.testing.assert_allclose(frames[0], -frames[4], atol=1e-6)
    np.testing.assert_allclose(np.array(frames) @ WORLD["S"], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "word"), [("a.mp4", "pip install napari-animation"), ("a.txt", "use .mp4")]
)
def test_movies_that_cannot_be_made_are_refused(loaded, tmp_path, monkeypatch, name, word):
    monkeypatch.setitem(sys.modules, "napari_animation", None)
    loaded.look_from("anterior")
    loaded.save_turntable(tmp_path / name)
    assert word in said(loaded)
    assert not loaded.turntable.busy
