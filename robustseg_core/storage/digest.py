"""What tells the content of a file from another's; a file may be larger than memory."""

from __future__ import annotations

import hashlib
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


def sampled(path: Path) -> bytes:
    """SHA-256 of a file up to 1 MiB; of a larger one, of 16 blocks of 64 KiB from end to end.

    What was recorded at another time differs in each of them; a change to some bytes may not.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():  # a folder among pictures
        return b""
    if (size := path.stat().st_size) <= _SAMPLES * _SAMPLE:
        return sha256(path).digest()
    total = hashlib.sha256()
    with path.open("rb") as file:
        for k in range(_SAMPLES):
            file.seek(k * (size - _SAMPLE) // (_SAMPLES - 1))
            total.update(file.read(_SAMPLE))
    return total.digest()
