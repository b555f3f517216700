"""What the commands write: never over what they read, and over other files when that is asked for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.reading import source_file
from napari_cnnvis.writing import companion, is_same_file

__all__ = ["HOW", "add_overwrite", "check_outputs", "given_files"]

#: how a user of the commands says that a file may be replaced
HOW = "--overwrite"
#: options that may name files
_INPUTS = ("scan", "channel", "head", "model", "map", "supervoxels", "parameter:baseline")
_INPUTS += ("deleted_to", "table")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    parser.add_argument(
        HOW, action="store_true", help="replace files that are there (never one that is read)"
    )


def given_files(options: argparse.Namespace) -> list[str]:
    """The files and folders that a command was given to read."""
    files = []
    for name in _INPUTS:
        given = getattr(options, name, None)
        for value in given if isinstance(given, list) else [given]:
            parts = (str(value), str(value).partition("=")[2])  # NAME=FILE
            named = [source_file(part)[0] for part in parts if value is not None]
            files += [file for file in named if os.path.exists(file)]
    return files


def check_outputs(
    options: argparse.Namespace, outputs: list[tuple[str | None, Callable[..., Any]]]
) -> None:
    """Ask for each output, before anything is computed, whether it can be written.

    Parameters
    ----------
    options : Namespace
    outputs : list of (str or None, callable)
        Paths that were given, and what checks them, such as `check_writable`.

    Raises
    ------
    CnnVisError
        If one cannot, or two are the same file.
    """
    given = [(path, check) for path, check in outputs if path]
    for number, (path, check) in enumerate(given):
        check(path, given_files(options), options.overwrite, HOW)
        for other, its_check in given[:number]:
            one_json = check is its_check and is_same_file(companion(path), companion(other))
            if one_json or is_same_file(path, other):
                raise CnnVisError(
                    f"{other} and {path} would be written over each other; give each a name of its own."
                )
