"""A folder to work in, with a module that leaves a canary."""

import sys

import pytest
import torch

from .named_networks import _Evil


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files that leave a canary when they are run, imported or unpickled."""
    canary = tmp_path / "canary"
    leave = f"import os\nos.makedirs({str(canary)!r}, exist_ok=True)\n"
    for name in ("evil.py", "evil_cnnvis_module.py", "hubconf.py"):
        (tmp_path / name).write_text(leave)
    torch.save(_Evil(str(canary)), tmp_path / "evil.pkl")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("evil_cnnvis_module", None)
    assert not canary.exists()
