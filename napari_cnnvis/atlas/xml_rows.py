"""Labels of atlases in XML: those of CAT12 and SPM, and those of FSL."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from napari_cnnvis.atlas.plain_rows import Row, is_label
from napari_cnnvis.errors import VolumeError

__all__ = ["xml_rows"]


def xml_rows(text: str, name: str) -> list[Row]:
    """The labels of an atlas.

    Parameters
    ----------
    text : str
        ``<label><index>1</index><name>...</name></label>`` (SPM, CAT12) or
        ``<label index="0">...</label>`` (FSL; those of a probabilistic atlas count from 0, and
        the values of its label volume from 1).
    name : str
        Of the file.

    Raises
    ------
    VolumeError
        If it is no XML, or defines entities, which no atlas needs.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise VolumeError(
            f"{name} defines entities, which no list of labels needs; it was not read."
        )
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as exc:
        raise VolumeError(
            f"{name} is not XML that can be read: it is damaged or incomplete. Copy it again."
        ) from exc
    kind = (root.findtext("header/type") or "").strip().lower()
    first = 1 if kind.startswith("prob") else 0
    return list(_rows(root, first))


def _rows(root: ElementTree.Element, first: int) -> Iterator[Row]:
    for label in root.iter("label"):
        parts = {child.tag.lower(): (child.text or "").strip() for child in label}
        number = parts.get("index") or parts.get("id") or ""
        named = parts.get("name") or parts.get("long_name") or parts.get("short_name") or ""
        if not number:
            number, named = label.get("index", ""), (label.text or "").strip()
            number = str(int(number) + first) if is_label(number) else ""
        if is_label(number) and named:
            yield int(number), named, None
