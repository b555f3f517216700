"""Dialogs begin in the folder of the last one, and replace no file that they did not ask about."""

import pytest
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis.errors import VolumeError


@pytest.fixture
def dialogs(qtbot):
    parent = QWidget()
    qtbot.addWidget(parent)
    return FileDialogs(parent, "a test's folder")


@pytest.fixture
def answer(monkeypatch):
    """Makes a dialog answer; gives what it was asked."""

    def make(name, given):
        asked = []
        monkeypatch.setattr(QFileDialog, name, lambda *args: asked.append(args) or given)
        return asked

    return make


def test_the_folder_of_the_last_file_is_the_next_ones_first(dialogs, answer, tmp_path):
    answer("getOpenFileName", (str(tmp_path / "a.txt"), ""))
    assert dialogs.open_file("Open", "(*)") == str(tmp_path / "a.txt")
    asked = answer("getOpenFileNames", ([], ""))
    assert dialogs.open_files("Open", "(*)") == []
    assert asked[0][2] == str(tmp_path)
    again = FileDialogs(None, "a test's folder")
    assert again.folder == str(tmp_path)
    answer("getExistingDirectory", str(tmp_path / "slices"))
    assert dialogs.open_folder("Open") == str(tmp_path / "slices")
    assert dialogs.folder == str(tmp_path)
    assert dialogs.save_in("Save in") == dialogs.folder == str(tmp_path / "slices")


def test_a_dialog_that_is_cancelled_changes_nothing(dialogs, answer, tmp_path):
    dialogs.remember(tmp_path)
    answer("getSaveFileName", ("", ""))
    answer("getExistingDirectory", "")
    assert dialogs.save_file("Save", "Table (*.csv)") == ""
    assert dialogs.open_folder("Open") == dialogs.save_in("Save in") == ""
    assert dialogs.folder == str(tmp_path)


def test_the_ending_of_the_kind_is_added_but_over_no_file(dialogs, answer, tmp_path):
    answer("getSaveFileName", (str(tmp_path / "a"), "Table (*.csv)"))
    assert dialogs.save_file("Save", "Table (*.csv)") == str(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(VolumeError, match="exists already"):
        dialogs.save_file("Save", "Table (*.csv)")
