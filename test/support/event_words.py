"""Formats of event packets a second time: written and read bit by bit, from their tables.

Each has `encode(events, time_base)`, a payload that holds them in order, and, for a sensor of some
width and height, `decode(payload, time_base)`; events are (x, y, on, microseconds).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Event = tuple[int, int, bool, int]


def _field(word: str, top: int, bottom: int) -> int:
    """Bits `top` to `bottom` of a word written as ones and zeros."""
    return int(word[len(word) - 1 - top : len(word) - bottom], 2)


def _words(payload: bytes, size: int, order: Callable[[bytes], bytes] = bytes) -> Iterator[str]:
    for at in range(0, len(payload) - size + 1, size):
        number = int.from_bytes(order(payload[at : at + size]), "little")
        yield f"{number:0{8 * size}b}"


class _Clock:
    """34 bits of microseconds, of which 28 come in words of their own."""

    def __init__(self) -> None:
        self.high: int | None = None
        self.laps = 0

    def set(self, new: int) -> None:
        if self.high is not None and abs(new - self.high) > 2**27:
            self.laps += 1 if new < self.high else -1
        self.high = new

    def at(self, low: int) -> int:
        return self.laps * 2**34 + self.high * 64 + low


class Evt2:
    """Prophesee EVT 2.0."""

    def __init__(self, width: int, height: int) -> None:
        self.size, self.clock = (width, height), _Clock()

    def decode(self, payload: bytes, time_base: int = 0) -> list[Event]:
        events = []
        for word in _words(payload, 4):
            kind = _field(word, 31, 28)
            if kind == 0b1000:
                self.clock.set(_field(word, 27, 0))
            elif kind in (0b0000, 0b0001) and self.clock.high is not None:
                x, y = _field(word, 21, 11), _field(word, 10, 0)
                if x < self.size[0] and y < self.size[1]:
                    events.append((x, y, kind == 1, self.clock.at(_field(word, 27, 22))))
        return events

    @staticmethod
    def encode(events: list[Event], time_base: int = 0) -> bytes:
        words, high = [], None
        for x, y, on, t in events:
            if t // 64 != high:
                high = t // 64
                words.append(f"1000{high % 2**28:028b}")
            words.append(f"000{on:01b}{t % 64:06b}{x:011b}{y:011b}")
        return b"".join(struct.pack("<I", int(word, 2)) for word in words)


class Evt21:
    """Prophesee EVT 2.1 as GenX320 sends it."""

    @staticmethod
    def order(word: bytes) -> bytes:
        return word

    def __init__(self, width: int, height: int) -> None:
        self.size, self.clock = (width, height), _Clock()

    def decode(self, payload: bytes, time_base: int = 0) -> list[Event]:
        events = []
        for word in _words(payload, 8, self.order):
            kind = _field(word, 63, 60)
            if kind == 0b1000:
                self.clock.set(_field(word, 59, 32))
            elif kind in (0b0000, 0b0001) and self.clock.high is not None:
                base, y, t = _field(word, 53, 43), _field(word, 42, 32), _field(word, 59, 54)
                for bit, flag in enumerate(reversed(word[-32:])):
                    if flag == "1" and base + bit < self.size[0] and y < self.size[1]:
                        events.append((base + bit, y, kind == 1, self.clock.at(t)))
        return events

    @classmethod
    def encode(cls, events: list[Event], time_base: int = 0) -> bytes:
        words, high, i = [], None, 0
        while i < len(events):
            x, y, on, t = events[i]
            if t // 64 != high:
                high = t // 64
                words.append(f"1000{high % 2**28:028b}{0:032b}")
            base, mask, reached = x // 32 * 32, 0, -1
            while i < len(events) and events[i][1:] == (y, on, t):
                bit = events[i][0] - base
                if not reached < bit < 32:
                    break
                mask, reached, i = mask | 1 << bit, bit, i + 1
            words.append(f"000{on:01b}{t % 64:06b}{base:011b}{y:011b}{mask:032b}")
        return b"".join(cls.order(struct.pack("<Q", int(word, 2))) for word in words)


class Evt21Swapped(Evt21):
    """Prophesee EVT 2.1 as IMX636 sends it."""

    @staticmethod
    def order(word: bytes) -> bytes:
        return word[4:] + word[:4]


@dataclass
class _Sized:
    width: int
    height: int


class Mono(_Sized):
    """mono of event_camera_codecs."""

    def decode(self, payload: bytes, time_base: int = 0) -> list[Event]:
        events = []
        for word in _words(payload, 8):
            x, y = _field(word, 47, 32), _field(word, 62, 48)
            if x < self.width and y < self.height:
                t = (time_base + _field(word, 31, 0)) // 1000
                events.append((x, y, word[0] == "1", t))
        return events

    @staticmethod
    def encode(events: list[Event], time_base: int = 0) -> bytes:
        words = [f"{on:01b}{y:015b}{x:016b}{1000 * t - time_base:032b}" for x, y, on, t in events]
        return b"".join(struct.pack("<Q", int(word, 2)) for word in words)


class Libcaer(_Sized):
    """libcaer's polarity events."""

    def decode(self, payload: bytes, time_base: int = 0) -> list[Event]:
        events, laps, last = [], 0, None
        whole = payload[: len(payload) // 8 * 8]
        for number, after in struct.iter_unpack("<Ii", whole):
            if after < 0:
                continue
            if last and abs(after - last) > 2**30:
                laps += 1 if after < last else -1
            last = after
            word = f"{number:032b}"
            x, y = _field(word, 31, 17), _field(word, 16, 2)
            if word[-1] == "1" and x < self.width and y < self.height:
                events.append((x, y, word[-2] == "1", time_base // 1000 + laps * 2**31 + after))
        return events

    @staticmethod
    def encode(events: list[Event], time_base: int = 0) -> bytes:
        return b"".join(
            struct.pack(
                "<II", int(f"{x:015b}{y:015b}{on:01b}1", 2), (t - time_base // 1000) % 2**31
            )
            for x, y, on, t in events
        )


class LibcaerCmp(_Sized):
    """libcaer_cmp of event_camera_codecs, `time_base` in nanoseconds."""

    def decode(  # noqa: C901  # a branch for each of a list
        self, payload: bytes, time_base: int = 0
    ) -> list[Event]:
        events, high, low = [], 0, 0
        x = base = base_on = None

        def put(y: int, on: int) -> None:
            if x < self.width and y < self.height:
                events.append((x, y, bool(on), time_base // 1000 + high * 4096 + low))

        for word in _words(payload, 2):
            low_bits, on = _field(word, 10, 0), int(word[4])
            match _field(word, 15, 12):
                case 0:
                    high = _field(word, 11, 0)
                case 1:
                    low = _field(word, 11, 0)
                case 2:
                    x = low_bits
                case 3 if x is not None:
                    put(low_bits, on)
                case 4:
                    base, base_on = low_bits, on
                case 5 | 6 as kind if x is not None and base is not None:
                    size = {5: 8, 6: 12}[kind]
                    for bit, flag in enumerate(reversed(word[-size:])):
                        if flag == "1":
                            put(base + bit, base_on)
                    base += size
        return events

    @staticmethod
    def encode(events: list[Event], time_base: int = 0) -> bytes:
        words: list[str] = []
        high = low = column = 0
        column, i = -1, 0
        while i < len(events):
            x, y, on, t = events[i]
            after = t - time_base // 1000
            if after // 4096 != high:
                high = after // 4096
                words.append(f"0000{high:012b}")
            if after % 4096 != low:
                low = after % 4096
                words.append(f"0001{low:012b}")
            if x != column:
                column = x
                words.append(f"00100{x:011b}")
            mask, reached, first = 0, -1, i
            while i < len(events) and (events[i][0], *events[i][2:]) == (x, on, t):
                bit = events[i][1] - y
                if not reached < bit < 12:
                    break
                mask, reached, i = mask | 1 << bit, bit, i + 1
            if i - first == 1:
                words.append(f"0011{on:01b}{y:011b}")
                continue
            words.append(f"0100{on:01b}{y:011b}")
            words.append(f"0101{mask:012b}" if mask < 256 else f"0110{mask:012b}")
        return b"".join(struct.pack("<H", int(word, 2)) for word in words)


TABLES = {
    "evt2": Evt2,
    "evt21": Evt21,
    "evt21 swapped": Evt21Swapped,
    "mono": Mono,
    "libcaer": Libcaer,
    "libcaer_cmp": LibcaerCmp,
}
"""Encoding -> its table; of one with two orders, each."""
CLOCKED = ("evt2", "evt21", "evt21 swapped")
"""Those with a clock of their own; `time_base` means nothing to them."""
