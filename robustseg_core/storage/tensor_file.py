"""Files of tensors (safetensors) that are the same bytes whenever they hold the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from robustseg_core.errors import RobustsegError
from robustseg_core.storage.output_folder import replacing

_LENGTH = 8
"""Bytes before the header, which say how long it is."""


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Make `path` of what `write` puts into a file; it is replaced in one piece or not at all.

    Args:
        path: of the file.
        write: safetensors' `save_file`, with all but the path.

    Raises:
        RobustsegError: it cannot be written.
    """
    try:
        with replacing(path) as unfinished:
            write(unfinished)
            settle(unfinished)
            unfinished.chmod(0o644)  # safetensors lets nobody else read it
    except (OSError, SafetensorError) as error:
        raise RobustsegError(f"cannot write {path}: {error}; choose a writable folder") from None


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
