"""A film of pictures at their own times: WebM with VP8, which browsers play.

Each picture is a frame of its own, coded as WebP codes it (a lossy WebP is a VP8 key frame: RFC
9649, section 2.5; RFC 6386) and muxed here (WebM, a subset of Matroska: RFC 9559). So frames carry
the times of the masks, to the millisecond, and stand until the next one; a still picture costs
nothing, any place can be jumped to, and a frame costs an eighth of what FFmpeg's default of VP8
takes (`test/bench/bench_replay.py`).
"""

from __future__ import annotations

import io
import math
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustseg_core.errors import RobustsegError
from robustseg_core.output import draw
from robustseg_core.output.timeline import reach_s

LONGEST_PAUSE_S = 60.0
"""A longer pause is shortened to this in the film, as a replay does with one."""
QUALITY, METHOD = 75, 0
"""WebP's own default quality, and its fastest method: a fifth of the default one's time, and files
that are a half larger."""
CLUSTER_MS = 2000
"""Frames that are written together, and how fine one can jump; at most 32767, by the format."""
_UNKNOWN = b"\x01" + 7 * b"\xff"
"""A size that is filled in at the end; until then, players read on."""

Idle = Callable[[NDArray[np.uint8], float, str], NDArray[np.uint8]]

_SEEK_TO_CUES = bytes.fromhex("53ab841c53bb6b")


class VideoWriter:
    """A WebM in the time of a run. A context manager.

    A picture stands until the next one. Where none is due for long (`timeline.reach_s`), the last
    one is dimmed below a banner; pauses beyond `LONGEST_PAUSE_S` are shortened to that. Killed on
    the way, the file plays as far as it goes.

    Args:
        path: ends in .webm.
        rate_hz: most frames a second; of pictures that come faster, the newest are shown.
        banner: what is written over the picture while there is no newer one.
        idle: draws the last picture while there is no newer one, once a second: it is given the
            picture, the time in seconds and the banner. None: it stands still.
    """

    def __init__(
        self,
        path: Path,
        rate_hz: float = 60.0,
        *,
        banner: str = "no mask",
        idle: Idle | None = None,
    ) -> None:
        self._path = path
        self._rate_hz = rate_hz
        self._idle = idle or (lambda picture, at_s, banner: draw.idle(picture, banner))
        self._ticks = idle is not None
        self._banner = banner
        self._muxer: _Muxer | None = None
        self._size = (0, 0)
        self._shown: NDArray[np.uint8] | None = None
        self._next: tuple[int, NDArray[np.uint8]] | None = None
        """The newest frame: its time in the film, in ms, and what it shows."""
        self._left_out_s = 0.0
        """Of pauses that were shortened."""
        self._times_s: deque[float] = deque(maxlen=16)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.finish(0.0)
        else:
            self.abandon()

    def add(self, picture: NDArray[np.uint8], at_s: float) -> None:
        """Show a picture from then on: (H, W, 3) RGB; the first one decides the size.

        Args:
            picture: what is shown.
            at_s: in seconds since the start; not before the picture before.

        Raises:
            RobustsegError: the file cannot be written.
        """
        if self._muxer is None:
            self._size = (picture.shape[1], picture.shape[0])
            self._muxer = _Muxer(self._path, self._size)
            if at_s > 0:
                self._put(self._idle(picture, 0.0, self._banner), 0.0)
        else:
            self._rest(at_s)
        self._put(picture, at_s)
        self._shown = picture
        self._times_s.append(at_s)

    def finish(self, end_s: float) -> None:
        """Hold the last picture until then, for a frame at least, and complete the file.

        Raises:
            RobustsegError: the disk is full.
        """
        if self._muxer is None:
            return
        self._rest(end_s)
        assert self._next is not None, "it was opened for a picture"
        at_ms, picture = self._next
        least_ms = at_ms + round(1000 / self._rate_hz)
        end_ms = max(round(1000 * (end_s - self._left_out_s)), least_ms)
        self._muxer.add(_key_frame(self._fitting(picture)), at_ms)
        self._muxer.finish(end_ms)
        self._muxer = None

    def abandon(self) -> None:
        """Close the file as far as it is."""
        if self._muxer is not None:
            self._muxer.close()
            self._muxer = None

    def _rest(self, until_s: float) -> None:
        """Nothing new is shown before `until_s`: the last picture may be out of date by then."""
        since_s = self._times_s[-1]
        reach = min(reach_s(self._times_s), LONGEST_PAUSE_S)
        stale_s = since_s + max(reach, 1 / self._rate_hz)  # it is seen for a frame at least
        if until_s > stale_s and self._shown is not None:
            end_s = min(until_s, since_s + LONGEST_PAUSE_S) if self._ticks else stale_s
            for second in range(max(1, math.ceil(end_s - stale_s))):
                at_s = stale_s + second
                self._put(self._idle(self._shown, at_s, self._banner), at_s)
        self._left_out_s += max(0.0, until_s - since_s - LONGEST_PAUSE_S)

    def _put(self, picture: NDArray[np.uint8], at_s: float) -> None:
        """The next frame; the one before is written, unless both are at the same moment."""
        assert self._muxer is not None
        at_ms = max(0, round(1000 * (at_s - self._left_out_s)))
        if self._next is not None:
            if self._place(at_ms) == self._place(self._next[0]):
                at_ms = self._next[0]
            else:
                self._muxer.add(_key_frame(self._fitting(self._next[1])), self._next[0])
        self._next = at_ms, picture

    def _place(self, at_ms: int) -> int:
        return int(at_ms * self._rate_hz / 1000 + 1e-6)

    def _fitting(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) RGB in the size of the film, should the camera change its own in mid-run."""
        if picture.shape[1::-1] == self._size:
            return picture
        return np.asarray(cv2.resize(picture, self._size), np.uint8)


def _key_frame(picture: NDArray[np.uint8]) -> bytes:
    """A picture (H, W, 3) RGB as a VP8 key frame: the payload of a lossy WebP."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    file = buffer.getbuffer()
    place = 12  # behind "RIFF", the size and "WEBP"
    while place < len(file):
        name, size = struct.unpack_from("<4sI", file, place)
        if name == b"VP8 ":
            return bytes(file[place + 8 : place + 8 + size])
        place += 8 + size + size % 2
    raise AssertionError("a lossy WebP without a VP8 frame")


class _Muxer:
    """A WebM of one video track, all key frames.

    Args:
        path: of the file.
        size: (width, height).

    Raises:
        RobustsegError: the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._path = path
        self._blocks: list[tuple[int, bytes]] = []
        """Time in ms and frame, of the cluster that is being made."""
        self._cues: list[tuple[int, int]] = []
        """Time of each cluster, and where it begins in the segment."""
        try:
            self._file: IO[bytes] = path.open("wb")
        except OSError as error:
            raise RobustsegError(
                f"cannot write {path}: {error.strerror}; choose a folder that can be written"
            ) from None
        self._write(_head())
        self._write(bytes.fromhex("18538067") + _UNKNOWN)
        self._begin = self._file.tell()
        self._write(_seek_head(0))
        self._info = self._file.tell()
        self._write(_info(0.0))
        self._write(_tracks(size))

    def add(self, frame: bytes, at_ms: int) -> None:
        """A frame that is shown from then on; later than the one before.

        Raises:
            RobustsegError: the disk is full.
        """
        if self._blocks and at_ms - self._blocks[0][0] >= CLUSTER_MS:
            self._flush()
        self._blocks.append((at_ms, frame))

    def finish(self, end_ms: int) -> None:
        """Complete the file: the last frame stands until then.

        Raises:
            RobustsegError: the disk is full.
        """
        try:
            self._flush()
            cues = self._file.tell()
            points = [
                _element("bb", _number("b3", at_ms) + _element("b7", _number("f7", 1) + place))
                for at_ms, place in ((at_ms, _number("f1", place)) for at_ms, place in self._cues)
            ]
            self._write(_element("1c53bb6b", b"".join(points)))
            size = self._file.tell() - self._begin
            for place, what in (
                (self._begin - len(_UNKNOWN), b"\x01" + size.to_bytes(7, "big")),
                (self._begin, _seek_head(cues - self._begin)),
                (self._info, _info(float(end_ms))),
            ):
                self._file.seek(place)
                self._write(what)
            self._file.close()
        except OSError:
            raise self._full() from None
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file; whether all of it was written is not looked at."""
        with suppress(OSError):  # the disk is full, and nobody asks any more
            self._file.close()

    def _flush(self) -> None:
        """Write the cluster."""
        begin_ms = self._blocks[0][0]
        self._cues.append((begin_ms, self._file.tell() - self._begin))
        content = [_number("e7", begin_ms)]
        for at_ms, frame in self._blocks:
            block = struct.pack(">BhB", 0x81, at_ms - begin_ms, 0x80) + frame
            content.append(_element("a3", block))
        self._write(_element("1f43b675", b"".join(content)))
        self._blocks.clear()

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError:
            raise self._full() from None

    def _full(self) -> RobustsegError:
        return RobustsegError(f"cannot write {self._path} whole; is the disk full?")


def _head() -> bytes:
    """The EBML header: version, longest ids and sizes, and what kind of document it is."""
    return _element(
        "1a45dfa3",
        _number("4286", 1)
        + _number("42f7", 1)
        + _number("42f2", 4)
        + _number("42f3", 8)
        + _element("4282", b"webm")
        + _number("4287", 2)
        + _number("4285", 2),
    )


def _seek_head(cues: int) -> bytes:
    """Where the cues are; of the same length wherever that is."""
    place = _element("53ac", cues.to_bytes(8, "big"))
    return _element("114d9b74", _element("4dbb", _SEEK_TO_CUES + place))


def _info(duration_ms: float) -> bytes:
    """That times are in milliseconds, and how many there are; of the same length always."""
    return _element(
        "1549a966",
        _number("2ad7b1", 1_000_000)
        + _element("4d80", b"robustseg")
        + _element("5741", b"robustseg")
        + _element("4489", struct.pack(">d", duration_ms)),
    )


def _tracks(size: tuple[int, int]) -> bytes:
    """One track, of VP8."""
    width, height = size
    entry = (
        _number("d7", 1)
        + _number("73c5", 1)
        + _number("9c", 0)
        + _number("83", 1)
        + _element("86", b"V_VP8")
        + _element("e0", _number("b0", width) + _number("ba", height))
    )
    return _element("1654ae6b", _element("ae", entry))


def _element(name: str, content: bytes) -> bytes:
    """An EBML element: its id in hexadecimal, then its size in eight bytes, then the content."""
    return bytes.fromhex(name) + b"\x01" + len(content).to_bytes(7, "big") + content


def _number(name: str, value: int) -> bytes:
    return _element(name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
