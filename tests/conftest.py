"""What all tests share, and how they are shared out between processes."""

import gc
import os
import re
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from napari_cnnvis.explain.registry import methods
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.scoring.worth import PassTimes

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
settings.register_profile(
    "project", deadline=None, max_examples=50, derandomize=True, database=None
)
settings.load_profile("project")

#: folders whose tests take long, longest first: with `-n` they are begun first
LONG = ("_napari", "training", "explain", "evaluate", "cli", "models")

_INTERNALS = re.compile(r"Traceback|object at 0x|<class|<_io|\w+Error[:(]|\n")


class _InFiles(LoadScopeScheduling):
    """A file's tests run in one process, and all that open windows in one as well.

    Two processes on one display could take the focus from each other. (xdist's own
    `--dist=loadgroup` gives up its groups with pytest 9.2, without a word.)
    """

    def _split_scope(self, nodeid):
        return "windows" if "/_napari/" in nodeid else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return _InFiles(config, log)


def pytest_collection_modifyitems(items):
    """With `-n`, what takes long is begun first."""

    def rank(item):
        return next((n for n, folder in enumerate(LONG) if f"/{folder}/" in item.nodeid), len(LONG))

    items.sort(key=rank)


def pytest_collection_finish():
    """Leave what was imported out of garbage collection, which napari asks for at every window."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def time_decides_nothing(monkeypatch):
    """Which engine scores regions is chosen by its work alone, on a busy machine as on a quiet one."""
    monkeypatch.setattr(PassTimes, "may_pay", lambda self: True)
    monkeypatch.setattr(PassTimes, "pays", lambda self, *measured: True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference weights and label volumes, which lies beside the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def fitting():
    """A request with those of some parameters that the method has."""

    def make(method, target, **parameters):
        known = methods()[method].parameters()
        return ExplainRequest(method, target, **{n: v for n, v in parameters.items() if n in known})

    return make


@pytest.fixture(scope="session")
def plain():
    """A check that an error's text is made for users, and names the file `about`."""

    def check(error: BaseException, about: object = "") -> str:
        text = str(error)
        assert str(about) in text
        assert not _INTERNALS.search(text), text
        assert text.endswith("."), text
        return text

    return check


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory, monkeypatch):
    """What is remembered of checkpoints is kept in a folder of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
