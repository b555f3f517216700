"""The command ``napari-cnnvis``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from napari_cnnvis.cli import demo, evaluate, explain, figure, info, supervoxels, train, trust
from napari_cnnvis.errors import CnnVisError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0, or 2 with one plain sentence on stderr)."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except CnnVisError as exc:
        print(f"napari-cnnvis: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("napari-cnnvis: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-cnnvis", description="See in 3D where a CNN looks in a brain scan."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (demo, info, explain, figure, supervoxels, train, evaluate, trust):
        command.add_parser(commands)
    return parser
