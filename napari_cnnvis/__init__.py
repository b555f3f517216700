"""See in 3D where a convolutional network looks in a brain scan.

The names below are loaded when they are first used, so that importing the
package pulls in neither torch nor Qt.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "Attribution": "explain",
    "CnnVisError": "errors",
    "Hierarchy": "ucm",
    "InputSpec": "conform",
    "Model": "models",
    "Progress": "explain",
    "Volume": "volume",
    "build_hierarchy": "ucm",
    "cam": "explain",
    "grad_cam": "explain",
    "load_model": "models",
    "read_volume": "volume",
    "roc_auc": "evaluate",
    "save_model": "models",
    "sensitivity": "explain",
    "write_volume": "volume",
}
__all__ = sorted(_PLACES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
