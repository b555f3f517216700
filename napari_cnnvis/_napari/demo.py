"""The demo: a sample scan, a sample network and its map, through the real window."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QThreadPool, QTimer

from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis.errors import ComputeError, VolumeError
from napari_cnnvis.sample_data import sample_path
from napari_cnnvis.writing import atomic_path

__all__ = ["show_demo", "view_in_3d"]

NETWORK = "voxresnetgap_simulated_atrophy.safetensors"
#: in world coordinates (-superior, -anterior, -right): from the patient's front left and
#: a little above, with the top of the head up
_VIEW_DIRECTION, _UP = (0.35, 0.75, -0.6), (-1.0, 0.0, 0.0)
#: milliseconds for a job to end
_PATIENCE = 30_000


def show_demo(screenshot: str | None = None, cancel: threading.Event | None = None) -> None:
    """Open the viewer with a sample scan, load a network, run CAM and show it in 3D.

    Parameters
    ----------
    screenshot : str, optional
        Render the 3D view into this PNG file and quit.
    cancel : threading.Event, optional
        Closes the viewer.

    Raises
    ------
    CnnVisError
        If something went wrong on the way, or the file cannot be written.
    """
    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    viewer.open_sample("napari-cnnvis", "severe_atrophy")
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    problems: list[str] = []

    def finish() -> None:
        view_in_3d(viewer)
        if screenshot is not None:
            try:
                save_screenshot(viewer, screenshot)
            except VolumeError as exc:
                problems.append(str(exc))
            viewer.close()

    def failed(text: str) -> None:
        problems.append(text)
        if screenshot is not None:
            viewer.close()

    cancel = threading.Event() if cancel is None else cancel

    def close_if_cancelled() -> None:
        if cancel.is_set():
            viewer.close()

    # also lets Python see signals, which it cannot while Qt waits
    watch = QTimer()
    watch.timeout.connect(close_if_cancelled)
    watch.start(200)
    panel.jobs.failed.connect(failed)
    run_when_ready(panel, finish)
    panel.load_model(sample_path(NETWORK))
    if not cancel.is_set():  # else there may be no window any more
        napari.run()
    watch.stop()
    QThreadPool.globalInstance().waitForDone(_PATIENCE)  # a job needs what Python takes down
    if problems and screenshot is not None:
        raise ComputeError(problems[0])


def run_when_ready(panel: ExplainPanel, finish: Any) -> None:
    """Run CAM once the model and its probabilities are there, then call `finish`."""

    def run() -> None:
        panel.method_form.choose_method("cam")
        panel.method_form.head_only.setChecked(True)
        panel.run()

    steps = iter([run, finish])

    def advance() -> None:
        if panel.ready and not panel.jobs.busy:
            step = next(steps, None)
            if step is not None:
                QTimer.singleShot(0, step)

    panel.jobs.finished.connect(advance)


def view_in_3d(viewer: Any) -> None:
    """Switch to 3D and look at the head from the front left."""
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera  # before 0.9
    camera.set_view_direction(_VIEW_DIRECTION, _UP)


def save_screenshot(viewer: Any, path: str) -> None:
    """Write the canvas as PNG, moved into place when complete."""
    with atomic_path(Path(path)) as temporary:
        viewer.screenshot(str(temporary), flash=False)
