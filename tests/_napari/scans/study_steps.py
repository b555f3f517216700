"""Scans on disk, and what a user does with them in the panel "Scans"."""

import nibabel as nib
import numpy as np

import napari_cnnvis as cv
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot

SHAPE = (10, 11, 12)


def write_scan(path, seed=0, shape=SHAPE, spacing=2.0, factor=1.0, level=0.0, air=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).random(shape).astype(np.float32) * factor + level
    affine = np.diag([-spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [10.0 + seed, -8, 3]
    data[:air] = 0
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def idle(qtbot, panel):
    parts = [panel.jobs, panel.loader, panel.runs, panel.session.jobs]

    def is_idle():
        return not any(part.busy for part in parts) and not panel.session.asked.settling

    qtbot.waitUntil(is_idle, timeout=30_000)
    qtbot.wait(1)
    qtbot.waitUntil(is_idle, timeout=30_000)


def open_study(qtbot, panel, path):
    panel.open(path)
    qtbot.waitUntil(lambda: panel.layer is not None, timeout=30_000)
    idle(qtbot, panel)


def show(qtbot, panel, number):
    panel.show_scan(number)
    entry = panel._entries[number]
    qtbot.waitUntil(lambda: panel.screen.scan.wanted.entry is entry, timeout=30_000)
    idle(qtbot, panel)


def run_on_all(qtbot, panel, **how):
    panel.run(**how)
    assert panel.runs.running, panel.status.text()
    qtbot.waitUntil(lambda: not panel.runs.running, timeout=60_000)
    idle(qtbot, panel)


def column(panel, number):
    rows = panel.scans.filter
    return [rows.index(row, number).data() for row in range(rows.rowCount())]


def expected_map(panel, **how):
    """The map that the panel Explain CNN would make of the shown layer."""
    volume = layer_to_volume(*snapshot(panel.layer))
    how = {"layer": panel.explain.method_form.layer.current} | how
    target = panel.explain.method_form.target.currentIndex()
    return cv.grad_cam(panel.explain.network.model, volume, target, **how).data
