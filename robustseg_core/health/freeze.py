"""New stamps, the same payload: a frozen driver, or a simulator whose world stands still."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from robustseg_core.config import HealthConfig
from robustseg_core.types import SECOND, Fault, Finding


@dataclass(slots=True)
class _Streak:
    """Identical payloads in a row. Digest 0 means that the payload cannot tell."""

    digest: int = 0
    count: int = 0
    since_ns: int = 0
    others: int = 0
    """Payload changes of all other streams when the streak began."""


class FreezeDetector:
    """Compares each stream's payloads, by fingerprint, with those before them.

    Real sensors have noise, even on a standing robot. Simulated ones may repeat every byte, so a
    freeze is believed there only while another stream changes.

    Args:
        config: how many, for how long, and whether another stream has to change.
        names: the streams.
    """

    def __init__(self, config: HealthConfig, names: Iterable[str]) -> None:
        self.configure(config)
        self._streaks = {name: _Streak() for name in names}
        self._changes = dict.fromkeys(self._streaks, 0)

    def configure(self, config: HealthConfig) -> None:
        """Other limits; payloads are counted on."""
        self._config = config
        wanted = config.stuck_needs_motion
        self._needs_motion = config.simulated if wanted is None else wanted

    def forget(self, name: str) -> None:
        """The next payload of this stream is compared with nothing."""
        self._streaks[name] = _Streak()

    def see(self, name: str, now_ns: int, digest: int) -> Finding | None:
        """STUCK, if this payload repeats the ones before it for too long."""
        if digest == 0:
            return None
        streak, config = self._streaks[name], self._config
        others = sum(self._changes.values()) - self._changes[name]
        if digest != streak.digest:
            self._changes[name] += 1
            self._streaks[name] = _Streak(digest, 1, now_ns, others)
            return None
        streak.count += 1
        span_s = (now_ns - streak.since_ns) / SECOND
        if streak.count < config.stuck_count or span_s < config.stuck_s:
            return None
        if self._needs_motion and others == streak.others:
            return None
        text = f"{streak.count} identical payloads in {span_s:.2f} s, limit {config.stuck_count}"
        return Finding(
            Fault.STUCK,
            fatal=True,
            text=text,
            value=streak.count,
            limit=config.stuck_count,
            unit="messages",
        )
