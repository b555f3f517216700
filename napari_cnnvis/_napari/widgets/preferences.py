"""What is set in napari's Preferences, and what is remembered from the last time."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSettings

__all__ = ["preference", "recall", "remember"]

#: as in the manifest
_DEFAULTS = {"device": "auto", "method": "grad-cam", "hide_outside": False, "cache_gigabytes": 5.0}


def preference(name: str) -> Any:
    """A setting of the plugin's Preferences page (from napari 0.9 on), or its default."""
    try:
        from napari.settings import get_plugin_settings

        return getattr(get_plugin_settings("napari-cnnvis").running, name)
    except (ImportError, AttributeError, KeyError, ValueError):  # an older napari
        return _DEFAULTS[name]


def remember(name: str, value: str) -> None:
    """Keep something for the next time, such as the last folder."""
    QSettings("napari-cnnvis", "napari-cnnvis").setValue(name, value)


def recall(name: str, default: str = "") -> str:
    """What was kept, or `default`."""
    return str(QSettings("napari-cnnvis", "napari-cnnvis").value(name, default))
