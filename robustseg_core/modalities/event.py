"""Event cameras: packets decoded as they come, counted per pixel over a window before the set."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.codecs import events as formats
from robustseg_core.codecs.event_cloud import EVENT_CLOUD, EventCloudDecoder
from robustseg_core.codecs.events import EventDecoder, Events, Packet
from robustseg_core.codecs.fields import as_bytes, fingerprint, sizes, stamp_of, word
from robustseg_core.evidence.sight import Sight, mean_of_cells, step_of
from robustseg_core.geometry.view import View
from robustseg_core.modalities import _arrays
from robustseg_core.modalities._base import Modality, moment
from robustseg_core.modalities._corruptions import (
    Corruption,
    event_flood,
    faded,
    hot_pixels,
    noise_events,
    nothing,
    spotted,
    zoomed,
)
from robustseg_core.modalities._event_checks import EventCheck, EventLimits
from robustseg_core.modalities._event_forms import (
    FORMS,
    Part,
    grown,
    histogram,
    time_surface,
    voxel_grid,
)
from robustseg_core.modalities._guess import Guess
from robustseg_core.types import (
    CHANNELS,
    MOST_CHANNELS,
    MS,
    SECOND,
    Fault,
    Finding,
    Frame,
    Reading,
    Rejection,
)

COARSE = 4
"""Of an overloaded computer's events, one of so many is kept, and counts for them all."""
_RESTART = 1000
"""A packet number that is this much lower is a driver that started anew, not a late packet."""
_SHORTEST_US = 1000.0
"""Rates are taken over no less than this: a packet of two events has no rate."""
_KEPT_NS, _MOST_KEPT = SECOND // 4, 4096
"""How long packets are kept, and how many: as `ring` has it."""


class Event(Modality):
    """An event camera: packets in any format of `codecs/events`, EventArrays, clouds of x y t p."""

    rank: ClassVar = 3
    initial: ClassVar = "E"
    messages: ClassVar = (
        "event_camera_msgs/msg/EventPacket",
        "event_array_msgs/msg/EventArray",
        "dvs_msgs/msg/EventArray",
        "prophesee_event_msgs/msg/EventArray",
        "sensor_msgs/msg/PointCloud2",
    )
    content: ClassVar = "events"
    payload: ClassVar = "events"
    accumulates: ClassVar = True
    queue: ClassVar = 400
    guess: ClassVar = Guess(
        names=((r"\b(event|events|dvs|prophesee)\b", 1),),
        form=rf"^{EVENT_CLOUD}$",
        shared=("sensor_msgs/msg/PointCloud2",),
    )
    corruptions: ClassVar = {
        "event_flood": Corruption(event_flood, 0.5, 10, native=True),
        "no_events": Corruption(nothing),
        "hot_pixels": Corruption(hot_pixels, 0.0001, 0.003, native=True),
        "garbage": Corruption(noise_events, 0.0, 0.05, native=True),
        "wrong_calibration": Corruption(zoomed, 1.02, 1.4),
        "fouling": Corruption(spotted, 0.05, 0.6),
        "fading": Corruption(faded, 0.3, 0.95),
    }

    class Encoding(Modality.Encoding):
        """Histogram: counts of ON events, of OFF events, and 0, clipped, and scaled to [0, 1]; or
        a time surface, or a voxel grid (`modalities/_event_forms.py`)."""

        form: str = Field(
            "histogram",
            pattern=f"^({FORMS})$",
            description="How events are shown: histogram, time_surface or voxel_grid.",
        )
        window_ms: float = Field(
            50.0, gt=0, le=10_000, description="Events of this long before the set are counted."
        )
        clip: float = Field(5.0, gt=0, description="Count that is encoded as 1.")
        decay_ms: float = Field(
            20.0,
            gt=0,
            le=10_000,
            description="time_surface: age at which an event has faded to 1/e.",
        )
        bins: int = Field(
            5,
            ge=2,
            le=MOST_CHANNELS,
            description="voxel_grid: moments of the window, one a channel.",
        )
        grow: int = Field(1, ge=1, le=32, description="Side in pixels that an event paints.")

        @property
        def channels(self) -> int:
            """C of what `encode` returns."""
            return self.bins if self.form == "voxel_grid" else CHANNELS

    Limits: ClassVar = EventLimits

    encoding: Encoding
    limits: EventLimits
    checks: EventCheck

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._decoder: EventDecoder | None = None
        self._format = ""
        self._clouds = EventCloudDecoder()
        self._seq: int | None = None
        self._highest: int | None = None
        self._skipped = False
        """Whether packets before the next one were left out."""
        self._last: Events | None = None
        self._kept: deque[tuple[int, int]] = deque(maxlen=_MOST_KEPT)
        """(stamp, events kept) of the packets of late, ..."""
        self._kept_events = 0
        """... and how many events these are."""
        self.checks = EventCheck(self.limits)
        self.lost_packets = 0
        """Gaps in the packets' numbers, since the start."""

    def decode(self, message: Any, stamp_ns: int) -> Packet:
        """The packet's events; its stamp is when its first event happened.

        Raises:
            Rejection: UNDECODABLE for an encoding that nobody reads; FORMAT for impossible sizes.
        """
        if hasattr(message, "fields"):
            events, lost, missing = self._clouds.decode(message), False, 0
            height, width = self._clouds.size
        else:
            height, width = sizes(message, "height", "width")
            events, lost, missing = self._decode(message, height, width)
        count = len(events.t)
        span_us = max(_SHORTEST_US, float(events.t[-1] - events.t[0])) if count else _SHORTEST_US
        rate = count / span_us * 1e6
        flood = -int(-rate // self.limits.flood_rate)
        stride = max(COARSE if self.coarse else 1, flood, -(-count // self._room(stamp_ns)))
        if stride > 1:
            events = events.thinned(stride)
        if len(self._kept) == _MOST_KEPT:
            self._kept_events -= self._kept[0][1]
        self._kept.append((stamp_ns, len(events.t)))
        self._kept_events += len(events.t)
        first = int(events.t[0]) if count else 0
        repeated = self._last is not None and _same(events, self._last)
        self._last = events
        zero_ns = stamp_ns - first * 1000
        t = events.t
        times_us = (int(t.min()), int(t.max())) if len(t) else (0, -1)
        return Packet(
            height, width, events, zero_ns, rate, stride, lost, missing, repeated, times_us
        )

    def _decode(self, message: Any, height: int, width: int) -> tuple[Events, bool, int]:
        """The events of a packet, whether some before it are missing, and how many are."""
        decoder = self._decoder_for(word(message, "encoding"), height, width)
        lost, missing = False, 0
        if hasattr(message, "seq"):
            (seq,) = sizes(message, "seq")
            lost = self._seq is not None and seq != self._seq + 1
            missing = self._missing(seq)
            self._seq = seq
        if lost:
            self.lost_packets += 1
        if lost or self._skipped:
            decoder.resync()
        lost, self._skipped = lost or self._skipped, False
        if hasattr(message, "time_base"):
            (decoder.time_base,) = sizes(message, "time_base")
        return decoder.decode(getattr(message, "events", None)), lost, missing

    def probe(self, message: Any) -> None:
        """Format, size and bytes, without the loop, whose compiler takes seconds to load."""
        if hasattr(message, "fields"):
            EventCloudDecoder().decode(message)
        else:
            height, width = sizes(message, "height", "width")
            self._decoder_for(word(message, "encoding"), height, width)
            as_bytes(getattr(message, "events", None))

    def _decoder_for(self, encoding: str, height: int, width: int) -> EventDecoder:
        """The decoder of this stream; a new one where format or size are others than before."""
        known = self._decoder
        if known is not None and (encoding, height, width) == (
            self._format,
            known.height,
            known.width,
        ):
            return known
        kind = formats.load(encoding)
        if text := kind.impossible(width, height):
            raise Rejection(Fault.FORMAT, text)
        self._decoder, self._format = kind(width, height), encoding
        self._seq = self._highest = None
        return self._decoder

    def from_array(self, value: Any, size: tuple[int, int] | None = None) -> Packet:
        """One packet of x, y, t_us and polarity; what happened until now is that before time 0."""
        events, (height, width), until_us = _arrays.events(self.name, value, size)
        count = len(events.t)
        span_us = max(_SHORTEST_US, float(events.t[-1] - events.t[0])) if count else _SHORTEST_US
        return Packet(height, width, events, -until_us * 1000, count / span_us * 1e6)

    def _room(self, stamp_ns: int) -> int:
        """Events that may still be kept: the sensor's clock may deny what the stamps say.

        Of a window of stamps, twice what a flood leaves; at least one.
        """
        while self._kept and not 0 <= stamp_ns - self._kept[0][0] <= _KEPT_NS:
            self._kept_events -= self._kept.popleft()[1]
        most = 2 * self.limits.flood_rate * _KEPT_NS / SECOND
        return max(1, int(most) - self._kept_events)

    def _missing(self, seq: int) -> int:
        """Packets that are missing before this one; -1: it is one of those that were."""
        highest = self._highest
        if highest is None or seq < highest - _RESTART:
            self._highest = seq
            return 0
        self._highest = max(highest, seq)
        return max(seq - highest - 1, -1)

    @property
    def window_ns(self) -> int:
        """The events of so long before a set are counted."""
        return int(self.encoding.window_ms * MS)

    def size(self, data: Packet) -> tuple[int, int]:
        """(H, W) of the event sensor."""
        return data.height, data.width

    def digest(self, message: Any) -> int:
        """crc32 of the words; empty packets of a still scene never equal each other."""
        name = "data" if hasattr(message, "fields") else "events"
        payload = getattr(message, name, None)
        if payload is None or len(payload):
            return fingerprint(payload)
        return sizes(message, "seq")[0] if hasattr(message, "seq") else stamp_of(message)

    def check(self, data: Packet) -> Iterable[Finding]:
        """Words, clock, gaps, polarity and single pixels, as `EventLimits` says."""
        return self.checks.check(data)

    def encode(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> NDArray[np.float32]:
        """(C, H, W) of the window (stamp - window_ms, stamp] over all `readings`, by `form`.

        Of a histogram or a time surface: ON, OFF, 0; of a voxel grid its bins, the oldest first.
        """
        options, parts = self.encoding, self._parts(readings, view, stamp_ns)
        if options.form == "voxel_grid":
            window_us = options.window_ms * 1000
            array = voxel_grid(parts, view.size, options.clip, options.bins, window_us)
        elif options.form == "time_surface":
            array = time_surface(parts, view.size, options.decay_ms)
        else:
            array = histogram(parts, view.size, options.clip)
        return grown(array, options.grow) if options.grow > 1 else array

    def _parts(self, readings: Sequence[Reading], view: View, stamp_ns: int) -> Iterator[Part]:
        since_ns = stamp_ns - int(self.encoding.window_ms * MS)
        aged = self.encoding.form != "histogram"
        at = moment(readings[-1], stamp_ns)  # one table for the whole window
        for reading in readings:
            packet: Packet = reading.data
            if not packet.touches(since_ns, stamp_ns):
                continue
            table = view.lookup(self.name, reading.frame_id, packet.height, packet.width, at)
            events = packet.events
            inside = packet.within(since_ns, stamp_ns)
            cell = table[events.y[inside].astype(np.intp) * packet.width + events.x[inside]]
            seen = cell >= 0
            until_us = (stamp_ns - packet.zero_ns) // 1000
            age_us = until_us - events.t[inside][seen] if aged else events.t[:0]
            yield Part(cell[seen], events.p[inside][seen], age_us, packet.stride)

    def astray(self, reading: Reading, view: View, stamp_ns: int) -> str:
        """Of a packet with events: all happened at another time, or none lands in the view."""
        packet: Packet = reading.data
        t, window_ms = packet.events.t, self.encoding.window_ms
        if not len(t):
            return ""
        if len(packet.within(stamp_ns - int(window_ms * MS), stamp_ns)):
            return f"no event of {self.name} lands in the image; is T camera-from-{self.name}?"
        return (
            f"all {len(t)} events of {self.name} lie outside the {window_ms:g} ms before "
            f"{(stamp_ns - packet.zero_ns) // 1000} us, they happened from {t[0]} to {t[-1]} us; "
            "give until_us and t_us on one clock, in microseconds"
        )

    def timely(self, reading: Reading, stamp_ns: int) -> bool:
        """Whether any of its events happened in the window; in a still scene none may have."""
        packet: Packet = reading.data
        window_ns = int(self.encoding.window_ms * MS)
        return len(packet.within(stamp_ns - window_ns, stamp_ns)) > 0

    def sight(self, frame: Frame, lengths: NDArray[np.float32]) -> Sight:
        """Where events fire, and of which sign."""
        array = frame.array
        grid = self.encoding.form == "voxel_grid"
        seen, signed = np.abs(array).sum(axis=0), array.sum(axis=0) if grid else array[0] - array[1]
        step = step_of(seen.shape)
        fired = mean_of_cells(seen, step)
        return Sight.of(frame.stamp_ns, np.sqrt(fired), brighter=mean_of_cells(signed, step))

    def picture(self, array: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Brighter is red, darker is blue, on black."""
        if self.encoding.form == "voxel_grid":
            array = np.stack([array.max(axis=0), -array.min(axis=0), np.zeros_like(array[0])])
        level = np.where(array > 0, 80 + array * 175, 0).astype(np.uint8)
        return np.ascontiguousarray(np.stack([level[0], level[2], level[1]], axis=-1))

    def skipped(self) -> None:
        """The next packet follows none: its first words may mean nothing yet, and none is lost."""
        self._seq = self._highest = None
        self._skipped = True

    def warm_up(self) -> None:
        """Compile the decoders."""
        for encoding in formats.available():
            for length in (0, 1 << 17):  # short and long ones may be read by different loops
                formats.load(encoding)(1, 1).decode(bytes(length))

    def reset(self) -> None:
        """Forget clock, row and packet number."""
        self._decoder = None
        self._clouds.reset()
        self._seq = self._highest = None
        self._last = None
        self._kept.clear()
        self._kept_events = 0
        self.checks.reset()


def _same(events: Events, others: Events) -> bool:
    return np.array_equal(events.t, others.t) and np.array_equal(events.x, others.x)
