"""Networks by name: what is built, and what is never run."""

import json
import keyword
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY
from napari_cnnvis.models.networks.factories import Factory, parse_architecture
from napari_cnnvis.models.networks.vox import VoxResNetGAP

NETS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width=2, n_classes=2):
        super().__init__(
            nn.Conv3d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
            nn.Linear(width, n_classes),
        )

def make_net(*arguments, pretrained=False, **keywords):
    if pretrained:
        raise RuntimeError("a download")
    return Net(*arguments, **keywords)

def number():
    return 3

not_callable = 5
"""


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "my_nets.py"
    path.write_text(NETS)
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable module my_cnnvis_nets."""
    (tmp_path / "my_cnnvis_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_cnnvis_nets"
    sys.modules.pop("my_cnnvis_nets", None)


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8) | st.binary(max_size=4)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(
    lambda n: not keyword.iskeyword(n)
)
places = st.sampled_from(
    ["monai.networks.nets", "a", "my_nets.py", "/a folder/nets.py", "C:\\n\\a.py"]
)


@given(places, names, st.lists(values, max_size=3), st.dictionaries(names, values, max_size=3))
def test_what_is_written_is_read_the_same(place, name, arguments, keywords):
    factory = Factory(place, name, tuple(arguments), keywords)
    assert parse_architecture(str(factory)) == factory
    assert str(parse_architecture(str(factory))) == str(factory)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("VoxVGG", "VoxVGG()"),
        (" VoxVGG ( n_classes = 3 ) ", "VoxVGG(n_classes=3)"),
        ("a.b:C.make", "a.b:C.make()"),
        ("a:f(1,\n  x=(1,2))", "a:f(1, x=(1, 2))"),
        ("a:f('b:c()')", "a:f('b:c()')"),
        ("a:f(-1.5, +2)", "a:f(-1.5, 2)"),
    ],
)
def test_other_ways_of_writing_it(text, wanted):
    assert str(parse_architecture(text)) == wanted


CODE = [
    "a:f(__import__('os').system('true'))",
    "a:f(x=open('canary', 'w'))",
    "a:f(lambda: 1)",
    "a:f([n for n in (1, 2)])",
    "a:f(nn.ReLU)",
    "a:f(1 if 2 else 3)",
    "a:f(2 ** 9999999)",
    "a:f(f'{1}')",
    "a:f(*[1, 2])",
    "a:f(1, 1) or g()",
    "a:f(1)(2)",
    "a:f(",
    "a:f(x=1, x=2)",
    "a:f(1 2)",
    "a:f(" + "(" * 300 + ")" * 300 + ")",
]


@pytest.mark.parametrize("text", CODE)
def test_code_in_arguments_is_refused(plain, text):
    with pytest.raises(CheckpointError) as caught:
        parse_architecture(text)
    assert "plain values" in plain(caught.value) or "does not name a network" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:f(**{'x': 1})", "has a ** argument"),
        ("AlexNet", "'AlexNet' is not a built-in network; those are VoxVGG"),
        ("VoxVGG(3)", "by name, such as n_classes=2"),
        ("", "does not name a network"),
        ("a:", "does not name a network"),
        (":f()", "does not name a network"),
        ("a:3", "does not name a network"),
        ("a:f-g()", "does not name a network"),
        ("my_nets.py", "my_nets.py:MyNet"),
    ],
)
def test_what_names_no_network_is_refused(plain, text, words):
    with pytest.raises(CheckpointError) as caught:
        parse_architecture(text)
    assert words in plain(caught.value)


def test_a_file_without_a_callable_says_what_it_defines(plain, nets):
    with pytest.raises(CheckpointError) as caught:
        parse_architecture(str(nets))
    assert plain(caught.value, nets).endswith("It defines Net, make_net, number.")


def refusal(plain, text, **options):
    with pytest.raises(CheckpointError) as caught:
        parse_architecture(text).build(**options)
    return plain(caught.value)


def test_a_file_is_run_only_if_trusted(plain, nets):
    nets.write_text(NETS + f"\nimport os\nos.mkdir({str(nets.parent / 'canary')!r})\n")
    text = refusal(plain, f"{nets}:Net()")
    assert f"The file {nets} would run Python code" in text
    assert "trust=True" in text
    assert not (nets.parent / "canary").exists()
    module = parse_architecture(f"{nets}:make_net(3, n_classes=5)").build(trust=True)
    assert module[-1].weight.shape == (5, 3)
    assert (nets.parent / "canary").exists()


def test_a_file_may_import_its_neighbours(nets):
    (nets.parent / "beside.py").write_text("from my_nets import Net\n")
    before = list(sys.path)
    try:
        module = parse_architecture(f"{nets.parent / 'beside.py'}:Net(4)").build(trust=True)
    finally:
        sys.modules.pop("my_nets", None)
    assert module[0].out_channels == 4
    assert sys.path == before


def test_a_class_of_a_module_that_the_user_names_is_made(package):
    module = parse_architecture(f"{package}:Net(3)").build()
    assert module[0].out_channels == 3


@pytest.mark.parametrize(
    "call", ["make_net(3)", "number()", "nn.init.zeros_(1)", "torch.load('x')"]
)
def test_what_is_no_class_of_networks_needs_trust_and_is_not_called(plain, package, call):
    text = refusal(plain, f"{package}:{call}")
    assert "is no class of networks" in text or "has nothing called" in text


def test_a_function_runs_with_trust(package):
    module = parse_architecture(f"{package}:make_net(3)").build(trust=True)
    assert module[0].out_channels == 3


@pytest.mark.parametrize("trust", [False, True])
def test_a_module_that_a_file_names_needs_trust(plain, package, trust):
    factory = parse_architecture(f"{package}:Net()")
    if trust:
        assert isinstance(factory.build(trust=True, by_user=False), nn.Sequential)
        return
    text = refusal(plain, str(factory), by_user=False)
    assert "named by a file, would run Python code" in text
    assert "trust=True" in text
    assert package not in sys.modules


WRONG = [
    ("no_such_package_xyz.nets:Net()", "pip install no_such_package_xyz"),
    ("{package}:Nothing()", "has nothing called 'Nothing' that can be called; it has Net, make_net"),
    ("{package}:not_callable()", "has nothing called 'not_callable'"),
    ("{package}:number()", "gives a int, not a torch.nn.Module"),
    ("{package}:Net(colour=3)", "cannot be built: "),
    ("{package}:Net(-1)", "cannot be built: "),
    ("..nets:Net()", "'..nets' cannot be imported"),
    ("broken_cnnvis:Net()", "'broken_cnnvis' cannot be imported: invalid syntax"),
    ("exiting_cnnvis:Net()", "'exiting_cnnvis' cannot be imported: no arguments (SystemExit)"),
    ("{folder}/none.py:Net()", "There is no file"),
    ("{folder}/broken_cnnvis.py:Net()", "cannot be run: invalid syntax (broken_cnnvis.py, line 1)"),
    ("{folder}/exiting_cnnvis.py:Net()", "cannot be run: no arguments (SystemExit)"),
    ("{folder}/my_cnnvis_nets.py:Nothing()", "has nothing called 'Nothing'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_cannot_be_built_is_a_plain_sentence(plain, package, tmp_path, text, words):
    (tmp_path / "broken_cnnvis.py").write_text("class Net(")
    (tmp_path / "broken_cnnvis.py").write_text("def")
    (tmp_path / "exiting_cnnvis.py").write_text("raise SystemExit('no arguments')")
    text = text.format(package=package, folder=tmp_path)
    assert words in refusal(plain, text, trust=True)


HELPERS = [
    "monai.networks.nets:torch.hub.load('a', 'b')",
    "monai.networks.nets.resnet:Path('canary')",
    "monai.networks.nets:resnet.torch.load('net.pt')",
    "napari_cnnvis.models.checkpoint:load_model('net.pt', trust=True)",
    "napari_cnnvis.models.checkpoint:save_model('net.pt', 'canary')",
    "napari_cnnvis.models.checkpoint:os.system('true')",
    "napari_cnnvis.models.formats.checkpoint_file:write_safetensors('canary', {}, {})",
]


@pytest.mark.parametrize("text", HELPERS)
def test_of_packages_of_networks_nothing_but_networks_is_called(plain, text):
    if text.startswith("monai"):
        pytest.importorskip("monai.networks.nets")
    text = refusal(plain, text, by_user=False)
    assert "named by a file, would run Python code" in text or "has nothing called" in text


def state():
    return {"conv.weight": torch.ones(2, 1, 3, 3, 3)}


def named_by(place, architecture, tmp_path):
    """A checkpoint whose own header, or whose sidecar, names its network."""
    header = {"architecture": architecture}
    path = tmp_path / "net.safetensors"
    if place == "header":
        save_file(state(), path, metadata={HEADER_KEY: json.dumps(header)})
    else:
        save_file(state(), path)
        path.with_suffix(".json").write_text(json.dumps(header))
    return path


@pytest.mark.parametrize("place", ["header", "sidecar"])
@pytest.mark.parametrize(
    "architecture",
    [
        "os:system('touch {canary}')",
        "os:mkdir('{canary}')",
        "subprocess:run(['touch', '{canary}'])",
        "builtins:open('{canary}', 'w')",
        'builtins:eval(\'open("{canary}", "w")\')',
        "pathlib:Path.touch('{canary}')",
        "monai.networks.nets.resnet:Path('{canary}')",
        "{canary}.py:Net()",
        "this:Net()",
    ],
)
def test_what_a_checkpoint_names_is_not_run(tmp_path, plain, place, architecture):
    canary = tmp_path / "canary"
    (tmp_path / "canary.py").write_text(f"import os\nos.mkdir({str(canary)!r})")
    path = named_by(place, architecture.format(canary=canary), tmp_path)
    before = set(sys.modules)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, "cpu")
    plain(caught.value)
    assert not canary.exists()
    assert "this" not in set(sys.modules) - before


@pytest.mark.parametrize("place", ["header", "sidecar"])
def test_a_network_of_monai_may_be_named_by_a_checkpoint(tmp_path, place):
    nets = pytest.importorskip("monai.networks.nets")
    text = (
        "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels=1, num_classes=3, "
        "widen_factor=0.125, pretrained=True)"
    )
    torch.manual_seed(0)
    net = nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=3, widen_factor=0.125)
    path = tmp_path / "net.safetensors"
    header = {"architecture": text, "class_names": ["a", "b", "c"]}
    if place == "header":
        save_file(net.state_dict(), path, metadata={HEADER_KEY: json.dumps(header)})
    else:
        torch.save(net.state_dict(), path := tmp_path / "net.pt")
        path.with_suffix(".json").write_text(json.dumps(header))
    model = load_model(path, "cpu")
    assert model.architecture == "resnet10"
    assert model.class_names == ("a", "b", "c")
    assert model.arch == text
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in model.module.state_dict().items())


def test_a_built_in_network_by_its_text():
    module = parse_architecture("VoxResNetGAP(in_channels=2, n_classes=4)").build()
    assert isinstance(module, VoxResNetGAP)
    assert module.prob.out_features == 4


def test_wrong_arguments_of_a_built_in_network_are_a_plain_sentence(plain):
    text = refusal(plain, "VoxVGG(depth=3)")
    assert text.startswith("'VoxVGG(depth=3)' cannot be built")
    assert "Check its arguments" in text
