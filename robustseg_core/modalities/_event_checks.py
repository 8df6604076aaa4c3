"""Do these events come from the world? Words, clock, gaps, polarity and single pixels.

A packet of a few milliseconds says little, so most checks look at a quarter of a second, and hold
what they found until the next one is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from robustseg_core.codecs.events import Packet
from robustseg_core.config import LIVE, Strict
from robustseg_core.health.content import ContentCheck, RunningMedian, Statistic, above, below
from robustseg_core.metrics import correlation
from robustseg_core.types import SECOND, Fault

_WINDOW_NS = SECOND // 4
_ENOUGH = 2000
"""Events from which a window has statistics."""
_KEPT = 60_000
"""Events of a window whose pixels are looked at."""
_LONELY = 4
"""A pixel is hot if it fires this many times as often as its busiest neighbor: lamps have area."""
_PACKETS = 50
"""Packets among which lost ones are counted."""
_GAPS, _FEW = 9, 20
"""Packets that gaps are a median of; those with fewer events have gaps anyway."""
_CLOCK_NS = SECOND // 2
_TILES, _CELL = (6, 8), 8
"""Rows and columns of the parts of a sensor that may be blind; side of a cell, in pixels."""
_USUAL, _RARELY, _QUICK = 40, 20, 0.5
"""Windows that medians are taken of, of which one in so many is learned later on, and the weight of
the newest one in where events come from of late."""
_NONE, _MORE = 0.05, 3.0
"""Share of its usual share below which a part makes no events; how many times the usual share of
the busiest line is too much."""


class EventLimits(Strict):
    """When packets cannot be trusted."""

    model_config = ConfigDict(json_schema_extra=LIVE)

    unknown_share: float = Field(
        0.01, ge=0, lt=1, description="UNDECODABLE above this share of meaningless words."
    )
    outside_share: float = Field(
        0.05, ge=0, lt=1, description="UNDECODABLE above this share of events off the sensor."
    )
    clock_ratio: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="SENSOR_CLOCK: in half a second of header stamps, the "
        "sensor's own time advances by less than this share.",
    )
    flood_rate: float = Field(
        20e6, gt=0, description="EVENT_FLOOD above this many events per second; sub-sampled."
    )
    lost_share: float = Field(
        0.05, gt=0, le=1, description="SEQUENCE_GAP when more packets than this are missing."
    )
    gap_share: float = Field(
        0.12,
        gt=0,
        le=1,
        description="FORMAT (cut short) when a longer share of each packet's "
        "time is missing in one piece, and more than twice as much as usual.",
    )
    hot_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="HOT_PIXELS when lonely pixels, a thousandth of all, make "
        "more than this share of the events.",
    )
    line_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="HOT_PIXELS, too, when one row or column makes more than this share of the "
        "events, and more than usual.",
    )
    blind_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="COVERED when the parts of the sensor that usually make more than this share "
        "of the events make none.",
    )
    scatter: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="NOISY when every second event lies where the others do with a lower "
        "correlation than this, and it used to be high.",
    )
    polarity_share: float = Field(
        0.05, ge=0, lt=0.5, description="POLARITY when ON or OFF are fewer than this share."
    )


@dataclass(slots=True)
class _Window:
    """What a quarter of a second of events has gathered so far."""

    since_ns: int
    count: int = 0
    on: int = 0
    kept: int = 0
    pixels: list[NDArray[np.intp]] = field(default_factory=list)
    """In the sensor's grid with a border of one pixel."""


class EventCheck(ContentCheck[Packet]):
    """Judges the packets of one event camera, in order."""

    def __init__(self, limits: EventLimits) -> None:
        self.limits = limits
        self.reset()

    def reset(self) -> None:
        """Forget the packets so far."""
        self._window: _Window | None = None
        self._found: tuple[Statistic, ...] = ()
        self._missing: deque[int] = deque(maxlen=_PACKETS)
        self._gaps: deque[float] = deque(maxlen=_GAPS)
        self._usual_gap = RunningMedian(100)
        self._tiles, self._line, self._order = (
            RunningMedian(_USUAL, rarely=_RARELY) for _ in range(3)
        )
        self._lately: NDArray[np.float64] | None = None
        """Share of the events in each tile, of late."""
        self._end: int | None = None
        """Sensor time of the last event so far, in microseconds."""
        self._times: deque[tuple[int, int]] = deque()
        """(header, sensor) nanoseconds of packets, half a second of them and one more."""

    def measure(self, data: Packet) -> Iterator[Statistic]:
        """UNDECODABLE and SENSOR_CLOCK are fatal; the others are doubts."""
        limits, events = self.limits, data.events
        count = len(events.t)
        share = events.unknown / max(1, events.words)
        text = partial(
            "{:.1%} of the words mean nothing, limit {:.0%}".format, share, limits.unknown_share
        )
        badness = above(share, limits.unknown_share)
        yield Statistic("unknown_share", Fault.UNDECODABLE, badness, text, fatal=True)
        share = events.outside / max(1, events.outside + count * data.stride)
        text = partial(
            "{:.1%} of the events lie outside the {}x{} sensor, limit {:.0%}".format,
            share,
            data.height,
            data.width,
            limits.outside_share,
        )
        badness = above(share, limits.outside_share)
        yield Statistic("outside_share", Fault.UNDECODABLE, badness, text, fatal=True)
        yield from self._numbers(data)
        cut = 1.5 if events.odd_bytes else 0.0
        yield Statistic("", Fault.FORMAT, cut, "half a word at the end; the packet was cut short")
        if not count:
            text = partial("{} words, and no event".format, events.words)
            yield Statistic("", Fault.NO_EVENTS, 1.1, text)
            return
        yield from self._clock(data)
        text = partial(
            "{:.0f} M events/s, limit {:g}; every {}th is kept".format,
            data.rate / 1e6,
            limits.flood_rate / 1e6,
            data.stride,
        )
        yield Statistic("flood_rate", Fault.EVENT_FLOOD, data.rate / limits.flood_rate, text)
        yield from self._gap(data)
        self._gather(data)
        yield from self._found

    def _numbers(self, data: Packet) -> Iterator[Statistic]:
        self._missing.append(min(data.missing, _PACKETS))
        missing = max(0, sum(self._missing))
        share = missing / (missing + len(self._missing))
        text = partial(
            "{:.0%} of the latest packets are missing, limit {:.0%}".format,
            share,
            self.limits.lost_share,
        )
        yield Statistic("lost_share", Fault.SEQUENCE_GAP, share / self.limits.lost_share, text)

    def _clock(self, data: Packet) -> Iterator[Statistic]:
        times, now = self._times, _began(data)
        if data.repeated:  # the whole payload is stuck: that is found, and named, elsewhere
            return
        if times and not 0 <= now[0] - times[-1][0] < _CLOCK_NS // 2:
            times.clear()  # header stamps leapt: that is theirs to answer for
        times.append(now)
        while len(times) > 2 and now[0] - times[1][0] >= _CLOCK_NS:
            times.popleft()
        header_ns, sensor_ns = now[0] - times[0][0], now[1] - times[0][1]
        if header_ns >= _CLOCK_NS and len(times) >= 5:
            share = sensor_ns / header_ns
            text = partial(
                "sensor time advanced by {:.1%} of header time, limit {:.0%}".format,
                share,
                self.limits.clock_ratio,
            )
            badness = below(share, self.limits.clock_ratio)
            yield Statistic("clock_ratio", Fault.SENSOR_CLOCK, badness, text, fatal=True)

    def _gap(self, data: Packet) -> Iterator[Statistic]:
        """The end of a packet that was cut short is missing before the next one.

        It shows within the next one's first events: those before its first time word seem older.
        """
        t, before = data.events.t, self._end
        self._end = int(t[-1])
        if len(t) < _FEW or data.lost or before is None:
            return
        first = t[: len(t) // 10]
        gap = max(int(t[0]) - before, int((first[1:] - first[:-1]).max(initial=-(1 << 62))))
        self._gaps.append(gap / max(1, int(t[-1]) - min(before, int(t[0]))))
        if len(self._gaps) < _GAPS:
            return
        share = sorted(self._gaps)[_GAPS // 2]
        limit = self.limits.gap_share
        if self._usual_gap.known:
            limit = max(limit, 2 * self._usual_gap.value)
            text = partial(
                "{:.0%} of each packet's time is missing in one piece, limit {:.0%}".format,
                share,
                limit,
            )
            yield Statistic("gap_share", Fault.FORMAT, share / limit, text)
        self._usual_gap.learn(share, bad=share > limit)

    def _gather(self, data: Packet) -> None:
        """Collect events; when a window is over, check it and begin the next."""
        (now_ns, _), events = _began(data), data.events
        window = self._window
        if window is None or not 0 <= now_ns - window.since_ns < 8 * _WINDOW_NS:
            window = self._window = _Window(now_ns)
        elif now_ns - window.since_ns >= _WINDOW_NS and window.count >= _ENOUGH:
            self._found = tuple(self._check_window(window, data.height, data.width))
            window = self._window = _Window(now_ns)
        window.count += len(events.t)
        window.on += int(np.count_nonzero(events.p))
        if window.kept < _KEPT:
            wide = data.width + 2
            window.pixels.append((events.y.astype(np.intp) + 1) * wide + events.x + 1)
            window.kept += len(events.t)

    def _check_window(self, window: _Window, height: int, width: int) -> Iterator[Statistic]:
        limits = self.limits
        on = window.on / window.count
        text = partial(
            "{:.0%} of the events are ON; expected {:.0%} to {:.0%}".format,
            on,
            limits.polarity_share,
            1 - limits.polarity_share,
        )
        badness = below(min(on, 1 - on), limits.polarity_share)
        yield Statistic("polarity_share", Fault.POLARITY, badness, text)
        share, hot = _lonely(np.concatenate(window.pixels), height, width)
        text = partial(
            "{} lonely pixels make {:.0%} of the events, limit {:.0%}".format,
            hot,
            share,
            limits.hot_share,
        )
        yield Statistic("hot_share", Fault.HOT_PIXELS, share / limits.hot_share, text)
        yield from self._places(np.concatenate(window.pixels), height, width)

    def _places(self, pixels: NDArray[np.intp], height: int, width: int) -> Iterator[Statistic]:
        """Where on the sensor events come from, and whether they come from things at all."""
        row, column = np.divmod(pixels, width + 2)
        row, column = row - 1, column - 1
        places = row * _TILES[0] // height * _TILES[1] + column * _TILES[1] // width
        tiles = np.bincount(places, minlength=_TILES[0] * _TILES[1]) / pixels.size
        lines = np.bincount(row).max(), np.bincount(column).max()
        line = float(max(lines)) / pixels.size
        order = _order(row // _CELL * -(-width // _CELL) + column // _CELL)
        doubts = [*self._blind(tiles), *self._lines(line), *self._scattered(order)]
        yield from doubts
        bad = any(doubt.badness > 1 for doubt in doubts)
        self._tiles.learn(tiles, bad=bad)
        self._line.learn(line, bad=bad)
        self._order.learn(order, bad=bad)

    def _blind(self, tiles: NDArray[np.float64]) -> Iterator[Statistic]:
        if self._lately is None or self._lately.shape != tiles.shape:
            self._lately = tiles
        self._lately = self._lately + _QUICK * (tiles - self._lately)
        if not self._tiles.known:
            return
        usual, limit = self._tiles.values, self.limits.blind_share
        lost = float(usual[self._lately < _NONE * usual].sum())
        text = partial(
            "parts of the sensor that usually make {:.0%} of the events make none, limit "
            "{:.0%}".format,
            lost,
            limit,
        )
        yield Statistic("blind_share", Fault.COVERED, lost / limit, text)

    def _lines(self, line: float) -> Iterator[Statistic]:
        if not self._line.known:
            return
        limit = max(self.limits.line_share, _MORE * self._line.value)
        text = partial(
            "one row or column makes {:.0%} of the events, limit {:.0%}".format, line, limit
        )
        yield Statistic("line_share", Fault.HOT_PIXELS, line / limit, text)

    def _scattered(self, order: float) -> Iterator[Statistic]:
        if not self._order.known or self._order.value < 2 * self.limits.scatter:
            return
        text = partial(
            "every second event lies where the others do with a correlation of {:.2f}, usually "
            "{:.2f}".format,
            order,
            self._order.value,
        )
        badness = below(max(order, 1e-3), self.limits.scatter)
        yield Statistic("scatter", Fault.NOISY, badness, text)


def _began(data: Packet) -> tuple[int, int]:
    """Nanoseconds of header time and of the sensor's own, at the first event."""
    first_ns = int(data.events.t[0]) * 1000
    return data.zero_ns + first_ns, first_ns


def _order(cells: NDArray[np.intp]) -> float:
    """Correlation over cells of the counts of every second event with those of the others: what
    comes from things comes again where it came from; white noise does not."""
    most = int(cells.max()) + 1
    one, other = (np.bincount(cells[k::2], minlength=most).astype(np.float64) for k in (0, 1))
    return correlation(one, other)


def _lonely(pixels: NDArray[np.intp], height: int, width: int) -> tuple[float, int]:
    """Share of the events by the busiest thousandth of pixels that stand alone, and their number.

    `pixels` are flat places in a (height + 2, width + 2) grid.
    """
    wide = width + 2
    counts = np.bincount(pixels, minlength=(height + 2) * wide)
    most = max(16, height * width // 1000)
    busy = np.flatnonzero(counts >= 8)
    if busy.size > most:
        busy = busy[np.argpartition(counts[busy], -most)[-most:]]
    around = [row * wide + column for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]
    neighbor = np.max([counts[busy + step] for step in around], axis=0) if busy.size else counts[:0]
    alone = counts[busy][counts[busy] > _LONELY * neighbor]
    return float(alone.sum()) / len(pixels), len(alone)
