"""Rows of look-up tables without columns: a label a line, as FreeSurfer, ITK-SNAP and others write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

__all__ = ["Colour", "Row", "colour", "fractions", "is_label", "plain_rows"]

Colour = tuple[int, int, int]
#: number, name, and colour where it is known
Row = tuple[int, str, Colour | None]

#: digits of a label
_DIGITS = 18
#: tissue types of FreeSurfer are smaller
_TISSUES = 20


def plain_rows(lines: Sequence[str]) -> list[Row] | None:
    """The rows of a table without header and separators; None if a line is not of one."""
    readers = [_itk_snap_row, _fsleyes_row, _freesurfer_row]
    if not any(mark in line for line in lines for mark in "\t,;|"):
        readers.append(_pair_row)
    for read in readers:
        rows = list(_rows_until_none(lines, read))
        if lines and len(rows) == len(lines):
            return _with_tissues(lines, rows) if read is _freesurfer_row else rows
    return None


def _rows_until_none(lines: Sequence[str], read: Callable[[str], Row | None]) -> Iterator[Row]:
    """The rows of the lines up to the first that `read` cannot read, with what follows a # or without."""
    for line in lines:
        row = read(line) or _without_comment(line, read)
        if row is None:
            return
        yield row


# no regular expressions: what goes back to try again can take for ever on a hostile line
def _itk_snap_row(line: str) -> Row | None:
    """Number, red, green, blue, alpha, visible, in the mesh, "name"."""
    parts = line.split(None, 7)
    if len(parts) < 8 or not is_label(parts[0]) or not all(map(_is_number, parts[1:4])):
        return None
    quoted, inside = parts[7], parts[7][1:-1]
    if len(quoted) < 2 or quoted[0] != '"' or quoted[-1] != '"' or '"' in inside:
        return None
    if not _is_decimal(parts[4]) or not {parts[5], parts[6]} <= {"0", "1"}:
        return None
    return int(parts[0]), inside, colour(*parts[1:4])


def _without_comment(line: str, read: Callable[[str], Row | None]) -> Row | None:
    for mark in (" #", "\t#", " //", "\t//"):
        if mark in line:
            return read(line.partition(mark)[0].rstrip())
    return None


def _fsleyes_row(line: str) -> Row | None:
    """Number, red, green and blue from 0 to 1, name."""
    parts = line.split(None, 4)
    if len(parts) < 5 or not is_label(parts[0]) or not all("." in part for part in parts[1:4]):
        return None
    if not all(map(_is_decimal, parts[1:4])) or not _has_letter(parts[4]):
        return None
    return int(parts[0]), parts[4], fractions(*parts[1:4])


def _freesurfer_row(line: str) -> Row | None:
    """Number, name, red, green, blue, perhaps alpha."""
    for numbers in (4, 3):
        parts = line.rsplit(None, numbers)
        head = parts[0].split(None, 1)
        if len(parts) == numbers + 1 and len(head) == 2 and all(map(_is_number, parts[1:])):
            number, name = head
            return (int(number), name.strip('"'), colour(*parts[1:4])) if is_label(number) else None
    return None


def _with_tissues(lines: Sequence[str], rows: list[Row]) -> list[Row]:
    """The rows of a table of FreeSurfer 8, in which a tissue type follows alpha, in some or all rows.

    A name may end in a number too. Alpha is 0 (or 255), tissue types are small, and no two names
    are the same without their last number.
    """
    changed = list(rows)
    for place, line in enumerate(lines):
        parts = line.partition(" #")[0].rsplit(None, 5)
        head = parts[0].split(None, 1)
        if len(parts) < 6 or len(head) < 2 or not all(map(_is_number, parts[1:])):
            continue
        alpha, tissue = int(parts[4]), int(parts[5])
        if not (alpha == 0 or (alpha == 255 and tissue > 0)) or tissue >= _TISSUES:
            return rows
        changed[place] = int(head[0]), head[1].strip('"'), colour(*parts[1:4])
    names = [name for _, name, _ in changed]
    return changed if len(set(names)) == len(names) else rows


def _pair_row(line: str) -> Row | None:
    """A number and a name of words, then perhaps other numbers, as AAL has it."""
    number, *rest = line.split(None, 1)
    if not rest or not is_label(number):
        return None
    words = rest[0].split()
    n_words = next((n for n, word in enumerate(words) if not _has_letter(word)), len(words))
    after = words[n_words:]
    if not n_words or not all(_is_decimal(part.removeprefix("-")) for part in after):
        return None
    return int(number), rest[0].rsplit(None, len(after))[0] if after else rest[0], None


def _is_decimal(text: str) -> bool:
    return bool(text) and all(c == "." or c.isdecimal() for c in text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS


def is_label(text: str) -> bool:
    return _is_number(text.removeprefix("-"))


def _has_letter(word: str) -> bool:
    return any(c == "_" or (c.isalnum() and not c.isdecimal()) for c in word)


def fractions(*channels: str) -> Colour | None:
    """Red, green and blue from 0 to 255, from numbers from 0 to 1."""
    try:
        return colour(*(str(255 * float(channel)) for channel in channels))
    except ValueError:
        return None


def colour(*channels: str) -> Colour | None:
    """Red, green and blue from 0 to 255, from such numbers; None if they are none."""
    try:
        red, green, blue = (int(min(max(float(c), 0), 255)) for c in channels)
    except ValueError:
        return None
    return red, green, blue
