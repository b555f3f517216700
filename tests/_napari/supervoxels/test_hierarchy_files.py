"""Hierarchies from files and from other layers."""

import numpy as np

import napari_cnnvis as cv
from napari_cnnvis._napari.supervoxels import hierarchy_files

from ..waiting import settle
from .region_steps import labels_of, make_scan, same_partition


def test_saved_hierarchy_opens_again_and_is_the_librarys(qtbot, built, tmp_path):
    path = tmp_path / "scan.npz"
    before = built.hierarchy
    built.save(str(path))
    settle(qtbot, built)
    assert built.status.text() == "Saved scan.npz."
    loaded = cv.Hierarchy.load(path)
    volume = make_scan()  # with the axes of its file, not of the layer
    assert loaded.leaves.shape == volume.shape != before.leaves.shape
    means = loaded.node_means(volume.data)
    np.testing.assert_allclose(means, built.view.facts.mean, rtol=1e-5)
    built.open([str(path)])
    settle(qtbot, built)
    assert built.hierarchy is not before
    np.testing.assert_array_equal(built.hierarchy.leaves, before.leaves)
    np.testing.assert_array_equal(built.hierarchy.altitudes, before.altitudes)


def test_levels_saved_as_nifti_lie_where_the_scan_does_and_open_again(qtbot, built, tmp_path):
    import nibabel as nib

    path = tmp_path / "levels.nii.gz"
    before = built.hierarchy
    built.save(str(path))
    settle(qtbot, built)
    image = nib.load(path)
    np.testing.assert_allclose(image.affine, make_scan().affine, atol=1e-5)
    flipped = image.as_reoriented(nib.orientations.axcodes2ornt("RPI"))
    nib.save(flipped, tmp_path / "flipped.nii.gz")
    for name in ("levels.nii.gz", "flipped.nii.gz"):
        built.open([str(tmp_path / name)])
        settle(qtbot, built)
        assert built.status.text() == ""
        for count in {len(np.unique(level)) for level in before.levels}:
            built.slider.box.setValue(count)
            assert same_partition(labels_of(built).data, before.cut(count))


def test_several_label_files_are_one_hierarchy(qtbot, panel, scan, tmp_path):
    volume = make_scan()
    fine = (np.arange(volume.data.size).reshape(volume.shape) % volume.shape[2]) // 4 + 1
    np.save(tmp_path / "fine.npy", fine)
    np.save(tmp_path / "coarse.npy", (fine + 2) // 3)
    panel.open([str(tmp_path / name) for name in ("coarse.npy", "fine.npy")])
    settle(qtbot, panel)
    assert list(panel.slider.box.counts) == [2, 6]
    panel.slider.box.setValue(2)
    assert len(labels_of(panel).features) == 2


def test_labels_of_another_grid_are_refused_in_words(qtbot, panel, scan, tmp_path):
    import nibabel as nib

    volume = make_scan()
    np.save(tmp_path / "small.npy", np.ones((4, 5, 6), np.int32))
    moved = volume.affine.copy()
    moved[:3, 3] += 30
    ones = np.ones(volume.shape, np.int16)
    nib.save(nib.Nifti1Image(ones, moved), tmp_path / "moved.nii.gz")
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    for name, word in (
        ("small.npy", "4 × 5 × 6"),
        ("moved.nii.gz", "away from the scan"),
        ("broken.npz", "broken.npz"),
    ):
        panel.open([str(tmp_path / name)])
        settle(qtbot, panel)
        assert word in panel.status.text()
        assert "Please report" not in panel.status.text()
    assert len(panel.viewer.layers) == 1


def test_layers_of_other_readers_keep_their_axes(tmp_path):
    data = np.random.default_rng(0).integers(1, 9, (4, 5, 6))
    np.save(tmp_path / "labels.npy", data)
    scan = cv.Volume(np.zeros((4, 5, 6)), np.diag([2, 3, 4, 1]), orientation_known=False)
    hierarchy = hierarchy_files.read_hierarchy(
        [str(tmp_path / "labels.npy")], scan, scan.orientation
    )
    assert same_partition(hierarchy.leaves, data)


def test_any_labels_layer_of_the_scans_shape_can_be_taken(qtbot, panel, scan):
    atlas = np.zeros(scan.data.shape, int)
    atlas[3:9, 3:9, 3:9] = 4
    atlas[9:15, 3:9, 3:9] = 17
    panel.viewer.add_labels(atlas, name="atlas")
    panel.viewer.add_labels(np.ones((3, 3, 3), int), name="elsewhere")
    menu = panel.from_layer.menu()
    menu.aboutToShow.emit()
    assert [action.text() for action in menu.actions()] == ["atlas"]
    menu.actions()[0].trigger()
    settle(qtbot, panel)
    assert panel.hierarchy.n_leaves == 2
    assert same_partition(labels_of(panel).data, atlas)
    assert not panel.slider.isEnabled()
    assert "2 regions on one level" in panel.said.text()


def test_menu_of_labels_layers_says_when_there_is_none(panel, scan):
    menu = panel.from_layer.menu()
    menu.aboutToShow.emit()
    assert [action.isEnabled() for action in menu.actions()] == [False]
