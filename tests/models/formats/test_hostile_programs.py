"""Exported programs and TorchScript with code of others: nothing of it is run."""

import io
import json
import os
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn

from napari_cnnvis.models.checkpoint import load_model

from .small_files import Call, quietly, refusal, zipped


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
