"""The command ``napari-cnnvis``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from napari_cnnvis.cli.terminal import Stopped, say, stops
from napari_cnnvis.errors import CnnVisError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    That is 0, or with a plain sentence on stderr 2 (an error), 130 (Ctrl+C) or 143 (SIGTERM).
    """
    try:
        with stops():
            options = _parser().parse_args(arguments)
            return options.run(options)
    except CnnVisError as exc:
        status, text = 2, str(exc)
    except Stopped as exc:
        status, text = exc.status, str(exc)
    say(f"napari-cnnvis: {text}")
    return status


def _parser() -> argparse.ArgumentParser:
    # takes long enough to be stopped, so not before `stops`
    from napari_cnnvis.cli import demo, evaluate, explain, figure, info, supervoxels, train, trust

    parser = argparse.ArgumentParser(
        prog="napari-cnnvis", description="See in 3D where a CNN looks in a brain scan."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (demo, info, explain, figure, supervoxels, train, evaluate, trust):
        command.add_parser(commands)
    return parser
