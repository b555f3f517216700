"""Choose a target layer from a searchable tree."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QModelIndex, QPoint, QRegularExpression, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt import QSearchableTreeWidget

__all__ = ["LayerTree"]

_NAME = Qt.ItemDataRole.UserRole
#: the columns of the tree; the last is hidden, and is what the search looks at
_OWN, _CELLS, _FULL = range(3)
_WHY = "★ recommended: the deepest layer that still resolves about 7 cells along each axis."


class LayerTree(QPushButton):
    """Shows the chosen layer; a click opens the tree of all of them, with a search field.

    Emits ``changed(name)`` when another layer was chosen.
    """

    changed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setStyleSheet("text-align: left; padding-left: 6px;")
        self.setToolTip(
            "The layer whose maps are shown, with its number of maps and cells. Deeper layers say "
            f"more and resolve less. {_WHY}"
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._targets: dict[str, Any] = {}
        self._items: dict[str, QTreeWidgetItem] = {}
        self._recommended: str | None = None
        self._current: str | None = None
        self.popup = QFrame(self, Qt.WindowType.Popup)
        self.popup.setFrameShape(QFrame.Shape.StyledPanel)
        self.search = QLineEdit()
        self.search.setPlaceholderText("search, e.g. conv or layer3")
        self.search.setClearButtonEnabled(True)
        self._tree = QSearchableTreeWidget()
        self._tree.layout().setContentsMargins(0, 0, 0, 0)
        self._tree.filter.hide()  # takes an expression, which is made of what is searched for
        self.view = self._tree.tree
        self.view.setHeaderLabels(["Layer", "Maps × cells", ""])
        self.view.hideColumn(_FULL)
        header = self.view.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(_OWN, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_CELLS, QHeaderView.ResizeMode.ResizeToContents)
        self.view.setUniformRowHeights(True)
        self.view.setAllColumnsShowFocus(True)
        why = QLabel(_WHY)
        why.setWordWrap(True)
        column = QVBoxLayout(self.popup)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self.search)
        column.addWidget(self._tree, 1)
        column.addWidget(why)
        self.clicked.connect(self.open)
        self.search.textChanged.connect(self._filter)
        self.search.returnPressed.connect(self._choose_first)
        self.view.clicked.connect(self._choose_index)
        self.view.activated.connect(self._choose_index)
        self._show_current()

    # --- what there is -------------------------------------------------------------

    def show_layers(self, targets: Any, recommended: str | None) -> None:
        """List target layers in forward order; the chosen one stays if it is among them.

        Nobody chose it if it was the recommended one: then the recommendation is followed.
        """
        chosen = self._current
        if chosen == self._recommended:
            chosen = None
        self._targets = {target.name: target for target in targets}
        self._recommended = recommended
        self._items = {}
        self.view.clear()
        for target in targets:
            self._add(target)
        self.view.expandAll()
        self._current = chosen if chosen in self._targets else recommended
        self._show_current()

    def _add(self, target: Any) -> None:
        item = self._item(target.name)
        star = " ★" if target.name == self._recommended else ""
        item.setText(_OWN, target.name.rpartition(".")[2] + star)
        item.setText(_CELLS, _cells(target))
        item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
        for column in (_OWN, _CELLS):
            item.setData(column, _NAME, target.name)

    def _item(self, name: str) -> QTreeWidgetItem:
        """The row of a layer or of a part of the network that holds layers."""
        if name not in self._items:
            above, _, own = name.rpartition(".")
            parent = self._item(above) if above else self.view.invisibleRootItem()
            self._items[name] = item = QTreeWidgetItem(parent, [own, "", name])
            item.setFlags(Qt.ItemFlag.ItemIsEnabled)
        return self._items[name]

    def names(self) -> list[str]:
        """The layers, in forward order."""
        return list(self._targets)

    @property
    def current(self) -> str | None:
        """The chosen layer's name."""
        return self._current

    def choose(self, name: str) -> None:
        """Choose a layer by name; nothing happens if there is none of this name."""
        if name in self._targets and name != self._current:
            self._current = name
            self._show_current()
            self.changed.emit(name)

    # --- the popup -----------------------------------------------------------------

    def open(self) -> None:
        """Show the tree below the button, as wide as it, with the chosen layer in sight."""
        if not self._targets:
            return
        self.search.clear()
        self.popup.resize(max(self.width(), 320), 340)
        corner = self.mapToGlobal(QPoint(self.width() - self.popup.width(), self.height()))
        room = self.screen().availableGeometry()
        corner.setX(max(room.left(), min(corner.x(), room.right() - self.popup.width())))
        corner.setY(max(room.top(), min(corner.y(), room.bottom() - self.popup.height())))
        self.popup.move(corner)
        self.popup.show()
        self.search.setFocus()
        if self._current in self._items:
            item = self._items[self._current]
            self.view.setCurrentItem(item)
            self.view.scrollToItem(item, QAbstractItemView.ScrollHint.PositionAtCenter)

    def _filter(self, text: str) -> None:
        wanted = QRegularExpression.escape(text.strip())
        self._tree.filter.setText(f"(?i)^(?!.*×).*{wanted}")  # names, and no numbers of cells
        self.view.expandAll()
        if self.view.currentItem() is not None and self.view.currentItem().isHidden():
            self.view.setCurrentItem(None)  # Enter takes what can be seen

    def _choose_first(self) -> None:
        """Enter in the search field takes the first layer that is listed."""
        text = self.search.text().strip().lower()
        name = next((n for n in self._targets if text in n.lower()), None)
        if name is not None:
            self.popup.hide()
            self.choose(name)

    def _choose_index(self, index: QModelIndex) -> None:
        name = index.data(_NAME)
        if name is not None:
            self.popup.hide()
            self.choose(name)

    # --- the button ----------------------------------------------------------------

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._show_current()

    def _show_current(self) -> None:
        target = self._targets.get(self._current)
        if target is None:
            self.setText("none")
            self.setEnabled(bool(self._targets))
            return
        star = " ★" if target.name == self._recommended else ""
        cells = f"  ({_cells(target)}){star}"
        self.setEnabled(True)
        room = max(self.width() - 20 - self.fontMetrics().horizontalAdvance(cells), 60)
        name = self.fontMetrics().elidedText(target.name, Qt.TextElideMode.ElideLeft, room)
        self.setText(name + cells)


def _cells(target: Any) -> str:
    return f"{target.channels} × {' × '.join(map(str, target.shape))}"
