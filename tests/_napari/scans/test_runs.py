"""Predictions of all scans, and runs that end otherwise than they should."""

import pytest
from qtpy.QtCore import Qt

from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.scans.scan_table import MARK, NAME, PREDICTION
from napari_cnnvis.cohort import run

from .study_steps import column, idle, open_study, run_on_all, show, write_scan

# --- predictions ---------------------------------------------------------------------------


def test_predictions_marks_and_the_filter(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel, with_maps=False)
    assert column(panel, MARK) == ["✓", "✓", "✓", "✓", "✗", "✗", ""]
    assert column(panel, PREDICTION)[:2][0].startswith("control ")
    assert "4 of 6 right (67%)" in panel.counts.text()
    assert "6 scans predicted, 1 failed" in panel.status.text()
    show(qtbot, panel, 1)
    panel.scans.only_wrong.setChecked(True)
    assert column(panel, NAME) == ["s4", "s5"]
    assert panel.layer.name == "s1"  # a filter shows no other scan
    panel.scans.next.click()
    qtbot.waitUntil(lambda: panel.layer.name in ("s4", "s5"), timeout=10_000)
    panel.scans.only_wrong.setChecked(False)
    panel.scans.search.setText("s1")
    assert column(panel, NAME) == ["s1"]
    panel.scans.search.setText("ad > control")
    panel.scans.search.clear()
    panel.scans.view.sortByColumn(MARK, Qt.SortOrder.AscendingOrder)
    assert column(panel, MARK) == ["✗", "✗", "✓", "✓", "✓", "✓", ""]


def test_the_panel_explain_cnn_knows_what_is_shown(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel, with_maps=False)
    for number in (1, 0, 3):
        show(qtbot, panel, number)
        said = dict(model.described(model.predict(layer_to_volume(*snapshot(panel.layer)))))
        text = panel.explain.network.recognised.text()
        assert f"AD <b>{said['AD']}</b>" in text
    assert not panel.explain.jobs.busy


def test_a_shown_scan_is_predicted_without_being_asked(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    show(qtbot, panel, 1)
    rows = panel.scans.table.rows
    qtbot.waitUntil(lambda: rows[0].right and rows[1].right, timeout=10_000)
    assert rows[2].prediction is None


def test_another_network_starts_anew(qtbot, open_panel, study, model):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    panel.explain.use_model(model.with_classes(["CN", "MCI"]))
    idle(qtbot, panel)
    rows = panel.scans.table.rows
    assert all(row.prediction is None and not row.mapped for row in rows[1:])
    panel.explain.use_model(model)
    idle(qtbot, panel)
    assert all(row.mapped for row in rows[:6])


# --- runs that end otherwise ------------------------------------------------------------------


def test_a_cancelled_run_keeps_what_it_has(qtbot, open_panel, tmp_path, model):
    for number in range(12):
        write_scan(tmp_path / "s" / f"{number}.nii", number)
    panel = open_panel(model)
    open_study(qtbot, panel, tmp_path / "s")
    panel.runs.outcome.connect(
        lambda number, outcome, *_: panel.cancel_button.click() if outcome.mapped else None
    )
    run_on_all(qtbot, panel)
    mapped = sum(row.mapped for row in panel.scans.table.rows)
    assert 0 < mapped < 12
    assert panel.status.text().startswith("Cancelled: 12 scans predicted")
    assert panel.run_button.isEnabled()
    assert not panel.bar.isVisibleTo(panel)


def test_bad_scans_say_why_and_the_others_are_done(qtbot, open_panel, study, model):
    bad = study.parent / "s2.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-200])
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    run_on_all(qtbot, panel)
    rows = panel.scans.table.rows
    assert [row.mapped for row in rows] == [True, True, False, True, True, True, False]
    assert "s2.nii.gz is damaged or incomplete" in rows[2].problem
    assert rows[2].status == "⚠ failed"
    panel.runs.look_up()
    idle(qtbot, panel)
    assert "s2.nii.gz is damaged or incomplete" in rows[2].problem
    assert rows[2].status == "⚠ failed"


@pytest.mark.parametrize("with_maps", [True, False])
def test_an_unexpected_error_in_one_scan_is_said_and_the_others_are_done(
    qtbot, open_panel, study, model, monkeypatch, with_maps
):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    name = "explain" if with_maps else "read_volume"
    real = getattr(run, name)

    def stumbles(given, *args, **kwargs):
        scan = args[0] if with_maps else given
        if "s2" in str(getattr(scan, "name", scan)):
            raise KeyError("axes")
        return real(given, *args, **kwargs)

    monkeypatch.setattr(run, name, stumbles)
    run_on_all(qtbot, panel, with_maps=with_maps)
    rows = panel.scans.table.rows
    others = [row for number, row in enumerate(rows) if number not in (2, 6)]
    assert all(row.mapped == with_maps and row.prediction is not None for row in others)
    assert "Something unexpected went wrong" in rows[2].problem
    assert "Traceback" not in rows[2].problem
    assert rows[2].status == "⚠ failed"
    assert "2 failed" in panel.status.text()


def test_a_full_disk_is_said(qtbot, open_panel, study, model, store):
    panel = open_panel(model)
    open_study(qtbot, panel, study)
    store.folder = study  # a file
    run_on_all(qtbot, panel)
    assert "Results cannot be kept in" in panel.status.text()
    assert panel.run_button.isEnabled()
