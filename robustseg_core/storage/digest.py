"""What tells the content of a file from another's; a file may be larger than memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK = 1 << 20
_SAMPLES, _SAMPLE = 16, 1 << 16
"""Blocks of a large file, and the bytes of each."""


def sha256(path: Path) -> _Hash:
    """The SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total


def sampled(files: Iterable[Path]) -> str:
    """What tells files from others of the same names and sizes, without reading all of large ones.

    A file counts with its name and its bytes; one above 1 MiB with 16 blocks of 64 KiB from end to
    end. What was recorded at another time differs in each of them; a change to some bytes may not.

    Returns:
        SHA-256, in hexadecimal.

    Raises:
        OSError: one cannot be read.
    """
    total = hashlib.sha256()
    for path in files:
        total.update(os.fsencode(path.name))
        size = path.stat().st_size
        if size <= _SAMPLES * _SAMPLE:
            total.update(sha256(path).digest())
            continue
        with path.open("rb") as file:
            for k in range(_SAMPLES):
                file.seek(k * (size - _SAMPLE) // (_SAMPLES - 1))
                total.update(file.read(_SAMPLE))
    return total.hexdigest()
