"""The user's guide: Markdown pages and their pictures."""

from __future__ import annotations

from pathlib import Path

__all__ = ["page", "pages"]

_FOLDER = Path(__file__).parent


def pages() -> list[str]:
    """The names of all pages."""
    return sorted(path.stem for path in _FOLDER.glob("*.md"))


def page(name: str) -> Path:
    """The Markdown file of a page.

    Raises
    ------
    ValueError
        If there is no such page.
    """
    if name not in pages():
        raise ValueError(f"The guide has no page '{name}'; it has {', '.join(pages())}.")
    return _FOLDER / f"{name}.md"
