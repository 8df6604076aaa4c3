"""The deadline rule: how long a set stays open for a sensor that is due. Its only home."""

from __future__ import annotations

from robustseg_core.config import SyncConfig
from robustseg_core.types import MS


class Deadline:
    """`deadline_ms` after the reference arrived, or a share of its period where that is shorter.

    Another rule is another `of`; what is said at the end of a recording, the ticks and the
    specification's figure (`python docs/specs/timeline.py`) follow from it.
    """

    def __init__(self, config: SyncConfig) -> None:
        self._most_ns = round(config.deadline_ms * MS)
        self._share = config.deadline_share

    def of(self, period_ns: int | None) -> int:
        """Nanoseconds that a set may wait, by the period of who opens it.

        None: the period is not known yet. No period that is known may wait for longer.
        """
        if not period_ns:
            return self._most_ns
        return min(self._most_ns, round(self._share * period_ns))

    @property
    def longest_ns(self) -> int:
        """No set waits for longer."""
        return self.of(None)
