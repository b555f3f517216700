"""How smooth is a study of 500 scans, and how long does switching to a kept one take?

    xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/scans.py

Makes 500 files of 110^3 voxels (twelve different ones and links to them), keeps a prediction and a map
of each without running the network 500 times, then measures what a user does, from the click to the
drawn picture. Asked: switching < 300 ms.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import napari
import nibabel as nib
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.scans.loader import DISPLAY_AXES
from napari_cnnvis._napari.scans.panel import ScansPanel
from napari_cnnvis.cohort.keys import ResultKeys, scan_hash
from napari_cnnvis.cohort.predictions import Prediction
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.sample_data import sample_path

DIFFERENT = 12


def make_study(folder: Path, count: int) -> Path:
    """Scans with noise of their own, and their table; every tenth label is wrong."""
    rng = np.random.default_rng(0)
    for number in range(DIFFERENT):
        name = ("simulated_control", "simulated_atrophy")[number % 2]
        image = nib.load(sample_path(f"{name}.nii.gz"))
        data = np.asarray(image.dataobj, np.float32)
        data += rng.normal(0, 0.02 * data.max(), data.shape).astype(np.float32) * (data > 0)
        nib.save(nib.Nifti1Image(data, image.affine), folder / f"scan{number}.nii.gz")
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Path", "Label"])
        for number in range(count):
            os.link(folder / f"scan{number % DIFFERENT}.nii.gz", folder / f"sub-{number:03}.nii.gz")
            right = number % 2 if number % 10 else 1 - number % 2
            writer.writerow([f"sub-{number:03}.nii.gz", ("control", "atrophy")[right]])
    return folder / "metadata.csv"


def keep_results(folder: Path, model, request, store: ResultStore) -> None:
    """A prediction and a map of each of the different scans; the first map with other noise."""
    keys = ResultKeys(model)
    first = None
    rng = np.random.default_rng(1)
    for number in range(DIFFERENT):
        path = folder / f"scan{number}.nii.gz"
        volume = cv.read_volume(path).reoriented(DISPLAY_AXES, remember=True)
        if first is None:
            first = cv.grad_cam(
                model, volume, request.target, layer=request.layer, relu=request.relu
            )
        factor = rng.uniform(0.8, 1.2, volume.shape).astype(np.float32)
        attribution = replace(first, data=first.data * factor, source=volume)
        digest = scan_hash(path)
        store.put_attribution(keys.attribution(digest, request, DISPLAY_AXES), attribution)
        values = np.array([0.9, 0.1] if number % 2 == 0 else [0.1, 0.9], np.float32)
        store.put_prediction(keys.prediction(digest), Prediction(values))


def milliseconds(seconds: list[float]) -> str:
    """Median and largest."""
    return f"{1e3 * np.median(seconds):.0f} | {1e3 * max(seconds):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=500)
    parser.add_argument("--switches", type=int, default=30)
    args = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(1500, 900)
    application = QApplication.instance()

    def wait(condition) -> None:
        while not condition():
            application.processEvents()

    def drawn() -> None:
        for _ in range(3):
            application.processEvents()

    def timed(action, condition=lambda: True) -> float:
        drawn()
        start = time.perf_counter()
        action()
        wait(condition)
        drawn()
        return time.perf_counter() - start

    def rest(seconds: float = 0.5) -> None:
        end = time.perf_counter() + seconds
        wait(lambda: time.perf_counter() > end)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = make_study(folder, args.scans)
        store = ResultStore(folder / "store")
        explain = ExplainPanel(viewer)
        viewer.window.add_dock_widget(explain, name="Explain CNN")
        panel = ScansPanel(viewer, store)
        viewer.window.add_dock_widget(panel, name="Scans")
        model = cv.load_model(sample_path("voxvgg_simulated_atrophy.safetensors"), device="cpu")
        explain.use_model(model)

        def panel_idle() -> bool:
            jobs = (explain.jobs, panel.loader, panel.runs, panel.jobs)
            return not any(job.busy for job in jobs)

        wait(panel_idle)
        print("| what | median ms | largest ms |\n| --- | --- | --- |")
        rows = panel.scans.table.rows
        shown = timed(lambda: panel.open(table), lambda: panel.layer is not None)
        print(f"| open {args.scans} scans, first one drawn | {milliseconds([shown])} |")
        wait(panel_idle)
        rest(1)
        wait(panel_idle)
        keep_results(folder, model, explain.method_form.request(), store)
        start = time.perf_counter()
        panel.runs.look_up()
        wait(lambda: all(row.mapped for row in panel.scans.table.rows))
        print(
            f"| look up {args.scans} kept results | {milliseconds([time.perf_counter() - start])} |"
        )
        rows = panel.scans.table.rows
        assert len(rows) == args.scans
        view = panel.scans
        sorts = [
            timed(lambda c=c, o=o: view.view.sortByColumn(c, o))
            for c in (3, 2, 1, 0)
            for o in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder)
        ]
        view.view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        print(f"| sort | {milliseconds(sorts)} |")
        print(
            f"| tick only wrong | {milliseconds([timed(view.only_wrong.toggle) for _ in range(6)])} |"
        )
        words = ("s", "sub", "sub-1", "sub-12", "atrophy", "")
        searches = [timed(lambda w=w: view.search.setText(w)) for w in words]
        print(f"| search | {milliseconds(searches)} |")
        for dimensions in (2, 3):
            viewer.dims.ndisplay = dimensions
            rest(3)

            def on_screen() -> bool:
                scan = panel.screen.scan
                return scan.wanted.entry is rows[view.shown].entry and panel.layer.data is scan.data

            steps, jumps, turns = [], [], []
            for number in range(args.switches):
                rest()
                steps.append(timed(lambda: panel.step(1), on_screen))
                rest()
                far = (37 + 101 * number) % args.scans
                jumps.append(timed(lambda far=far: panel.show_scan(far), on_screen))
                assert panel.screen.overlay.visible
                turns.append(
                    timed(lambda: setattr(viewer.camera, "zoom", viewer.camera.zoom * 0.99))
                )
            print(f"| {dimensions}D: next scan with its map | {milliseconds(steps)} |")
            print(f"| {dimensions}D: any scan with its map, from disk | {milliseconds(jumps)} |")
            print(f"| {dimensions}D: to draw alone | {milliseconds(turns)} |")
        wait(panel_idle)
    viewer.close()


if __name__ == "__main__":
    main()
