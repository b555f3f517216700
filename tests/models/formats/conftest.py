"""A small network in every file format."""

import pytest

from .small_files import SUFFIXES, content_of


@pytest.fixture(scope="module")
def valid():
    return {kind: content_of(kind) for kind in SUFFIXES}
