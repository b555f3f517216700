"""PyTorch files with settings of any class: weights are read, and nothing is run."""

import argparse
import collections
import io
import pathlib
import pickle
import sys
import tracemalloc
import types
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.formats.pickles import StandIn, load_pickle, modules_state
from napari_cnnvis.models.formats.read import read_file

THEIRS = """
from torch import nn

imported = True

class Settings:
    def __init__(self, rate):
        self.rate = rate

class Slotted:
    __slots__ = ("a", "b")
    def __init__(self):
        self.a, self.b = 1, [2]

class Listing(list):
    pass

class Mapping(dict):
    def __init__(self, content, parent=None):
        super().__init__(content)
        self.parent = parent

class Reduced:
    def __reduce__(self):
        return Reduced.make, (1, {"a": 2}), {"b": 3}

    @classmethod
    def make(cls, *_):
        return cls()

class Keyed:
    def __getnewargs_ex__(self):
        return (), {"rate": 3}

    def __new__(cls, rate=1):
        return super().__new__(cls)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(2, 3)
        self.register_buffer("scale", 1 / (1 + nn.Parameter(self.head.bias.detach().abs())))
        self.register_buffer("scratch", self.head.bias.detach().clone(), persistent=False)
        self.settings = Settings(0.1)

    def forward(self, x):
        return self.head(self.pool(self.body(x)).flatten(1)) * self.scale
"""


@pytest.fixture
def theirs(monkeypatch, tmp_path):
    """A module that is there while a file is saved; call `gone` to make it unimportable."""
    module = types.ModuleType("their_training_code")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = tmp_path / "their_training_code.py"
    source.write_text(THEIRS)
    module.__file__ = str(source)
    exec(compile(THEIRS, source, "exec"), module.__dict__)
    module.gone = lambda: monkeypatch.delitem(sys.modules, module.__name__)
    return module


def weights():
    return {
        "conv.weight": torch.arange(54.0).reshape(2, 1, 3, 3, 3),
        "conv.bias": torch.tensor([1.0, 2.0]),
    }


def same(state, expected):
    return state.keys() == expected.keys() and all(
        torch.equal(state[name], tensor) for name, tensor in expected.items()
    )


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


def lightning(settings):
    return {
        "pytorch-lightning_version": "2.4.0",
        "epoch": 3,
        "state_dict": {f"model.{k}": v for k, v in weights().items()},
        "callbacks": {"ModelCheckpoint": {"best": np.float64(0.3)}},
        "hyper_parameters": settings,
    }


SETTINGS = {
    "an object": lambda m: m.Settings(0.1),
    "objects in a dictionary": lambda m: {"a": m.Settings(1), "b": [m.Settings(2)]},
    "slots": lambda m: {"s": m.Slotted()},
    "a list of its own": lambda m: m.Listing([1, 2]),
    "a mapping as omegaconf's": lambda m: m.Mapping({"lr": m.Settings(1)}, m.Settings(2)),
    "a class": lambda m: {"net": m.Net},
    "a function": lambda m: {"loss": m.Reduced.make},
    "a reduced object": lambda m: m.Reduced(),
    "an object made with keywords": lambda m: m.Keyed(),
    "a network": lambda m: {"net": m.Net()},
    "a path": lambda m: {"folder": pathlib.PurePosixPath("/data")},
    "a namespace": lambda m: argparse.Namespace(lr=1e-3, path=m.Settings(1)),
    "an array": lambda m: {"mean": np.arange(3.0)},
    "containers": lambda m: {
        "s": {1, 2},
        "f": frozenset([3]),
        "d": collections.defaultdict(list, a=[m.Settings(1)]),
        "o": collections.OrderedDict(x=1),
        "c": collections.Counter("aab"),
        "t": (1, 2.5, b"x", None, True, 3 + 4j, slice(1, 2), bytearray(b"y")),
    },
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
def test_weights_are_read_beside_settings_of_any_class(tmp_path, theirs, settings, zipped):
    content = lightning(SETTINGS[settings](theirs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch looks for the source of old files' networks
        path = saved(content, tmp_path / "net.ckpt", _use_new_zipfile_serialization=zipped)
    theirs.gone()
    file = read_file(path)
    assert same(file.state, weights())
    assert file.kind == "Lightning checkpoint"
    assert "their_training_code" not in sys.modules


def test_settings_that_were_left_out_are_named(tmp_path, theirs):
    path = saved(lightning(theirs.Settings(1)), tmp_path / "net.ckpt")
    theirs.gone()
    note = " ".join(read_file(path).notes)
    assert "their code was not run" in note
    assert "their_training_code.Settings" in note


def test_class_names_are_taken_from_lightning_s_settings(tmp_path):
    path = saved(lightning({"class_names": ("NC", "AD"), "lr": 1}), tmp_path / "net.ckpt")
    assert read_file(path).header == {"class_names": ["NC", "AD"]}
    path = saved(lightning({"labels": [1, 2]}), tmp_path / "net.ckpt")
    assert read_file(path).header == {}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_any_protocol_is_read(tmp_path, theirs, protocol):
    path = saved(lightning(theirs.Settings(1)), tmp_path / "net.ckpt", pickle_protocol=protocol)
    theirs.gone()
    assert same(read_file(path).state, weights())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_tensors_of_any_type_and_sharing_memory_are_read(tmp_path, theirs, dtype):
    base = torch.arange(12).reshape(3, 4).to(dtype)
    state = {"a": base, "b": base.T, "c": base[1:, ::2], "d": nn.Parameter(base.float())}
    path = saved({"state_dict": state, "more": theirs.Settings(1)}, tmp_path / "net.pt")
    theirs.gone()
    found = read_file(path).state
    assert same(found, state)
    assert found["b"].data_ptr() == found["a"].data_ptr()


def test_a_plain_pickle_of_weights_is_read(tmp_path):
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"state_dict": weights()}))
    assert same(read_file(path).state, weights())


def test_of_a_whole_network_the_weights_are_read_by_name(tmp_path, theirs):
    net = theirs.Net()
    path = saved(net, tmp_path / "net.pt")
    theirs.gone()
    file = read_file(path)
    assert same(file.state, net.state_dict())
    assert file.pickled == "their_training_code.Net"
    assert file.kind == "pickled network"
    assert "their_training_code" not in sys.modules


def test_a_whole_network_in_a_wrapper_is_read_as_well(tmp_path, theirs):
    net = theirs.Net()
    path = saved({"model": net, "epoch": 3}, tmp_path / "net.pt")
    theirs.gone()
    assert same(read_file(path).state, net.state_dict())


def test_a_whole_network_loads_with_its_architecture(tmp_path, theirs):
    net = theirs.Net()
    path = saved(net, tmp_path / "net.pt")
    other = theirs.Net()
    theirs.gone()
    model = load_model(path, "cpu", arch=other)
    assert same(model.module.state_dict(), net.state_dict())


def test_a_whole_network_names_its_class_if_it_is_not_known(tmp_path, plain, theirs):
    path = saved(theirs.Net(), tmp_path / "net.pt")
    theirs.gone()
    with pytest.raises(CheckpointError) as caught:
        load_model(path, "cpu")
    assert "the pickled their_training_code.Net with trust=True" in plain(caught.value, path)


def test_a_whole_network_is_itself_if_trusted(tmp_path, theirs):
    net = theirs.Net()
    model = load_model(saved(net, tmp_path / "net.pt"), "cpu", trust=True)
    assert type(model.module) is theirs.Net
    assert same(model.module.state_dict(), net.state_dict())


@pytest.mark.parametrize("missing", ["module", "class"])
def test_trust_without_its_code_is_a_plain_sentence(tmp_path, plain, theirs, missing):
    path = saved(theirs.Net(), tmp_path / "net.pt")
    theirs.gone() if missing == "module" else delattr(theirs, "Net")
    with pytest.raises(CheckpointError) as caught:
        load_model(path, "cpu", trust=True)
    text = plain(caught.value, path)
    assert "needs Python code that is not installed here" in text
    assert "their_training_code" in text
    assert "state_dict()" in text


class FailsHere:
    """A setting whose code works on another system only."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return _raise, (self.error,)


def _raise(error):
    raise {
        "path": NotImplementedError("cannot instantiate 'WindowsPath' on your system"),
        "import": ImportError("No module named 'wandb'"),
        "attribute": AttributeError("'Settings' object has no attribute 'rate'"),
        "type": TypeError("__init__() missing 1 required positional argument: 'rate'"),
        "exit": SystemExit("no licence"),
    }[error]


@pytest.mark.parametrize("error", ["path", "import", "attribute", "type", "exit"])
@pytest.mark.parametrize("zipped", [True, False])
def test_trust_never_makes_a_readable_file_unreadable(tmp_path, error, zipped):
    content = {"state_dict": weights(), "config": {"root": FailsHere(error)}}
    path = saved(content, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    plain, trusted = read_file(path), read_file(path, trust=True)
    assert same(plain.state, trusted.state)
    assert "its Python code failed, so that only its weights were read" in trusted.notes


@pytest.mark.parametrize("error", ["path", "type"])
def test_a_trusted_network_whose_code_fails_loads_with_its_architecture(tmp_path, theirs, error):
    net = theirs.Net()
    net.settings = FailsHere(error)
    path = saved(net, tmp_path / "net.pt")
    model = load_model(path, "cpu", arch=theirs.Net(), trust=True)
    assert same(model.module.state_dict(), net.state_dict())


def test_stand_ins_remember_their_name_and_do_nothing(tmp_path, theirs):
    content = {"s": theirs.Settings(0.5), "l": theirs.Listing([1, 2])}
    path = saved(content, tmp_path / "net.pt")
    theirs.gone()
    found, names, failed = load_pickle(path, trust=False)
    assert names == ("their_training_code.Listing", "their_training_code.Settings")
    assert failed == ""
    assert isinstance(found["s"], StandIn)
    assert found["s"].stands_for == "their_training_code.Settings"
    assert found["s"].rate == 0.5
    assert found["l"].items_given == [1, 2]
    assert found["s"] != found["l"]
    assert modules_state(found["s"]) == {}


def test_what_torch_reads_by_itself_has_no_stand_ins(tmp_path):
    found, names, failed = load_pickle(
        saved({"state_dict": weights()}, tmp_path / "net.pt"), trust=False
    )
    assert (names, failed) == ((), "")
    assert same(found["state_dict"], weights())


def test_objects_without_weights_name_what_would_run(tmp_path, plain, theirs):
    path = saved({"settings": theirs.Settings(1)}, tmp_path / "net.pt")
    theirs.gone()
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    text = plain(caught.value, path)
    assert "their_training_code.Settings" in text
    assert "state_dict()" in text


def packed(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


BOMBS = {
    "a bytearray": b"cbuiltins\nbytearray\n(I3000000000\ntR.",
    "as Python 2 wrote it": b"c__builtin__\nbytearray\n(L3000000000L\ntR.",
    "by a newer operation": b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93\x8a\x05\x00\x5e\xd0\xb2\x00\x85R.",
    "bytes": b"cbuiltins\nbytes\n(I3000000000\ntR.",
    "a list of one": b"cbuiltins\nlist\n(cbuiltins\nbytearray\n(I1000000000\ntRtR.",
    "copies": (
        b"\x80\x04](B\x40\x42\x0f\x00" + b"x" * 1_000_000 + b"\x94cbuiltins\nbytearray\n\x94"
        + b"h\x01h\x00\x85R" * 500 + b"e."
    ),
    "a memory of two billion": b"}p2000000000\n.",
}  # fmt: skip


@pytest.mark.parametrize("wrap", [bytes, packed], ids=["plain", "zip"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_few_bytes_cannot_fill_the_memory(tmp_path, plain, bomb, wrap):
    path = tmp_path / "net.pt"
    path.write_bytes(wrap(BOMBS[bomb]))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as error:
            load_pickle(path, trust=False)
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()
    assert "memory" in plain(error.value, path)


def test_containers_of_a_checkpoint_come_back(tmp_path):
    content = {
        "list": [1, 2], "set": {1, 2}, "bytes": b"ab", "array": bytearray(b"ab"), "tuple": (1, (2,)),
        "ordered": collections.OrderedDict(a=1), "default": collections.defaultdict(list, a=[1]),
        "counter": collections.Counter("aab"), "kind": float, "frozen": frozenset({3}),
    }  # fmt: skip
    for protocol in range(6):
        (tmp_path / "net.pt").write_bytes(pickle.dumps(content, protocol))
        assert load_pickle(tmp_path / "net.pt", trust=False)[0] == content
