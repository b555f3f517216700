"""How long does the window stall while a job runs? Gaps between the ticks of a 5 ms timer.

    xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/responsiveness.py

Prints a Markdown table. Gaps include drawing: with a software renderer a new overlay's first
picture is part of them.
"""

from __future__ import annotations

import time

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_cnnvis.sample_data import sample_path


class Ticker:
    """Notes the time of every tick of a timer on the main thread."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self._timer = QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(lambda: self.ticks.append(time.perf_counter()))
        self._timer.start()

    def gaps(self) -> np.ndarray:
        """Milliseconds between ticks since the last call."""
        gaps = 1000 * np.diff(self.ticks)
        self.ticks = self.ticks[-1:]
        return gaps


def wait(condition, seconds=600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        QApplication.processEvents()
        time.sleep(0.001)
        if time.monotonic() > end:
            raise TimeoutError


def main() -> None:
    viewer = napari.Viewer()
    viewer.open_sample("napari-cnnvis", "atrophy")
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    wait(lambda: True)
    ticker = Ticker()
    end = time.monotonic() + 3
    wait(lambda: time.monotonic() > end)
    rows = [("nothing runs", ticker.gaps())]

    panel.load_model(sample_path("voxvgg_simulated_atrophy.safetensors"))
    wait(lambda: panel.ready and not panel.jobs.busy)
    rows.append(("loading the network (and torch), scoring the scan", ticker.gaps()))

    form = panel.method_form
    for method, regions in (("grad-cam", 0), ("sensitivity", 50)):
        form.method.setCurrentIndex(form.method.findData(method))
        if regions:
            form.field("finest").setValue(regions)
        panel.run()
        wait(lambda: not panel.jobs.busy)
        end = time.monotonic() + 0.5
        wait(lambda end=end: time.monotonic() > end)
        rows.append((f"{form.method.currentText()}, with its overlay", ticker.gaps()))

    print("| while ... | median gap, ms | 99th percentile | longest | gaps over 100 ms |")
    print("|---|---|---|---|---|")
    for name, gaps in rows:
        print(
            f"| {name} | {np.median(gaps):.0f} | {np.percentile(gaps, 99):.0f} | "
            f"{gaps.max():.0f} | {(gaps > 100).sum()} of {len(gaps)} |"
        )
    viewer.close()


if __name__ == "__main__":
    main()
