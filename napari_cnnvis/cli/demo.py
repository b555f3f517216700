"""``napari-cnnvis demo``: the viewer with a sample scan, network and map."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from napari_cnnvis.cli.outputs import HOW, add_overwrite
from napari_cnnvis.cli.terminal import Stopped, stop_in_order
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.sample_data import sample_networks
from napari_cnnvis.writing import check_output

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    demo = commands.add_parser("demo", help="open the viewer with a sample scan, network and map")
    demo.add_argument(
        "--screenshot",
        metavar="PNG",
        help="render the map in 3D into this file and quit; needs no screen if xvfb is installed",
    )
    add_overwrite(demo)
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    if options.screenshot:
        check_output(options.screenshot, sample_networks(), options.overwrite, HOW)
    if not _has_display():
        if not options.screenshot:
            raise CnnVisError(
                "There is no display to open a window on. Use --screenshot out.png to render "
                "without one."
            )
        if shutil.which("xvfb-run") is None:
            raise CnnVisError(
                "There is no display, and no virtual one: install it with 'apt-get install xvfb "
                "xauth libgl1 libegl1 libgl1-mesa-dri', then run this again."
            )
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", sys.executable, "-m"]
        command += ["napari_cnnvis.cli", "demo", "--screenshot", options.screenshot]
        command += [HOW] * options.overwrite
        return _run(command)
    with stop_in_order() as stop:
        from napari_cnnvis._napari.demo import show_demo

        show_demo(options.screenshot, stop.cancel)
    return 0


def _run(command: list[str]) -> int:
    """Run this command again in xvfb-run, which would not hand on a signal, nor tidy up after one."""
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait()
        except Stopped as exc:
            while not (python := _python_below(process.pid)) and process.poll() is None:
                time.sleep(0.05)
            for child in python:
                child.send_signal(exc.number)
            if process.wait() == exc.status:  # and has said so
                sys.exit(exc.status)
            raise


def _python_below(pid: int) -> list[Any]:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children(recursive=True)
        return [child for child in children if child.cmdline()[:1] == [sys.executable]]
    return []


def _has_display() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
