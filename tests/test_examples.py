"""The examples in docstrings run."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import napari_cnnvis

PACKAGE = Path(napari_cnnvis.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize(
    "package", ["napari_cnnvis", "napari_cnnvis.cohort", "napari_cnnvis.evaluate"]
)
def test_every_public_name_has_an_example(package):
    package, finder = import_module(package), doctest.DocTestFinder(recurse=False)
    without = []
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.ismodule(value):  # `explain` is both
            value = import_module(f"{value.__name__}.run").explain
        if not any(test.examples for test in finder.find(value, name)):
            without.append(name)
    assert not without
