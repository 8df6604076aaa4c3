"""Files of tensors (safetensors) that are the same bytes whenever they hold the same."""

from __future__ import annotations

import json
from pathlib import Path

_LENGTH = 8
"""Bytes before the header, which say how long it is."""


def settle(path: Path) -> None:
    """Put the metadata of a file in the order of its keys, in place; nothing else changes.

    safetensors writes metadata in an order that is drawn anew in each process.

    Args:
        path: of a file that safetensors has just written.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the same keys and values, written more tightly"
        file.seek(_LENGTH)
        file.write(text.ljust(length))
