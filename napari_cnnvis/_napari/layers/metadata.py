"""What this plugin keeps in the metadata of napari's layers, and under which keys.

Nothing else reads or writes ``layer.metadata``. Each key begins with the plugin's name and
holds plain values, so that layers can be copied, converted and saved, and entries of the user
and of other plugins stay as they are. `scan_of`, `map_of` and `regions_of` give typed values.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

__all__ = ["Entry", "as_aside", "is_aside", "read_entry", "with_entries", "write_entries"]


class Entry(Enum):
    """The entries, and their keys."""

    #: where a layer lies in the patient, and the file that says so: dict
    SCAN = "napari-cnnvis scan"
    #: the record of a map, its cells and the scores of its regions: dict
    MAP = "napari-cnnvis map"
    #: all values of a map while a part of them is hidden: array
    WHOLE_MAP = "napari-cnnvis whole map"
    #: the `TrustReport` of a map
    TRUST = "napari-cnnvis trust report"
    #: the hierarchy of a Labels layer, or that an image shows contours: dict
    REGIONS = "napari-cnnvis regions"
    #: set on layers that stand beside the user's own, such as marks and previews: True
    ASIDE = "napari-cnnvis aside"


def read_entry(layer: Any, entry: Entry) -> Any:
    """What a layer keeps under an entry, or None.

    Parameters
    ----------
    layer : napari layer or mapping
        A mapping is a layer's attributes, as a writer is given them.
    entry : Entry
    """
    owner = isinstance(layer, Mapping)
    metadata = layer.get("metadata") if owner else getattr(layer, "metadata", None)
    return metadata.get(entry.value) if isinstance(metadata, Mapping) else None


def write_entries(layer: Any, entries: Mapping[Entry, Any], tell: bool = True) -> None:
    """Keep values in a layer, None to drop an entry; all else in its metadata stays.

    `tell` lets the layer emit ``events.metadata``.
    """
    changed = _changed(layer.metadata, entries)
    if tell:
        layer.metadata = changed
    else:
        layer.metadata.clear()
        layer.metadata.update(changed)


def with_entries(arguments: Mapping[str, Any], entries: Mapping[Entry, Any]) -> dict[str, Any]:
    """The keyword arguments of a new layer, with these entries in its metadata too."""
    return {**arguments, "metadata": _changed(arguments.get("metadata") or {}, entries)}


def _changed(metadata: Mapping[str, Any], entries: Mapping[Entry, Any]) -> dict[str, Any]:
    ours = {entry.value: value for entry, value in entries.items()}
    others = {key: value for key, value in metadata.items() if key not in ours}
    return others | {key: value for key, value in ours.items() if value is not None}


def as_aside(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a layer that no panel offers: a preview, a mark, a copy."""
    return with_entries(arguments, {Entry.ASIDE: True})


def is_aside(layer: Any) -> bool:
    """Whether a layer stands beside the user's scans, maps and regions."""
    return read_entry(layer, Entry.ASIDE) is True
