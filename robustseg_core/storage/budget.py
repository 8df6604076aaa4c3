"""How much a file or message may become when it is unpacked: one rule for everything.

A few bytes can claim, or become, any number. Whoever unpacks asks `budget()` first, and unpacks
with its functions, which never make more than one byte beyond the limit. Shares of the budget:

    everything unpacked out of one file      all of it, or `ratio` times the file
    what lies unpacked in memory at once     a half
    one piece: chunk, message, row           an eighth; and what is beyond a sixteenth may be no
                                             more than `ratio` times its packed size
"""

from __future__ import annotations

import bz2
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from lz4.frame import LZ4FrameDecompressor

from robustseg_core.errors import RobustsegError, what_is
from robustseg_core.storage.limits import LIMIT, RATIO

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


DEEPEST = 64
"""Levels that YAML and JSON may nest; nobody writes more, and parsers recurse."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1 << 10 * power for power, unit in enumerate("kmgt", start=1)}
_SMALLEST = 1 << 20
_BLOCK = 1 << 16
_STREAMS = 256
"""Compressed streams, one behind the other, in one piece; each costs a copy of the rest."""


class OverBudget(RobustsegError):
    """Something would become more than the budget allows when it is unpacked."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be unpacked."""

    limit: int = 1 << 30
    """Bytes."""
    ratio: int = 256
    """Unpacked bytes of one packed byte, where it is much."""

    @property
    def held(self) -> int:
        """Bytes that may lie unpacked in memory at once."""
        return self.limit // 2

    @property
    def largest(self) -> int:
        """Bytes of the largest piece: it lies there packed, unpacked, cut out and decoded."""
        return self.limit // 8

    @property
    def small(self) -> int:
        """Bytes that may come out of anything."""
        return self.limit // 16

    def piece(self, packed: int) -> int:
        """Bytes that one piece of `packed` bytes may become."""
        return min(self.largest, max(self.small, self.ratio * packed))

    def whole(self, packed: int) -> int:
        """Bytes that may come out of a whole file of `packed` bytes."""
        return max(self.limit, self.ratio * packed)

    def check(self, size: int, what: str, *, packed: int | None = None) -> int:
        """`size`, the bytes that one piece says it has, or has.

        Args:
            size: bytes.
            what: subject and verb of the sentence: `chunk at byte 9 claims`.
            packed: bytes that it has now; None: it is not packed.

        Raises:
            OverBudget: says the value, the limit and the way out.
        """
        limit = self.largest if packed is None else self.piece(packed)
        if size <= limit:
            return size
        of = "" if packed is None else f" of {packed} bytes"
        raise OverBudget(
            f"{what} {_size(size)}; the limit of one piece{of} is {_size(limit)}; "
            f"if you trust it, {self._way_out(size, packed)}"
        )

    def _way_out(self, size: int, packed: int | None) -> str:
        wanted, options, names = max(self.limit, 8 * size), [], []
        if wanted > self.limit:
            options.append(f"--unpack-limit to {_gib(wanted)}")
            names.append(LIMIT)
            wanted = parse_size(_gib(wanted), LIMIT)
        if packed is not None and size > max(wanted // 16, self.ratio * packed):
            options.append(f"--unpack-ratio to {-(-size // max(1, packed))}")
            names.append(RATIO)
        return f"raise {' and '.join(options)} (or {', '.join(names)})"

    def unpack(
        self,
        compression: str,
        packed: bytes,
        what: str,
        *,
        size: int | None = None,
        broken: bool = False,
    ) -> bytes:
        """`packed` unpacked, and never a byte more than `piece` allows it.

        Args:
            compression: `zstd`, `lz4`, `bz2` or `zlib`.
            packed: one compressed stream; of zstd and bz2 also several, one behind the other.
            what: subject of the sentence.
            size: bytes that it should become; more is refused.
            broken: accept a stream that ends early.

        Raises:
            OverBudget: it would be more than the budget allows, or than `size`.
            ValueError: the bytes are no such stream, or end early.
        """
        limit = self.piece(len(packed))
        if size is not None:
            limit = self.check(size, f"{what} claims", packed=len(packed))
        parts: list[bytes] = []
        try:
            _unpack(compression, packed, limit, parts, step=size)
        except (zstd.ZstdError, RuntimeError, OSError, EOFError, zlib.error) as error:
            if not broken:
                raise ValueError(f"{compression}: {error}") from None
        if sum(map(len, parts)) > limit:
            if size is not None:
                raise OverBudget(
                    f"{what} claims {size} bytes and becomes more; it is damaged, or a trap"
                )
            raise OverBudget(
                f"{what} becomes more than {_size(limit)}, the limit of one piece of "
                f"{len(packed)} bytes; if you trust it, "
                f"{self._way_out(limit + 1, len(packed))} or more"
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpack(
    compression: str, packed: bytes, limit: int, parts: list[bytes], *, step: int | None
) -> None:
    """Append to `parts` what comes out, up to one byte more than `limit`; `step`: at once."""
    left = limit + 1
    step = max(_BLOCK, 4 * len(packed)) if step is None else step + 1
    for number in range(_STREAMS):
        stream = _STREAM[compression]()
        try:
            while not stream.eof and left:
                part = stream.decompress(packed, min(left, step))
                packed = b""
                step *= 2  # lz4 allocates it, and copies what is still packed at each step
                left -= len(part)
                if part:
                    parts.append(part)
                elif not stream.eof:
                    raise EOFError("it ends early")
        except OSError:
            if compression == "bz2" and number:
                return  # a tail that is none, as bz2 itself allows it
            raise
        packed = stream.unused_data or b""
        if not left or not packed or compression == "lz4":
            return
    raise EOFError(f"more than {_STREAMS} streams, one behind the other")


class Meter:
    """What comes out of one file in one pass over it, and how much of that is held at once.

    Raises:
        OverBudget: by `take` and `hold`, when it is more than the budget allows.
    """

    def __init__(self, budget: Budget, packed: int) -> None:
        self._budget, self._packed = budget, packed
        self._taken = self._held = 0

    def take(self, size: int, what: str) -> None:
        """Count `size` bytes more; what is refused is not counted."""
        limit = self._budget.whole(self._packed)
        if self._taken + size > limit:
            raise OverBudget(
                f"with {what} the file becomes more than {_size(limit)}, the limit of a file of "
                f"{self._packed} bytes; if you trust it, raise --unpack-limit to "
                f"{_gib(2 * (self._taken + size))} or more (or {LIMIT})"
            )
        self._taken += size

    def hold(self, size: int, what: str) -> None:
        """Count `size` bytes that stay in memory until `release`."""
        if self._held + size > self._budget.held:
            raise OverBudget(
                f"{what} overlaps others that are held already, over {_size(self._budget.held)} "
                f"with it; if you trust the file, raise --unpack-limit to "
                f"{_gib(4 * (self._held + size))} or more (or {LIMIT})"
            )
        self._held += size

    def release(self, size: int) -> None:
        """They are no longer there."""
        self._held -= size


def budget() -> Budget:
    """The budget of this process: `Budget()`, changed by the environment (`LIMIT`, `RATIO`).

    Raises:
        RobustsegError: a variable holds no size, or one too small to work with.
    """
    return _budget(os.environ.get(LIMIT, ""), os.environ.get(RATIO, ""))


@lru_cache(maxsize=16)
def _budget(limit: str, ratio: str) -> Budget:
    made = Budget()
    if limit:
        made = Budget(parse_size(limit, LIMIT), made.ratio)
    if ratio:
        if not re.fullmatch(r"[1-9]\d{0,11}", ratio, re.ASCII):
            raise RobustsegError(
                f"{RATIO} is {ratio!r}; write how many bytes one may become, e.g. {made.ratio}"
            )
        made = Budget(made.limit, int(ratio))
    return made


def parse_size(text: str, name: str) -> int:
    """Bytes of a word like `512MiB`, `4GiB` or `2G`.

    Raises:
        RobustsegError: it is no size, or less than 1 MiB; the text names it `name`.
    """
    found = re.fullmatch(r"(\d{1,18})\s*([kmgt]?i?)b?", text.strip().lower(), re.ASCII)
    if found is None or found[2] not in _UNITS:
        raise RobustsegError(f"{name} is {text!r}; write a size, e.g. 512MiB or 4GiB")
    size = int(found[1]) * _UNITS[found[2]]
    if size < _SMALLEST:
        raise RobustsegError(f"{name} is {text!r}; it must be at least 1MiB, e.g. 512MiB or 4GiB")
    return size


def read_text(path: Path) -> str:
    """The text in a file of the kind that people write: a 256th of the budget at most.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
        OverBudget: it is longer.
    """
    return _read(path, budget().limit // 256).decode().replace("\r\n", "\n")


def read_json(path: Path) -> Any:
    """What is in a JSON file: a sixteenth of the budget at most.

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_json`.
        OverBudget: it is longer.
    """
    return parse_json(_read(path, budget().small))


def _read(path: Path, limit: int) -> bytes:
    parts: list[bytes] = []
    if path.is_fifo():  # to open one that nobody writes into takes for ever
        raise RobustsegError(f"{path} {what_is(path)}; give a file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while size <= limit and (
            part := file.read(_SMALLEST)
        ):  # a device says 0, and may be endless
            parts.append(part)
            size = max(size, sum(map(len, parts)))
    if size > limit:
        raise OverBudget(
            f"{path} has {_size(size)} or more; the limit of a file of its kind is {_size(limit)}; "
            f"if you trust it, raise --unpack-limit (or {LIMIT})"
        )
    return b"".join(parts)


def check_zip(path: Path) -> None:
    """Nothing, if what a zip archive (.npz, .pt) says of its members may be unpacked.

    Raises:
        OSError, zipfile.BadZipFile: it cannot be read.
        OverBudget: one of them, or all together, would be too much.
    """
    allowed, meter = budget(), Meter(budget(), path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            meter.take(member.file_size, f"{member.filename} of {path}")
            if member.compress_type != zipfile.ZIP_STORED:
                what = f"{member.filename} of {path} claims"
                allowed.check(member.file_size, what, packed=member.compress_size)


def parse_json(text: str | bytes) -> Any:
    """What is in `text`.

    Raises:
        ValueError: it is no JSON, or nests deeper than `DEEPEST`.
    """
    raw = text.encode(errors="replace") if isinstance(text, str) else text
    try:
        tree = json.loads(text)
    except RecursionError:
        raise ValueError(f"it nests over {DEEPEST} levels deep") from None
    signs = np.frombuffer(raw, np.uint8) | 32  # `[` and `]` now read as `{` and `}`
    steps = (signs == ord("{")).view(np.int8) - (signs == ord("}")).view(np.int8)
    steps = steps[steps != 0]
    if len(steps) and np.cumsum(steps, dtype=np.int64).max() > DEEPEST:
        _check_depth(tree)  # brackets in strings may be what was counted
    return tree


def _check_depth(tree: Any) -> None:
    level, depth = [tree], 0
    while level := [node for node in level if isinstance(node, (dict, list))]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it nests over {DEEPEST} levels deep")
        level = [c for n in level for c in (n.values() if isinstance(n, dict) else n)]


class _Inflater:
    """zlib's stream with the interface that the others have."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def decompress(self, data: bytes, most: int) -> bytes:
        """At most `most` bytes more."""
        return self._stream.decompress(data or self._stream.unconsumed_tail, most)

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        """Nothing: what is behind a zlib stream is none."""
        return b""


_STREAM: dict[str, Callable[[], Any]] = {
    "zstd": zstd.ZstdDecompressor,
    "lz4": LZ4FrameDecompressor,
    "bz2": bz2.BZ2Decompressor,
    "zlib": _Inflater,
}


def _size(size: int) -> str:
    """A size as people say it, and in bytes: `100 GiB (107374182400 bytes)`."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.4g} {unit} ({size} bytes)"
    return f"{size} bytes"


def _gib(size: int) -> str:
    """The next whole number of GiB, as the option takes it."""
    return f"{-(-size >> 30)}GiB"
