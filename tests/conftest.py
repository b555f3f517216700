"""What all tests share."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(2)
settings.register_profile(
    "project", deadline=None, max_examples=50, derandomize=True, database=None
)
settings.load_profile("project")

_INTERNALS = re.compile(r"Traceback|object at 0x|<class|<_io|\w+Error[:(]|\n")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference weights and label volumes, which lies beside the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


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
