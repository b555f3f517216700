"""The story of a new user, step by step in a real window, with the time that each step takes.

Run with a display: ``xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/story.py``.
``tests/_napari/test_story.py`` tells the same story and checks it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QApplication

from napari_cnnvis.sample_data import sample_path


def wait_for(condition: Any, seconds: float = 120) -> None:
    """Let the window live until something is the case."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it took too long")
        QApplication.processEvents()
        time.sleep(0.005)


def story(viewer: Any, folder: Path) -> Iterator[str]:
    """Do one step after another; yields what was done."""
    viewer.open_sample("napari-cnnvis", "severe_atrophy")
    yield "open the sample scan"
    _, explain = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    explain.load_model(sample_path("voxvgg_simulated_atrophy.safetensors"))
    wait_for(lambda: explain.ready and not explain.jobs.busy)
    yield "load the network, score the scan"
    explain.run()
    wait_for(lambda: not explain.jobs.busy)
    yield "Grad-CAM of all layers"
    explain.method_form.choose_method("sensitivity")
    explain.run()
    wait_for(lambda: not explain.jobs.busy)
    yield "UCM sensitivity"
    _, inspect = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Inspect")
    wait_for(lambda: inspect.map.layer is not None)
    inspect.peaks.jump.click()
    yield "jump to the map's peak"
    _, figure = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Figure")
    figure.save_views(folder / "views.png")
    wait_for(lambda: not figure.jobs.busy)
    yield "save six views"
    figure.save_slices(folder / "slices.pdf")
    wait_for(lambda: not figure.jobs.busy)
    yield "save slices as PDF"


def main() -> None:
    """Print the table."""
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(1280, 720)
    began = last = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for step in story(viewer, Path(folder)):
            now = time.perf_counter()
            print(f"| {step} | {now - last:.1f} s |")
            last = now
    print(f"| all | {last - began:.1f} s |")
    viewer.close()


if __name__ == "__main__":
    main()
