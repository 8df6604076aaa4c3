"""An event camera: a pixel fires when its light has changed by a threshold since its last event.

The pixel model is ESIM's (Rebecq et al., CoRL 2018: log intensity, linear between two samples, one
event per threshold crossed) with the noise of v2e (Hu et al., CVPRW 2021: thresholds that differ
per pixel, refractory time, leak and shot noise that depend on the light).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag.typestore import EVENT_PACKET
from robustseg_core.codecs.events.evt3 import Evt3Decoder, encode_evt3
from robustseg_core.errors import RobustsegError
from robustseg_core.output.messages import header, to_rosbags
from robustseg_core.sim.event_pixels import fire, fire_noise, most_events

_LOWEST_THRESHOLD = 0.01
"""No pixel's threshold is below this, however wide their spread (as in v2e and ESIM)."""


class EventArrays(NamedTuple):
    """Events sorted by time: four arrays of length N."""

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.bool_]
    """True: brighter (ON)."""
    t: NDArray[np.int64]
    """Microseconds, on the clock of `EventCamera.step`."""


def substeps(max_flow_px: float, *, longest_px: float = 1.0) -> int:
    """How many samples an interval needs, so that nothing moves farther than `longest_px` in one.

    ESIM's adaptive sampling (Rebecq et al. 2018, eq. 4), which samples at |flow|^-1. `max_flow_px`
    is the largest motion on the sensor during the interval.

    Raises:
        RobustsegError: a negative or infinite motion.
    """
    if not (0 <= max_flow_px < math.inf and longest_px > 0):
        raise RobustsegError(
            f"motion is {max_flow_px} px in steps of {longest_px} px; give finite pixels >= 0"
        )
    return max(1, math.ceil(max_flow_px / longest_px))


class EventCamera:
    """An event sensor of H x W pixels, fed with radiance; it keeps state from step to step.

    After an event a pixel is blind for `refractory_us` and then memorizes the light of that
    moment, as the pixel's reset switch does. A noise event resets the pixel like any other.

    Args:
        height: rows, at most 2048.
        width: columns, at most 2048.
        seed: of thresholds and noise; the same inputs give the same events.
        threshold_on: change of ln(radiance) that makes an ON event, mean over the pixels.
        threshold_off: the same for OFF, as a positive number.
        threshold_sigma: standard deviation of both over the pixels.
        refractory_us: whole microseconds.
        leak_hz: rate of ON events of a pixel of average brightness before a still scene; doubles
            towards bright light, fades in the dark (Nozaki and Delbruck 2017: parasitic
            photocurrent).
        shot_noise_hz: rate of ON and OFF noise events together, at average brightness; doubles in
            the dark, fades in bright light (v2e, section 3.6).
        dark: radiance that the sensor sees in the dark, in the unit of the radiance; what is
            dimmer is not resolved (photoreceptor's dark current).

    Raises:
        RobustsegError: a number that no such sensor has.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        seed: int = 0,
        threshold_on: float = 0.2,
        threshold_off: float = 0.2,
        threshold_sigma: float = 0.03,
        refractory_us: int = 100,
        leak_hz: float = 0.1,
        shot_noise_hz: float = 0.5,
        dark: float = 1e-3,
    ) -> None:
        if text := Evt3Decoder.impossible(width, height):
            raise RobustsegError(text)
        if min(threshold_on, threshold_off) < _LOWEST_THRESHOLD or dark <= 0:
            raise RobustsegError(
                f"thresholds {threshold_on}, {threshold_off}, dark {dark}; give thresholds of at "
                f"least {_LOWEST_THRESHOLD} and some dark light"
            )
        if min(threshold_sigma, refractory_us, leak_hz, shot_noise_hz) < 0:
            raise RobustsegError(
                f"threshold_sigma {threshold_sigma}, refractory_us {refractory_us}, leak_hz "
                f"{leak_hz}, shot_noise_hz {shot_noise_hz}; none may be negative"
            )
        self.height, self.width, self.dark = height, width, dark
        self.refractory_us = int(refractory_us)
        self.leak_hz, self.shot_noise_hz = leak_hz, shot_noise_hz
        self._rng = np.random.default_rng(seed)
        self._on, self._off = (
            np.maximum(self._rng.normal(mean, threshold_sigma, height * width), _LOWEST_THRESHOLD)
            for mean in (threshold_on, threshold_off)
        )
        self._log = np.empty(height * width, np.float32)
        self._memory = np.empty(height * width)  # float64: leaks are tiny steps
        self._awake_us = np.full(height * width, -np.inf)
        self._t_us: int | None = None
        self._seq = 0

    def reset(self) -> None:
        """Forget the light: the next step only looks, as after a while of not being watched."""
        self._t_us = None
        self._awake_us[:] = -np.inf

    def step(self, radiance: NDArray[np.floating[Any]], t_us: int) -> EventArrays:
        """The events between the last step and this one; the first step only looks.

        Args:
            radiance: (H, W) linear, noise-free light at `t_us`, >= 0, in any one unit.
            t_us: whole microseconds, later than in the last step.

        Raises:
            RobustsegError: wrong size, light that is no light, or time that does not go on.
        """
        light = np.array(radiance, np.float32, order="C")
        if light.shape != (self.height, self.width):
            raise RobustsegError(
                f"radiance is {light.shape}; this sensor has {self.height}x{self.width} pixels"
            )
        mean = float(light.mean(dtype=np.float64))
        if not (math.isfinite(mean) and light.min() >= 0):
            raise RobustsegError("radiance is negative or not finite; give linear light >= 0")
        light = light.reshape(-1)
        log = np.log(light + np.float32(self.dark))
        before = self._t_us
        if before is None:
            self._log, self._t_us = log, int(t_us)
            self._memory[:] = log
            if self.leak_hz:  # leaking since long ago: not all pixels leak at the same moment
                self._memory -= self._rng.random(len(log)) * self._on
            return _sorted(np.empty(0, np.int64), np.empty(0, np.int64), self.width, int(t_us))
        if t_us <= before:
            raise RobustsegError(f"step at {t_us} us follows one at {before} us; time must go on")
        noise = self._noise(light, mean, before, int(t_us))
        leak = 2 * self.leak_hz * (t_us - before) * 1e-6
        pixels = (self._log, log, light, mean, leak, self._memory, self._on, self._off)
        room = most_events(*pixels) + len(noise[0])
        pixel, t = np.empty(room, np.int64), np.empty(room, np.int64)
        blind_us = float(self.refractory_us)
        n = fire_noise(self._awake_us, blind_us, *noise, pixel, t)
        times = (float(before), float(t_us), blind_us)
        n = fire(n, *pixels, self._awake_us, *times, pixel, t)
        self._log, self._t_us = log, int(t_us)
        return _sorted(pixel[:n], t[:n], self.width, before)

    def packets(
        self,
        events: EventArrays,
        *,
        frame_id: str = "event_camera",
        zero_ns: int = 0,
        longest_ms: float = 1.0,
        most_events: int = 20_000,
    ) -> Iterator[Any]:
        """event_camera_msgs/EventPacket (rosbags' class) of `events`: self-contained EVT3.

        A packet spans less than `longest_ms` (metavision_driver's default is 1 ms) and holds at
        most `most_events`. Its stamp is the time of its first event, `zero_ns` being that of
        t = 0; `seq` counts on over all calls. No event, no packet.

        Raises:
            RobustsegError: limits that leave no room for an event.
        """
        if longest_ms < 0.001 or most_events < 1:
            raise RobustsegError(
                f"packets of {longest_ms} ms and {most_events} events; give 0.001 and 1 at least"
            )
        start = 0
        while start < len(events.t):
            end = np.searchsorted(events.t, events.t[start] + int(longest_ms * 1000))
            part = slice(start, min(int(end), start + most_events))
            payload = encode_evt3(*(column[part] for column in events)).tobytes()
            stamp_ns = zero_ns + int(events.t[start]) * 1000
            fields = {
                "header": header(stamp_ns, frame_id),
                "height": self.height,
                "width": self.width,
                "seq": self._seq,
                "time_base": 0,
                "encoding": "evt3",
                "is_bigendian": False,
                "events": np.frombuffer(payload, np.uint8),
            }
            yield to_rosbags(EVENT_PACKET, fields)
            self._seq += 1
            start = part.stop

    def _noise(
        self, light: NDArray[np.float32], mean: float, before: int, now: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """(pixel, time, polarity) of shot noise in this step, by time."""
        peak = 2 * self.shot_noise_hz * (now - before) * 1e-6 * len(light)
        count = int(self._rng.poisson(peak))
        pixel = self._rng.integers(0, len(light), count)
        t = np.sort(self._rng.uniform(before, now, count))
        polarity = self._rng.random(count) < 0.5
        dark = self._rng.random(count) * (light[pixel] + mean) <= mean  # rate 2 mean / (I + mean)
        return pixel[dark], t[dark], polarity[dark]


def _sorted(pixel: NDArray[Any], t: NDArray[Any], width: int, since_us: int) -> EventArrays:
    """Events by time; `pixel` is 2 * index + ON."""
    since = t - since_us
    if since.max(initial=0) < 1 << 16:
        since = since.astype(np.uint16)  # NumPy sorts two bytes by radix, in linear time
    order = np.argsort(since, kind="stable")
    place, on = np.divmod(pixel[order], 2)
    y, x = np.divmod(place, width)
    return EventArrays(x.astype(np.uint16), y.astype(np.uint16), on.astype(np.bool_), t[order])
