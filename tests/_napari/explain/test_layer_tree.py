import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_cnnvis._napari.explain.layer_tree import LayerTree
from napari_cnnvis.models.layers import TargetLayer

NAMES = ["stem", "block1.conv", "block1", "block2.conv", "block2.0.act", "head.conv"]


@pytest.fixture
def tree(qtbot):
    tree = LayerTree()
    qtbot.addWidget(tree)
    tree.resize(500, 30)
    tree.show()
    tree.show_layers([TargetLayer(n, 4, (9, 8, 7), None) for n in NAMES], "block2.0.act")
    return tree


def listed(tree):
    """Names of the layers that the tree shows, with the parts they lie in."""
    model, found = tree.view.model(), []

    def walk(parent):
        for row in range(model.rowCount(parent)):
            if tree.view.isRowHidden(row, parent):
                continue
            index = model.index(row, 0, parent)
            found.append(index.data(Qt.ItemDataRole.UserRole))
            walk(index)

    walk(tree.view.rootIndex())
    return [name for name in found if name]


def test_the_recommended_layer_is_chosen_and_marked(tree):
    assert tree.current == "block2.0.act"
    assert tree.text() == "block2.0.act  (4 × 9 × 8 × 7) ★"
    assert tree.names() == NAMES


def test_layers_are_nested_as_in_the_network(tree):
    assert sorted(listed(tree)) == sorted(NAMES)
    root = tree.view.model()
    tops = [root.index(row, 0).data() for row in range(root.rowCount())]
    assert tops == ["stem", "block1", "block2", "head"]
    inside = root.index(0, 0, root.index(1, 0))
    assert inside.data() == "conv"
    assert root.index(0, 1, root.index(1, 0)).data() == "4 × 9 × 8 × 7"


def test_search_finds_by_any_part_of_the_name(tree):
    tree.open()
    QTest.keyClicks(tree.search, "CONV")
    assert sorted(n for n in listed(tree) if "conv" in n) == sorted(n for n in NAMES if "conv" in n)
    assert "stem" not in listed(tree)
    tree.search.clear()
    assert sorted(listed(tree)) == sorted(NAMES)


def test_enter_takes_the_first_that_was_found(qtbot, tree):
    tree.open()
    QTest.keyClicks(tree.search, "block2")
    with qtbot.waitSignal(tree.changed) as caught:
        QTest.keyClick(tree.search, Qt.Key.Key_Return)
    assert caught.args == ["block2.conv"]
    assert tree.current == "block2.conv"
    assert not tree.popup.isVisible()


def test_a_part_that_is_no_layer_cannot_be_chosen(tree):
    tree.open()
    part = tree.view.model().index(2, 0)
    assert part.data() == "block2"
    tree.view.clicked.emit(part)
    assert tree.current == "block2.0.act"


def test_choosing_by_name(qtbot, tree):
    with qtbot.waitSignal(tree.changed):
        tree.choose("stem")
    assert tree.text().startswith("stem")
    with qtbot.assertNotEmitted(tree.changed):
        tree.choose("stem")
        tree.choose("nowhere")
    assert tree.current == "stem"


def test_a_choice_stays_for_other_shapes_and_a_recommendation_is_followed(tree):
    smaller = [TargetLayer(n, 4, (3, 3, 3), None) for n in NAMES]
    tree.show_layers(smaller, "stem")
    assert tree.current == "stem"
    tree.choose("head.conv")
    tree.show_layers(smaller, "block1")
    assert tree.current == "head.conv"
    tree.show_layers(smaller[:3], "block1")
    assert tree.current == "block1"


def test_a_network_without_layers(tree):
    tree.show_layers([], None)
    assert tree.current is None
    assert not tree.isEnabled()
    tree.open()
    assert not tree.popup.isVisible()


def test_five_hundred_layers_open_at_once(qtbot):
    tree = LayerTree()
    qtbot.addWidget(tree)
    names = [f"features.block{n // 10}.layer{n % 10}.conv" for n in range(500)]
    tree.show_layers([TargetLayer(n, 4, (9, 8, 7), None) for n in names], names[-1])
    tree.show()
    tree.open()
    assert tree.view.currentIndex().data(Qt.ItemDataRole.UserRole) == names[-1]
    assert len(listed(tree)) == 500


@pytest.mark.parametrize("text", ["block2.0", " Block2.0", "0.a"])
def test_search_takes_dots_and_blanks_as_they_are_meant(tree, text):
    tree.open()
    QTest.keyClicks(tree.search, text)
    assert listed(tree) == ["block2.0.act"]


@pytest.mark.parametrize("text", ["(", "[", "9", "4 ×"])
def test_search_is_no_expression_and_ignores_numbers_of_cells(tree, text):
    tree.open()
    QTest.keyClicks(tree.search, text)
    assert listed(tree) == []


def test_enter_in_the_tree_takes_no_row_that_the_search_hides(tree):
    tree.choose("stem")
    tree.open()
    QTest.keyClicks(tree.search, "conv")
    assert tree.view.currentItem() is None
    QTest.keyClick(tree.search, Qt.Key.Key_Tab)
    QTest.keyClick(tree.view, Qt.Key.Key_Down)
    QTest.keyClick(tree.view, Qt.Key.Key_Return)
    assert tree.current == "block1"
