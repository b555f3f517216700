"""The type checker finds nothing in the packages that `[tool.mypy]` names."""

import subprocess
import sys
from pathlib import Path


def test_types():
    made = subprocess.run(
        [sys.executable, "-m", "mypy"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
