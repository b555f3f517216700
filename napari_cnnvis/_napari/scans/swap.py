"""Put another scan, and another map, into the layers that are there, as the user has set them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_cnnvis._napari.layers.scans import scan_of, set_scan
from napari_cnnvis._napari.scans.loader import LoadedScan

__all__ = ["keeping_limits", "move_to", "same_size", "swap_scan"]

#: contrast is set again where the intensities are so many times wider or narrower
_WILD = 4


def swap_scan(viewer: Any, layer: Any, scan: LoadedScan, before: tuple[float, float] | None) -> Any:
    """Show a scan in a layer, or in a new one if there is none (any more).

    Camera, slices, colormap and all else stay. The contrast stays, unless the
    intensities differ so much from those `before` that it would show nothing.

    Returns
    -------
    layer
    """
    if layer is None or layer not in viewer.layers:
        return viewer.add_image(scan.data, **scan.arguments)
    point = viewer.dims.point
    limits = tuple(layer.contrast_limits)
    layer.data = scan.data
    for name in ("scale", "translate"):
        if not np.allclose(getattr(layer, name), scan.arguments[name], rtol=0, atol=1e-9):
            setattr(layer, name, scan.arguments[name])
    set_scan(layer, scan_of(scan.arguments))
    if layer.name != scan.arguments["name"]:
        layer.name = scan.arguments["name"]
    _set_contrast(layer, scan, before, limits)
    if viewer.dims.point != point:
        viewer.dims.point = point
    return layer


def _set_contrast(
    layer: Any, scan: LoadedScan, before: tuple[float, float] | None, limits: tuple[float, float]
) -> None:
    low, high = float(scan.data.min()), float(scan.data.max())
    high = high if high > low else low + 1
    if before is None or not same_size(before, scan.span):
        layer.contrast_limits_range = (low, high)
        layer.contrast_limits = (low, high)
        return
    span = min(low, limits[0]), max(high, limits[1])
    if tuple(layer.contrast_limits_range) != span:
        layer.contrast_limits_range = span
    if tuple(layer.contrast_limits) != limits:
        layer.contrast_limits = limits


def same_size(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether two spans of values overlap and neither is many times as wide as the other."""
    widths = sorted((a[1] - a[0], b[1] - b[0]))
    overlap = min(a[1], b[1]) > max(a[0], b[0])
    return a == b or (overlap and widths[1] <= _WILD * widths[0])


def move_to(overlay: Any, layer: Any) -> None:
    """Put an overlay where its scan now lies; its own data comes later."""
    for name in ("scale", "translate"):
        if not np.array_equal(getattr(overlay, name), getattr(layer, name)):
            setattr(overlay, name, getattr(layer, name))
    set_scan(overlay, scan_of(layer))


@contextlib.contextmanager
def keeping_limits(overlay: Any) -> Iterator[None]:
    """Inside the block another map comes into an overlay; after it the contrast is as it was.

    So maps of several scans can be compared. Where the new map is many times stronger or
    weaker, or has a sign where the old one had none, its own limits are kept.
    """
    span, limits = tuple(overlay.contrast_limits_range), tuple(overlay.contrast_limits)
    events = overlay.events
    with events.contrast_limits.blocker(), events.contrast_limits_range.blocker():
        yield
        own = tuple(overlay.contrast_limits_range)
        if own != span and (own[0] < 0) == (span[0] < 0) and same_size(own, span):
            overlay.contrast_limits_range = min(own[0], span[0]), max(own[1], span[1])
            overlay.contrast_limits = limits
    if tuple(overlay.contrast_limits_range) != span:  # told once, not at every step
        events.contrast_limits_range()
    if tuple(overlay.contrast_limits) != limits:
        events.contrast_limits()
