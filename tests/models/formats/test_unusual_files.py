"""Files that hold something else than a network are refused; unusual ones that hold one load."""

import json
import struct
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from napari_cnnvis.errors import MethodError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY, write_safetensors

from .small_files import SUFFIXES, Net, npz, quietly, refusal, saved, state, written, zipped


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
