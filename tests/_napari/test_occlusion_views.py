"""What the panel shows of a kept sensitivity or box run, without another run."""

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.baseline_picker import BaselinePicker
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.regions import labels_arguments
from napari_cnnvis._napari.layers.scans import spatial_state


@pytest.fixture
def panel(qtbot, opened, viewer):
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    panel = opened(ExplainPanel)
    data = np.random.default_rng(0).random((14, 15, 16)).astype(np.float32)
    data[:3] = 0
    viewer.add_image(data, name="scan")
    panel.use_model(cv.Model(net, ["control", "patient"]))
    qtbot.waitUntil(lambda: panel.ready and not panel.jobs.busy, timeout=60_000)
    panel.method_form.choose_class(1)
    panel.method_form.choose_method("sensitivity")
    panel.method_form.field("finest").setValue(12)
    return panel


def run(qtbot, panel):
    panel.run()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)
    return panel.viewer.layers[-1]


def choose(box, value):
    box.setCurrentIndex(box.findData(value))


def kept(panel):
    return panel.session.result.outcome.regions


def test_status_says_how_regions_were_scored(qtbot, panel):
    run(qtbot, panel)
    assert "Only what a region can change was computed" in panel.status.text()
    assert "differ by" in panel.status.text()


def test_class_score_quantity_and_join_are_shown_at_once(qtbot, panel, monkeypatch):
    overlay = run(qtbot, panel)
    monkeypatch.setattr(panel.jobs, "start", lambda *a: pytest.fail("another run"))
    form = panel.method_form
    form.choose_class(0)
    np.testing.assert_array_equal(overlay.data, kept(panel).map(0))
    assert "control" in overlay.name
    choose(form.field("score"), "logit")
    choose(form.field("quantity"), "probability")
    np.testing.assert_array_equal(overlay.data, kept(panel).map(0, "probability", "logit"))
    choose(form.field("join"), "strongest")
    np.testing.assert_array_equal(
        overlay.data, kept(panel).map(0, "probability", "logit", join="strongest")
    )
    assert len(panel.viewer.layers) == 2


def test_several_baselines_give_their_mean_each_map_and_the_disagreement(qtbot, panel):
    form = panel.method_form
    assert not form.form.isRowVisible(form.field("shown"))
    form.field("baseline").number.setChecked(True)
    overlay = run(qtbot, panel)
    assert kept(panel).baselines == ("blur", "0")
    assert form.form.isRowVisible(form.field("shown"))
    np.testing.assert_array_equal(overlay.data, kept(panel).map(1))
    choose(form.field("shown"), "0")
    np.testing.assert_array_equal(overlay.data, kept(panel).map(1, baseline="0"))
    choose(form.field("shown"), "disagreement")
    np.testing.assert_array_equal(overlay.data, kept(panel).disagreement(1))
    assert overlay.name.endswith("disagreement")
    assert np.ptp(overlay.data) > 0


def test_one_baseline_offers_no_choice_of_maps(qtbot, panel):
    panel.method_form.field("baseline").number.setChecked(True)
    run(qtbot, panel)
    panel.method_form.field("baseline").number.setChecked(False)
    run(qtbot, panel)
    assert not panel.method_form.form.isRowVisible(panel.method_form.field("shown"))


def test_another_method_leaves_the_shown_map_alone(qtbot, panel):
    overlay = run(qtbot, panel)
    before = overlay.data.copy()
    panel.method_form.choose_method("box")
    panel.method_form.choose_class(0)
    np.testing.assert_array_equal(overlay.data, before)


def test_boxes_in_the_panel_are_the_librarys(qtbot, panel):
    panel.method_form.choose_method("box")
    panel.method_form.field("size").setValue(5)
    panel.method_form.field("stride").setValue(4)
    overlay = run(qtbot, panel)
    volume = cv.Volume(panel.scan.layer.data)
    expected = cv.box_sensitivity(panel.session.model, volume, 1, size=5, stride=4)
    np.testing.assert_allclose(overlay.data, expected.data, atol=1e-6)
    panel.method_form.choose_class(0)
    np.testing.assert_array_equal(overlay.data, kept(panel).map(0))


def test_no_baseline_is_one_plain_sentence(panel):
    panel.method_form.field("baseline").named["blur"].setChecked(False)
    panel.run()
    assert not panel.jobs.busy
    assert "Choose at least one baseline" in panel.status.text()


def test_time_limit_and_precision_reach_the_request(panel):
    form = panel.method_form
    form.choose_method("sensitivity")
    assert form.request().how.time_budget is None
    form.field("time_budget").setValue(30)
    form.field("precision").setCurrentIndex(1)
    assert form.request().how.time_budget == 30
    assert form.request().how.precision == "half"


def test_a_scan_as_baseline(qtbot):
    viewer = ViewerModel()
    picker = BaselinePicker(viewer)
    qtbot.addWidget(picker)
    assert picker.baselines() == ("blur",)
    picker.scan.setChecked(True)
    assert picker.baselines() == ("blur",)
    viewer.add_image(np.ones((4, 5, 6)), name="average", scale=(2, 2, 2))
    volume = picker.baselines()[1]
    assert volume.name == "average"
    np.testing.assert_allclose(np.abs(np.diag(volume.affine)), [2, 2, 2, 1])


# --- which supervoxels ------------------------------------------------------------


def offered(panel):
    picker = panel.method_form.hierarchy
    return [picker.itemText(i) for i in range(picker.count())]


def test_supervoxels_can_be_taken_from_labels_layers_of_the_scans_shape(panel):
    shape = panel.scan.layer.data.shape
    assert offered(panel) == ["built from the scan"]
    atlas = panel.viewer.add_labels(np.ones(shape, int), name="atlas")
    panel.viewer.add_labels(np.ones((2, 3, 4), int), name="elsewhere")
    assert offered(panel) == ["built from the scan", "atlas"]
    assert panel.method_form.hierarchy.layer is None
    panel.method_form.hierarchy.choose(atlas)
    atlas.name = "renamed"
    assert panel.method_form.hierarchy.currentText() == "renamed"
    panel.viewer.layers.remove(atlas)
    assert panel.method_form.hierarchy.layer is None
    panel.viewer.layers.remove(panel.scan.layer)
    assert offered(panel) == ["built from the scan"]
    panel.viewer.add_image(np.ones((2, 3, 4)))
    assert offered(panel) == ["built from the scan", "elsewhere"]


def test_an_atlas_is_scored_region_by_region(qtbot, panel):
    shape = panel.scan.layer.data.shape
    atlas = np.zeros(shape, int)
    atlas[4:, :7] = 3
    atlas[4:, 7:, :8] = 8
    atlas[4:, 7:, 8:] = 9
    panel.method_form.hierarchy.choose(panel.viewer.add_labels(atlas))
    overlay = run(qtbot, panel)
    hierarchy = cv.Hierarchy.from_levels([atlas], background=0)
    volume = cv.Volume(panel.scan.layer.data)
    expected = cv.sensitivity(panel.session.model, volume, hierarchy, 1)
    np.testing.assert_allclose(overlay.data, expected.data, atol=1e-6)
    assert (overlay.data[atlas == 0] == 0).all()
    assert expected.provenance["levels"] == map_of(overlay).provenance["levels"] == [3]


def test_a_layers_hierarchy_is_used_with_all_its_levels_and_not_taken_for_the_scans(qtbot, panel):
    hierarchy = cv.build_hierarchy(cv.Volume(panel.scan.layer.data))
    arguments = labels_arguments(hierarchy, spatial_state(panel.scan.layer), "supervoxels")
    layer = panel.viewer.add_labels(hierarchy.cut(3), **arguments)
    panel.method_form.hierarchy.choose(layer)
    overlay = run(qtbot, panel)
    assert kept(panel).hierarchy is hierarchy
    assert map_of(overlay).scores is kept(panel)
    finest = panel.method_form.field("finest").value()
    assert map_of(overlay).provenance["levels"][0] == min(finest, hierarchy.n_leaves)
    panel.method_form.hierarchy.setCurrentIndex(0)
    run(qtbot, panel)
    own = kept(panel).hierarchy
    assert own is not hierarchy
    run(qtbot, panel)
    assert kept(panel).hierarchy is own


def test_both_panels_share_a_hierarchy_and_its_drops(qtbot, panel):
    from napari_cnnvis._napari.supervoxels.panel import SupervoxelPanel

    regions = SupervoxelPanel(panel.viewer)
    qtbot.addWidget(regions)
    regions.build()
    qtbot.waitUntil(lambda: not regions.jobs.busy, timeout=60_000)
    labels = panel.viewer.layers[-1]
    panel.method_form.hierarchy.choose(labels)
    run(qtbot, panel)
    assert kept(panel).hierarchy is regions.hierarchy
    regions.slider.box.setValue(int(panel.method_form.field("finest").value()))
    drops = kept(panel).values(1)[labels.features["index"] - 1]
    np.testing.assert_array_equal(labels.features["drop"], drops)
    assert np.isfinite(drops).all()
    panel.method_form.choose_class(0)
    drops = kept(panel).values(0)[labels.features["index"] - 1]
    np.testing.assert_array_equal(labels.features["drop"], drops)
