"""Other people's words on a line of ours: names of files, topics and classes, as they are.

What is no printable character is written out, so that no name moves a cursor, ends a line or hides
another.
"""

from __future__ import annotations

from typing import Any

_FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001 (spreadsheets believe the wide ones, too)


def visible(text: object) -> str:
    r"""`text` on one line, with what is no printable character written out, e.g. as \n or \x1b.

    As `repr` judges: control characters, marks that turn the direction of writing, odd spaces. A
    byte of a file name that is no UTF-8 is shown as \xff. All else stays, brackets and backslashes
    too.
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(c if c.isprintable() else _written_out(c) for c in words)


def _written_out(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python carries such a byte
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def csv_cell(value: Any) -> Any:
    """`value` for a CSV file: on one line, and no formula for those who open it as a table."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
