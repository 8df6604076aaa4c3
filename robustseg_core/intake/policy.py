"""Who is heard, and who may enter a set: the product's answer, and where another one goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Policy(Protocol):
    """Decides whose messages are taken, and who may enter a set."""

    def hears(self, modality: str, now_ns: int) -> bool:
        """Whether a message that has come is taken at all; else it is as if it had not come."""
        ...

    def believes(self, healthy: Sequence[str], now_ns: int) -> Sequence[str]:
        """The streams that may enter a set; asked under the intake's lock.

        Args:
            healthy: those that the health monitor believes.
            now_ns: the intake's clock.
        """
        ...


class HealthDecides(Policy):
    """The product's policy: every message is taken, and a set is made of who is healthy."""

    def hears(self, modality: str, now_ns: int) -> bool:
        """Yes."""
        return True

    def believes(self, healthy: Sequence[str], now_ns: int) -> Sequence[str]:
        """Those."""
        return healthy


HEALTH_DECIDES: Policy = HealthDecides()
