"""Broken and hostile files: a plain sentence that names the file, and nothing is run."""

import builtins
import io
import json
import os
import pickle
import struct
import subprocess
import time
import warnings
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import nn

from napari_cnnvis.errors import CheckpointError, CnnVisError, MethodError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY, write_safetensors


class Net(nn.Module):
    def __init__(self, n_classes=2):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(2, n_classes)

    def forward(self, x):
        return self.head(self.pool(self.conv(x)).flatten(1))


def state(**changes):
    torch.manual_seed(0)
    return {**Net().state_dict(), **changes}


def written(path, content):
    path.write_bytes(content)
    return path


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


def quietly(work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()


def content_of(kind):
    """The bytes of a valid file."""
    buffer = io.BytesIO()
    if kind == "safetensors":
        return save(state(), {HEADER_KEY: json.dumps({"class_names": ["a", "b"]})})
    if kind == "pt":
        torch.save(state(), buffer)
    elif kind == "old pt":
        torch.save(state(), buffer, _use_new_zipfile_serialization=False)
    elif kind == "pickled net":
        torch.save(Net(), buffer)
    elif kind == "npz":
        np.savez(buffer, *[np.ones((2, 3), np.float32)] * 3)
    elif kind == "pt2":
        program = torch.export.export(Net().eval(), (torch.rand(1, 1, 6, 6, 6),))
        quietly(lambda: torch.export.save(program, buffer))
    elif kind == "torchscript":
        quietly(lambda: torch.jit.save(torch.jit.script(Net().eval()), buffer))
    return buffer.getvalue()


SUFFIXES = {
    "safetensors": ".safetensors",
    "pt": ".pt",
    "old pt": ".pth",
    "pickled net": ".pt",
    "npz": ".npz",
    "pt2": ".pt2",
    "torchscript": ".ts",
}


@pytest.fixture(scope="module")
def valid():
    return {kind: content_of(kind) for kind in SUFFIXES}


def refusal(plain, path, about=None, **options):
    """What is said of a file that cannot be loaded, in one or two sentences."""
    with pytest.raises(CnnVisError) as caught:
        load_model(path, "cpu", **options)
    text = plain(caught.value, path.name if about is None else about)
    assert "Traceback" not in text
    assert len(text.replace(str(path), "")) < 450
    return text


CUTS = {
    "empty": lambda n: 0,
    "one byte": lambda n: 1,
    "100 bytes": lambda n: 100,
    "half": lambda n: n // 2,
    "all but one byte": lambda n: n - 1,
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", SUFFIXES)
def test_truncated_files(tmp_path, plain, valid, kind, cut):
    content = valid[kind][: CUTS[cut](len(valid[kind]))]
    path = written(tmp_path / f"net{SUFFIXES[kind]}", content)
    text = refusal(plain, path, arch=Net())
    assert "again" in text


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("place", [0.02, 0.3, 0.7, 0.98])
def test_garbled_files_load_or_say_what_is_wrong(tmp_path, plain, valid, kind, place):
    content = bytearray(valid[kind])
    at = int(len(content) * place)
    content[at : at + 24] = bytes(255 - b for b in content[at : at + 24])
    path = written(tmp_path / f"net{SUFFIXES[kind]}", bytes(content))
    try:
        load_model(path, "cpu", arch=Net())
    except CnnVisError as exc:
        plain(exc, path)


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("other", [".pt", ".pt2", ".npz", ".safetensors", ".ckpt", ""])
def test_a_wrong_ending_loads_or_says_what_is_wrong(tmp_path, plain, valid, kind, other):
    path = written(tmp_path / f"net{other}", valid[kind])
    try:
        load_model(path, "cpu", arch=Net())
    except CnnVisError as exc:
        plain(exc, path)


def jpeg(path):
    Image.new("L", (20, 20)).save(path, "jpeg")
    return path


def nifti(path):
    return written(path, nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes())


def header_file(path, header):
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(state(), path, metadata={HEADER_KEY: text})
    return path


def raw_safetensors(path, header, data=b""):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return written(path, struct.pack("<Q", len(text)) + text + data)


def tensor_entry(shape, end, begin=0):
    return {"w": {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}}


def folder(path):
    path.mkdir()
    return path


def with_sidecar(path, text):
    path.with_suffix(".json").write_text(text)
    return saved(state(), path)


def nested(depth):
    content = torch.ones(2)
    for _ in range(depth):
        content = {"state_dict": content}
    return content


def recursive():
    content = {}
    content["state_dict"] = content
    return content


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


WRONG = {
    "a JPEG called .pt": (lambda d: jpeg(d / "net.pt"), "again"),
    "a NIfTI called .safetensors": (lambda d: nifti(d / "net.safetensors"), "again"),
    "a NIfTI called .npz": (lambda d: nifti(d / "net.npz"), "again"),
    "a JPEG called .pt2": (lambda d: jpeg(d / "net.pt2"), "again"),
    "a missing file": (lambda d: d / "net.pt", "There is no file"),
    "a missing safetensors": (lambda d: d / "net.safetensors", "There is no file"),
    "a folder": (lambda d: folder(d / "nets"), "is a folder"),
    "a folder called .pt": (lambda d: folder(d / "net.pt"), "is a folder"),
    "an empty dictionary": (lambda d: saved({}, d / "net.pt"), "holds no weights"),
    "a dictionary of text": (lambda d: saved({"a": "b"}, d / "net.pt"), "holds no weights"),
    "a dictionary with numbers as names": (lambda d: saved({1: torch.ones(2)}, d / "net.pt"), "does not fit"),
    "a tensor": (lambda d: saved(torch.ones(3), d / "net.pt"), "holds no weights"),
    "a list": (lambda d: saved([torch.ones(3)], d / "net.pt"), "holds no weights"),
    "None": (lambda d: saved(None, d / "net.pt"), "holds no weights"),
    "a deep dictionary": (lambda d: saved(nested(200), d / "net.pt"), "holds no weights"),
    "a dictionary in itself": (lambda d: saved(recursive(), d / "net.pt"), "holds no weights"),
    "zeros": (lambda d: written(d / "net.pt", bytes(5000)), "again"),
    "a zip of text": (lambda d: zipped(d / "net.pt", {"readme.txt": b"hello"}), "again"),
    "an empty zip": (lambda d: zipped(d / "net.pt", {}), "again"),
    "a zip of folders up": (lambda d: zipped(d / "net.zip", {"../../configs/metadata.json": b"{}"}), "again"),
    "a .pt2 of nothing": (lambda d: zipped(d / "net.pt2", {"x/models/model.json": b"{}"}), "again"),
    "a .pt2 of wrong JSON": (lambda d: zipped(d / "net.pt2", {"x/models/model.json": b"{"}), "again"),
    "a header that is not JSON": (lambda d: header_file(d / "net.safetensors", "{"), "again"),
    "a header that is a list": (lambda d: header_file(d / "net.safetensors", []), "is damaged"),
    "class names that are a number": (lambda d: header_file(d / "net.safetensors", {"class_names": 3}), "is damaged"),
    "an architecture that is a number": (lambda d: header_file(d / "net.safetensors", {"architecture": 3}), "is damaged"),
    "an input that is text": (lambda d: header_file(d / "net.safetensors", {"input": "large"}), "is damaged"),
    "an output that is a list": (lambda d: header_file(d / "net.safetensors", {"output": []}), "is damaged"),
    "a deep header": (lambda d: header_file(d / "net.safetensors", "[" * 50_000), "again"),
    "a negative shape": (lambda d: header_file(d / "net.safetensors", {"input": {"shape": [-1, 5, 5]}}), "describes its input wrongly"),
    "a shape of text": (lambda d: header_file(d / "net.safetensors", {"input": {"shape": "abc"}}), "describes its input wrongly"),
    "a shape that is a number": (lambda d: header_file(d / "net.safetensors", {"input": {"shape": 5}}), "describes its input wrongly"),
    "an unknown intensity rule": (lambda d: header_file(d / "net.safetensors", {"input": {"intensity": ["max"]}}), "describes its input wrongly"),
    "channels that are text": (lambda d: header_file(d / "net.safetensors", {"input": {"channels": "1"}}), "describes its input wrongly"),
    "a safetensors header too long": (lambda d: written(d / "net.safetensors", struct.pack("<Q", 2**62) + b"{}"), "again"),
    "an empty safetensors header": (lambda d: raw_safetensors(d / "net.safetensors", {}), "holds no weights"),
    "a safetensors header of text": (lambda d: raw_safetensors(d / "net.safetensors", b"hello"), "again"),
    "safetensors beyond the end": (lambda d: raw_safetensors(d / "net.safetensors", tensor_entry([2], 8)), "again"),
    "safetensors of other sizes": (lambda d: raw_safetensors(d / "net.safetensors", tensor_entry([2**40, 2**40], 8), bytes(8)), "again"),
    "a sidecar that is not JSON": (lambda d: with_sidecar(d / "net.pt", "{"), "net.json"),
    "a sidecar that is a list": (lambda d: with_sidecar(d / "net.pt", "[]"), "net.json"),
    "a sidecar with wrong names": (lambda d: with_sidecar(d / "net.pt", '{"class_names": 3}'), "net.json"),
    "a sidecar of bytes": (lambda d: (with_sidecar(d / "net.pt", ""), written(d / "net.json", b"\xff\xfe\x00"))[0], "net.json"),
    "NaN": (lambda d: saved(state(**{"conv.bias": torch.tensor([1, torch.nan])}), d / "net.pt"), "NaN or infinite"),
    "infinity": (lambda d: saved(state(**{"conv.bias": torch.tensor([1, torch.inf])}), d / "net.pt"), "NaN or infinite"),
    "a wrong shape": (lambda d: saved(state(**{"conv.bias": torch.ones(3)}), d / "net.pt"), "has shape (3,), but (2,) is needed"),
    "another number of classes": (lambda d: saved(Net(5).state_dict(), d / "net.pt"), "with 5 classes"),
    "a key too many": (lambda d: saved(state(more=torch.ones(2)), d / "net.pt"), "is not part of it: more"),
    "a missing key": (lambda d: saved({"conv.bias": torch.ones(2)}, d / "net.pt"), "weights are missing"),
    "a sparse tensor": (lambda d: saved(state(**{"conv.bias": torch.ones(2).to_sparse()}), d / "net.pt"), "not plain numbers"),
    "a complex tensor": (lambda d: saved(state(**{"conv.bias": torch.ones(2) * 1j}), d / "net.pt"), "not plain numbers"),
    "a quantised tensor": (lambda d: saved(state(**{"conv.bias": quietly(lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8))}), d / "net.pt"), "not plain numbers"),
    "a tensor on no device": (lambda d: saved(state(**{"conv.bias": torch.ones(2, device="meta")}), d / "net.pt"), "not plain numbers"),
    "arrays by name": (lambda d: npz(d / "net.npz", weight=np.ones(3)), "arr_0, arr_1"),
    "arrays of text": (lambda d: npz(d / "net.npz", arr_0=np.array(["a", "b"])), "belongs to another network"),
    "arrays of objects": (lambda d: npz(d / "net.npz", arr_0=np.array([{}], object)), "numpy.savez"),
}  # fmt: skip


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files(tmp_path, plain, case):
    make, words = WRONG[case]
    path = make(tmp_path)
    assert words in refusal(plain, path, "net.json" if "sidecar" in case else None, arch=Net())


def test_no_classes_are_refused(tmp_path, plain):
    path = saved(
        {**state(), "head.weight": torch.ones(0, 2), "head.bias": torch.ones(0)},
        tmp_path / "net.pt",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wonders about initialising nothing
        empty = Net(0)
    with pytest.raises(MethodError) as caught:
        load_model(path, "cpu", arch=empty)
    plain(caught.value, "no outputs")


GOOD = {
    "half precision": lambda d: saved({k: v.half() for k, v in state().items()}, d / "net.pt"),
    "bfloat16": lambda d: written_half(d),
    "not contiguous": lambda d: saved({k: v.T.contiguous().T if v.ndim == 2 else v for k, v in state().items()}, d / "net.pt"),
    "views of one storage": lambda d: saved(sharing(state()), d / "net.pt"),
    "an empty header": lambda d: header_file(d / "net.safetensors", {}),
    "null class names left out": lambda d: header_file(d / "net.safetensors", {"training": {}}),
    "a name with spaces and umlauts": lambda d: saved(state(), d / "mein Netz Größe.pt"),
    "another ending": lambda d: saved(state(), d / "net.model"),
    "wrapped three times": lambda d: saved({"state_dict": {"model": {"net": state()}}}, d / "net.pt"),
}  # fmt: skip


def written_half(d):
    write_safetensors(d / "net.safetensors", {k: v.bfloat16() for k, v in state().items()}, {})
    return d / "net.safetensors"


def sharing(given):
    flat = torch.cat([t.flatten() for t in given.values()])
    parts = flat.split([t.numel() for t in given.values()])
    return {k: p.view(t.shape) for (k, t), p in zip(given.items(), parts, strict=True)}


@pytest.mark.parametrize("case", GOOD)
def test_unusual_files_load(tmp_path, case):
    model = load_model(GOOD[case](tmp_path), "cpu", arch=Net())
    for name, tensor in model.module.state_dict().items():
        torch.testing.assert_close(tensor, state()[name], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "kind", ["safetensors", "pt", "old pt", "pickled net", "pt2", "torchscript"]
)
def test_whole_files_load(tmp_path, valid, kind):
    path = written(tmp_path / f"net{SUFFIXES[kind]}", valid[kind])
    assert load_model(path, "cpu", arch=Net()).target_layers[0] == "conv"


# Code


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "os.system": lambda c: Call(os.system, f"touch {c}"),
    "os.mkdir": lambda c: Call(os.mkdir, c),
    "subprocess.Popen": lambda c: Call(subprocess.Popen, ["touch", c]),
    "eval": lambda c: Call(builtins.eval, f"open({c!r}, 'w')"),
    "exec": lambda c: Call(builtins.exec, f"open({c!r}, 'w')"),
    "open": lambda c: Call(builtins.open, c, "w"),
    "getattr": lambda c: Call(getattr, Call(__import__, "os"), "mkdir"),
    "Path.touch": lambda c: Call(Path.touch, Path(c)),
    "numpy.save": lambda c: Call(np.save, c, 3),
    "torch.save": lambda c: Call(torch.save, 3, c),
    "torch.load": lambda c: Call(torch.load, c),
}
PLACES = {
    "alone": lambda call: call,
    "beside the weights": lambda call: {"state_dict": state(), "extra": call},
    "among the weights": lambda call: {**state(), "extra": call},
    "as the weights": lambda call: {"state_dict": call},
    "in Lightning's settings": lambda call: {
        "pytorch-lightning_version": "2.4",
        "state_dict": state(),
        "hyper_parameters": {"lr": call},
    },
    "as a name": lambda call: {"state_dict": state(), "more": [(call, 1)]},
}
HOSTILE = ("os.system", "os.mkdir", "subprocess.Popen", "eval", "exec", "open", "getattr")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_code_is_not_run(tmp_path, plain, name, place, how):
    canary = tmp_path / "canary"
    content = PLACES[place](CALLS[name](str(canary)))
    path = tmp_path / "net.ckpt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        saved(content, path, _use_new_zipfile_serialization=how == "torch")
    try:
        load_model(path, "cpu", arch=Net())
    except CheckpointError as exc:
        plain(exc, path)
    else:  # beside weights that are read, what is only strange is left out
        assert name not in HOSTILE
    time.sleep(0.01 * (name == "subprocess.Popen"))
    assert not canary.exists()


def test_code_that_would_run_is_named(tmp_path, plain):
    content = {"state_dict": state(), "extra": Call(os.system, "true")}
    text = refusal(plain, saved(content, tmp_path / "net.pt"), arch=Net())
    assert "would run 'posix.system' on loading" in text
    assert "nothing of it was run" in text


def raw_pickle(*operations):
    return b"".join(operations)


OPERATIONS = {
    "protocol 0": b"cos\nsystem\n(S'touch {}'\ntR.",
    "instances": b"(S'touch {}'\nios\nsystem\n.",
    "a state on a function": b"ctorch._utils\n_rebuild_tensor\n(N}(S'__defaults__'\nNutb.",
    "a state on a class": b"cbuiltins\ndict\n(N}(S'x'\nNutb.",
    "an endless memo": b"(" * 100_000 + b".",
    "an unknown extension": b"\x80\x02\x82\x01.",
    "a huge length": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("case", OPERATIONS)
def test_forged_pickles(tmp_path, plain, case):
    canary = tmp_path / "canary"
    content = OPERATIONS[case].replace(b"{}", str(canary).encode())
    before = torch._utils._rebuild_tensor.__defaults__
    refusal(plain, written(tmp_path / "net.pt", content), arch=Net())
    assert not canary.exists()
    assert torch._utils._rebuild_tensor.__defaults__ == before


def test_arrays_of_objects_run_nothing(tmp_path, plain):
    canary = tmp_path / "canary"
    path = npz(tmp_path / "net.npz", arr_0=np.array([Call(os.mkdir, str(canary))], object))
    assert "numpy.savez" in refusal(plain, path)
    assert not canary.exists()


# Zip bombs


def bomb(path, members, size):
    """A small zip of members that unpack to `size` zeros: one block, written again and again."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in members:
            with file.open(name, "w", force_zip64=True) as stream:
                for _ in range(size // 2**24):
                    stream.write(bytes(2**24))
    return path


def forged_size(path, member, size):
    """A zip whose directory says that a member is larger than it is."""
    zipped(path, {member: bytes(1000)}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", size)
    return written(path, bytes(content))


BOMBS = {
    ".pt": lambda d: forged_size(d / "net.pt", "net/data.pkl", 2**32 - 2),
    ".pt of many zeros": lambda d: bomb(d / "net.pt", ["net/data.pkl"], 2**29 + 2**28),
    ".npz": lambda d: forged_size(d / "net.npz", "arr_0.npy", 2**32 - 2),
    ".pt2": lambda d: forged_size(d / "net.pt2", "net/models/model.json", 2**32 - 2),
    "bundle": lambda d: forged_size(d / "net.zip", "net/configs/metadata.json", 2**32 - 2),
    "TorchScript": lambda d: forged_size(d / "net.ts", "net/constants.pkl", 2**32 - 2),
}


@pytest.mark.parametrize("case", BOMBS)
def test_zip_bombs_are_not_unpacked(tmp_path, plain, case):
    path = BOMBS[case](tmp_path)
    start = time.perf_counter()
    text = refusal(plain, path)
    assert time.perf_counter() - start < 1
    assert "was not opened" in text


# Exported programs


def repacked(valid, path, change=None, more=None, without=()):
    """A .pt2 with changed text in its JSON files, and more members."""
    with zipfile.ZipFile(io.BytesIO(valid["pt2"])) as file:
        members = {n: file.read(n) for n in file.namelist() if n.rpartition("/")[2] not in without}
    top = next(iter(members)).partition("/")[0]
    for name, text in members.items():
        if name.endswith(".json") and change is not None:
            content = json.loads(text)
            change(name, content)
            members[name] = json.dumps(content).encode()
    for name, content in (more or {}).items():
        members[f"{top}/{name}"] = content
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        return zipped(path, members)


def nodes(content):
    return content.get("graph_module", {}).get("graph", {}).get("nodes", [])


def set_target(name, canary):
    def change(_, content):
        for node in nodes(content)[:1]:
            node["target"] = name

    return change


def set_argument(argument):
    def change(_, content):
        for node in nodes(content)[:1]:
            node["inputs"][0]["arg"] = argument

    return change


def set_size(expression):
    def change(_, content):
        values = content.get("graph_module", {}).get("graph", {}).get("tensor_values", {})
        for value in values.values():
            value["sizes"][0] = {"as_expr": {"expr_str": expression, "hint": {"as_int": 1}}}

    return change


def rename(old, new):
    def change(_, content):
        text = json.dumps(content).replace(json.dumps(old), json.dumps(new))
        content.clear()
        content.update(json.loads(text))

    return change


def set_top(**values):
    def change(name, content):
        if "graph_module" in content:
            content.update(values)

    return change


def set_spec(tree):
    def change(_, content):
        for call in content.get("graph_module", {}).get("module_call_graph", []):
            if call.get("signature"):
                call["signature"]["in_spec"] = json.dumps([1, tree])

    return change


def set_payload(**values):
    def change(_, content):
        for entry in content.get("config", {}).values():
            entry.update(values)

    return change


def enum(module):
    context = {"__enum__": True, "fqn": f"{module}:x", "name": "x"}
    return {"type": "builtins.dict", "context": json.dumps(context), "children_spec": []}


def defaults(module):
    context = {"default_factory_module": module, "default_factory_name": "x", "dict_context": []}
    return {"type": "collections.defaultdict", "context": context, "children_spec": []}


def torch_pickle(call):
    buffer = io.BytesIO()
    torch.save(call, buffer)
    return buffer.getvalue()


RUN = "__import__('os').mkdir({canary!r})"
FORGED = {
    "an expression": lambda c: {"change": set_size(RUN.format(canary=c))},
    "an expression of attributes": lambda c: {"change": set_size("Integer(1).__class__")},
    "an expression in a symbol": lambda c: {"change": set_size(f"Symbol({RUN.format(canary=c)!r})")},
    "an endless power": lambda c: {"change": set_size("Pow(Integer(9), Integer(99999999))")},
    "an endless power of powers": lambda c: {"change": set_size("9**9**9**9")},
    "an operation": lambda c: {"change": set_target("torch.os.system", c)},
    "an operation of a module": lambda c: {"change": set_target("torch.ops.aten.__class__.__init__", c)},
    "an operation that loads": lambda c: {"change": set_target("torch.ops.load_library", c)},
    "an operation that writes": lambda c: {"change": set_target("torch.ops.aten.save.default", c)},
    "an operation that makes files": lambda c: {"change": set_target("torch.ops.aten.from_file.default", c)},
    "an operator that calls": lambda c: {"change": set_target("_operator.__call__", c)},
    "an operator as argument": lambda c: {"change": set_argument({"as_operator": "torch.os.system"})},
    "an object as argument": lambda c: {"change": set_argument({"as_custom_obj": {"name": "x", "class_fqn": "y"}})},
    "a name with code": lambda c: {"change": rename("x", f"x=({RUN.format(canary=c)})")},
    "a weight's name with code": lambda c: {"change": rename("head.weight", f"a\", {RUN.format(canary=c)}, \"")},
    "an input tree that imports": lambda c: {"change": set_spec(defaults("this"))},
    "an enumeration that imports": lambda c: {"change": set_spec(enum("this"))},
    "a pickled weight": lambda c: {"change": set_payload(use_pickle=True)},
    "a weight elsewhere": lambda c: {"change": set_payload(path_name="opaque_obj_0")},
    "a pickled sample": lambda c: {"more": {"data/sample_inputs/model.pt": torch_pickle(Call(os.mkdir, c))}, "without": ("model.pt",)},
    "an old pickled sample": lambda c: {"more": {"data/sample_inputs/model.pt": pickle.dumps(Call(os.mkdir, c), 0)}, "without": ("model.pt",)},
    "old pickled weights": lambda c: {"more": {"data/weights/model.pt": pickle.dumps(Call(os.mkdir, c), 4)}},
    "a pickled constant": lambda c: {"more": {"data/constants/opaque_obj_0": pickle.dumps(Call(os.mkdir, c))}},
    "a second graph": lambda c: {"more": {"models/model_json": b"{}"}},
    "two files of one name": lambda c: {"more": {"models/MODEL.json": b"{}"}},
    "compiled code": lambda c: {"more": {"data/aotinductor/model/a.so": b"code"}},
    "a Python file": lambda c: {"more": {"code.py": b"code"}},
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_forged_programs(tmp_path, plain, valid, case):
    canary = tmp_path / "canary"
    path = repacked(valid, tmp_path / "net.pt2", **FORGED[case](str(canary)))
    text = refusal(plain, path)
    assert "it was not opened" in text
    assert not canary.exists()


def test_guards_of_a_program_are_not_run(tmp_path, valid):
    canary = tmp_path / "canary"
    code = f"True, '')\n{RUN.format(canary=str(canary))}\n#"
    path = repacked(
        valid, tmp_path / "net.pt2", set_top(guards_code=[code, RUN.format(canary="x")])
    )
    assert load_model(path, "cpu").target_layers == ["conv"]
    assert not canary.exists()


def test_names_of_layers_in_a_program_s_notes_are_not_run(tmp_path, valid):
    canary = tmp_path / "canary"
    evil = f'a" + str(getattr(__import__("os"), "mkdir")({str(canary)!r})) + "'

    def change(_, content):
        for node in nodes(content):
            stack = node["metadata"]["nn_module_stack"]
            node["metadata"]["nn_module_stack"] = stack.replace(",conv,", f",{evil},")

    load_model(repacked(valid, tmp_path / "net.pt2", change), "cpu")
    assert not canary.exists()


def test_a_program_saved_on_a_gpu_opens_on_the_cpu(tmp_path, valid):
    def change(_, content):
        text = json.dumps(content).replace(
            '{"type": "cpu", "index": null}', '{"type": "cuda", "index": 0}'
        )
        content.clear()
        content.update(json.loads(text))

    path = repacked(valid, tmp_path / "net.pt2", change)
    assert load_model(path, "cpu").target_layers == ["conv"]


class Writing(nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)
        self.path = path

    def forward(self, x):
        torch.save(x, self.path)
        return self.conv(x).mean(dim=[2, 3, 4])


class Mapping(Writing):
    def forward(self, x):
        y = torch.from_file(self.path, True, 8)
        return self.conv(x).mean(dim=[2, 3, 4]) + y.sum()


@pytest.mark.parametrize("net", [Writing, Mapping])
def test_torchscript_that_writes_files_is_not_run(tmp_path, plain, net):
    canary = tmp_path / "canary"
    path = tmp_path / "net.pt"
    quietly(lambda: torch.jit.script(net(str(canary))).save(str(path)))
    assert "it was not opened" in refusal(plain, path)
    assert not canary.exists()
