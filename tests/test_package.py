import ast
import importlib.metadata
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import napari_cnnvis

ROOT = Path(napari_cnnvis.__file__).parents[1]
LAZY = ("napari_cnnvis", "napari_cnnvis.cohort", "napari_cnnvis.evaluate")
HEAVY = ("torch", "napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "numpy", "scipy", "nibabel")


def fresh_python(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", LAZY)
def test_import_pulls_in_nothing_heavy(name):
    loaded = fresh_python(f"import json, sys, {name}; print(json.dumps(list(sys.modules)))")
    assert name in loaded
    assert not set(HEAVY) & set(loaded)


def test_import_loads_next_to_nothing():
    """A few modules of the standard library and the package's own: milliseconds, on any machine."""
    code = """
import json, sys
before = set(sys.modules)
import napari_cnnvis
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    loaded = fresh_python(code)
    own = [name for name in loaded if name.startswith("napari_cnnvis")]
    others = {name.partition(".")[0] for name in loaded} - {"napari_cnnvis"}
    assert len(own) <= 2
    assert others <= sys.stdlib_module_names
    assert len(loaded) < 40


def test_options_need_no_torch():
    code = "import json, sys, napari_cnnvis.cli; print(json.dumps(list(sys.modules)))"
    assert not {"torch", "napari", "qtpy"} & set(fresh_python(code))


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package in LAZY for name in import_module(package).__all__],
)
def test_public_name_is_there_and_documented(package, name):
    value = getattr(import_module(package), name)
    assert callable(value)
    assert inspect.getdoc(value)


def test_no_function_is_named_as_a_module_beside_it():
    """Else the module would take the function's place once it is imported."""
    for package in map(import_module, LAZY):
        modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
        modules.discard("explain")  # can be called itself
        assert not modules & set(package.__all__)


@pytest.mark.parametrize("package", LAZY)
def test_a_star_import_gives_the_public_names_and_no_others(package):
    given = {}
    exec(f"from {package} import *", given)
    del given["__builtins__"]
    assert given == {name: getattr(import_module(package), name) for name in given}
    assert set(given) == set(dir(import_module(package)))
    assert len(given) >= 5


def test_names_of_the_design_are_public():
    """What scripts of users rely on; it may grow, and nothing goes."""
    stable = """
        Attribution CheckpointReport CnnVisError ExplainRequest FigureSpec Hierarchy InputSpec Model
        Progress Record Volume box_sensitivity build_hierarchy cam examine_checkpoint explain
        grad_cam grad_cam_plus_plus hires_cam layer_cam load_model localise methods read_figure
        read_rois read_volume remap roc_auc save_model sensitivity trust_report write_figure
        write_volume
    """
    assert set(stable.split()) <= set(napari_cnnvis.__all__)


@pytest.mark.parametrize("package", LAZY)
def test_unknown_name(package):
    with pytest.raises(AttributeError, match="no attribute 'saliency'"):
        import_module(package).saliency  # noqa: B018


def test_imports_point_one_way():
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the contracts are in the repository only")
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def imported_by(path, modules):
    """The package's modules that a file imports anywhere: in functions and for types as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def circles(imports):
    """Modules that can be reached from themselves."""
    reached = {name: set(others) for name, others in imports.items()}
    for middle in imports:
        for others in reached.values():
            if middle in others:
                others.update(reached[middle])
    return sorted(name for name, others in reached.items() if name in others)


def test_no_module_imports_itself_by_way_of_others():
    package = Path(napari_cnnvis.__file__).parent
    modules = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }  # fmt: skip
    found = {name: set(imported_by(path, modules)) - {name} for name, path in modules.items()}
    assert sum(map(len, found.values())) > 500
    assert circles(found) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "method", [m for m in napari_cnnvis.methods().values() if m.function], ids=lambda m: m.key
)
def test_a_methods_function_has_its_parameters_and_defaults(method):
    given = inspect.signature(getattr(napari_cnnvis, method.function)).parameters
    for name, parameter in method.parameters().items():
        assert parameter.checked(given[name].default) == method().parameters()[name].default
    after = list(given)[list(given).index("target") + 1 :]
    assert all(given[name].kind is inspect.Parameter.KEYWORD_ONLY for name in after)


def test_manifest_is_named_as_the_distribution():
    manifest = yaml.safe_load((Path(napari_cnnvis.__file__).parent / "napari.yaml").read_text())
    assert importlib.metadata.metadata("napari-cnnvis")["Name"] == manifest["name"]


def test_entry_points_lead_to_the_manifest_and_the_command():
    entry_points = importlib.metadata.distribution("napari-cnnvis").entry_points
    (manifest,) = entry_points.select(group="napari.manifest")
    assert manifest.value == "napari_cnnvis:napari.yaml"
    (command,) = entry_points.select(group="console_scripts", name="napari-cnnvis")
    assert callable(command.load())
