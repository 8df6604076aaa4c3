"""The first channel of evidence, arrival: does a stream speak, and as often as it used to?"""

from __future__ import annotations

from robustseg_core.config import HealthConfig
from robustseg_core.health.bursts import Bursts
from robustseg_core.sync.rate import RateEstimator
from robustseg_core.types import MS, SECOND, Fault, Finding

PATIENCE_NS = 10 * SECOND
"""How long a stream that lost messages, or was gone for less than the longest silence, is granted
that silence: it would only flap."""
BURST_PERIODS = 1.5
"""A stream that comes in bursts may be silent for so many of their pauses."""


class ArrivalMonitor:
    """Of one stream, on the caller's steady clock.

    Args:
        config: how long silence may last, and how slow is slow.
        rate_hz: the expected rate, if the user knows it; 0 learns it.
    """

    def __init__(self, config: HealthConfig, rate_hz: float) -> None:
        self.configure(config)
        self._meter = RateEstimator(rate_hz)
        self.last_ns: int | None = None
        """When the newest message came."""
        self.bursts = Bursts()
        """What its accepted messages say about their delivery."""
        self._patient_until_ns = self._excused_until_ns = 0

    def configure(self, config: HealthConfig) -> None:
        """Other limits; what was learned stays."""
        self._config = config
        self._least_ns = round(min(config.silence_min_s, config.silence_max_s) * SECOND)
        """No silence is shorter: what nearly every message is spared by."""

    def arrived(self, now_ns: int) -> None:
        """A message came, whatever is in it; one from before the newest is as new as that."""
        now_ns = max(now_ns, self.last_ns or now_ns)
        gap_ns = 0 if self.last_ns is None else now_ns - self.last_ns
        long = gap_ns > self._least_ns
        interrupted = long and self.limit_ns < gap_ns <= self._longest_ns
        if long and gap_ns > self._longest_ns:
            self._meter.interrupt()  # a long gap is no interval: rates are of what speaks
        self._meter.observe(now_ns)
        self.last_ns = now_ns
        if self._meter.lossy or interrupted:
            self._patient_until_ns = now_ns + PATIENCE_NS

    def missed(self, until_ns: int) -> None:
        """Messages came until then, and were lost on our side: that gap is not the sensor's."""
        if until_ns > (self.last_ns or 0):
            self._meter.interrupt()
            self.last_ns = until_ns

    def excuse(self, until_ns: int, *, lost: bool) -> None:
        """Until then, it is not said to be slow or lossy: that may be us.

        Args:
            until_ns: steady clock.
            lost: messages were lost on our side; it is silent as late as any stream, too.
        """
        self._excused_until_ns = max(self._excused_until_ns, until_ns)
        if lost:
            self._patient_until_ns = max(self._patient_until_ns, until_ns)

    def reset(self) -> None:
        """Forget the newest message; what was learned stays."""
        self._meter.interrupt()
        self.bursts.reset()
        self.last_ns = None

    @property
    def limit_ns(self) -> int:
        """3 periods, from 0.15 to 1 s; more for a stream known to be slow, lossy, or to burst.

        Else the same sensor would be declared dead, and alive again, several times a second.
        """
        config, rate = self._config, self._meter
        period_ns = rate.trusted_period_ns
        if period_ns is None or (self.last_ns or 0) < self._patient_until_ns:
            return self._longest_ns
        limit_ns = round(config.silence_periods * period_ns + config.silence_margin_s * SECOND)
        limit_ns = max(limit_ns, round(config.silence_min_s * SECOND))
        if rate.slower_than(config.slow_ratio):
            limit_ns = max(limit_ns, round(2 * (rate.recent_ns or 0)))
        limit_ns = max(limit_ns, round(BURST_PERIODS * self.bursts.every_ns))
        return min(limit_ns, self._longest_ns)

    def silent_ns(self, now_ns: int) -> int | None:
        """Since when the stream counts as silent, or None: it does not."""
        if self.last_ns is None or now_ns - self.last_ns <= self._least_ns:
            return None
        if now_ns - self.last_ns <= self.limit_ns:
            return None
        return self.last_ns + self.limit_ns

    def silence(self, now_ns: int) -> Finding:
        """What to say of a silent stream."""
        quiet_ms = self.age_ms(now_ns) or 0.0
        limit_ms = self.limit_ns / MS
        text = f"nothing for {quiet_ms:.0f} ms, limit {limit_ms:.0f} ms"
        return Finding(
            Fault.SILENT, fatal=True, text=text, value=quiet_ms, limit=limit_ms, unit="ms"
        )

    def delay(self) -> tuple[Finding, ...]:
        """SLOW or LOSSY, if the rate is not what it used to be; nobody's quality suffers."""
        rate = self._meter
        if self.bursts.every_ns:
            return ()  # rates are of messages, and these are all there
        if (self.last_ns or 0) < self._excused_until_ns:
            return ()
        slow = rate.slower_than(self._config.slow_ratio)
        recent_ns, period_ns = rate.recent_ns, rate.trusted_period_ns
        if not (rate.lossy or slow) or not recent_ns or not period_ns:
            return ()
        fault = Fault.LOSSY if rate.lossy else Fault.SLOW
        rate_hz, usual_hz = SECOND / recent_ns, SECOND / period_ns
        text = f"{rate_hz:.1f} Hz, expected {usual_hz:.1f} Hz"
        told = Finding(
            fault, fatal=False, text=text, score=1.0, value=rate_hz, limit=usual_hz, unit="Hz"
        )
        return (told,)

    @property
    def rate_hz(self) -> float | None:
        """The current rate; None while too few messages came."""
        recent_ns = self._meter.recent_ns
        return SECOND / recent_ns if recent_ns else None

    def age_ms(self, now_ns: int) -> float | None:
        """How long ago the newest message came."""
        return None if self.last_ns is None else max(now_ns - self.last_ns, 0) / MS

    @property
    def _longest_ns(self) -> int:
        """No silence is longer: 1 s, but a sensor slower than that is granted 1.5 periods, and one
        that comes in bursts as many of their pauses."""
        longest_ns = round(self._config.silence_max_s * SECOND)
        pauses_ns = 1.5 * (self._meter.period_ns or 0), BURST_PERIODS * self.bursts.every_ns
        return max(longest_ns, round(max(pauses_ns)))
