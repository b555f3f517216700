"""What the parts of the window may know of each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_cnnvis

FOLDER = Path(napari_cnnvis.__file__).parent / "_napari"
FILES = sorted(FOLDER.rglob("*.py"))


def path_id(path):
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def is_own(value):
    """Whether a member is read of the object itself: `self`, `cls` or `super()`."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


@pytest.mark.parametrize("path", FILES, ids=path_id)
def test_no_private_member_of_another_class_is_read(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            assert is_own(node.value), f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom):
            private = [alias.name for alias in node.names if is_private(alias.name)]
            assert not private, f"line {node.lineno}: {private}"


@pytest.mark.parametrize("path", FILES, ids=path_id)
def test_no_room_of_a_panel_imports_from_another_ones(path):
    """They meet in the session; only the demo opens a panel."""
    rooms = {panel.parent.name for panel in FOLDER.glob("*/panel.py")}
    assert len(rooms) >= 7
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            others = rooms - {path.parent.name}
            foreign = parts[:2] == ["napari_cnnvis", "_napari"] and others & set(parts[2:3])
            assert not foreign or path.stem == "demo", f"line {node.lineno}: {ast.unparse(node)}"


def test_no_panel_needs_torch():
    """In a fresh Python, one after the other, so that the first that loads it is named."""
    rooms = sorted(panel.parent.name for panel in FOLDER.glob("*/panel.py"))
    code = """
import importlib, sys
for room in sys.argv[1:]:
    importlib.import_module(f"napari_cnnvis._napari.{room}.panel")
    if "torch" in sys.modules:
        sys.exit(f"{room} loads torch")
print("all", len(sys.argv) - 1)
"""
    found = subprocess.run(
        [sys.executable, "-c", code, *rooms], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"all {len(rooms)}\n"
