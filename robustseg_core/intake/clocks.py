"""Stamps of several clocks: which are in order, whose clock moved, and when all of them jumped.

Nothing here locks: the intake does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from robustseg_core.config import SyncConfig
from robustseg_core.intake.drafts import Content
from robustseg_core.sync.offsets import Offsets
from robustseg_core.sync.stamps import Admission, Stamped, StampGuard
from robustseg_core.sync.synchronizer import Match
from robustseg_core.types import MS, SECOND, Fault, Finding

log = logging.getLogger(__name__)

TOGETHER_NS = SECOND
"""Stamps and the clock that they go by jump together: what the second says is known by then."""


class Clocks:
    """The stamp guard, and what streams' delays say of each other's clocks.

    Args:
        config: the synchronizer's.
        rates_hz: of each stream, as configured.
    """

    def __init__(self, config: SyncConfig, rates_hz: dict[str, float]) -> None:
        self.jumps = 0
        self._jumped_ns: int | None = None
        """When the last of them was seen."""
        self._set_ns: int | None = None
        """When the clock was set, while the stamps have not told it."""
        self._jump_ns = round(config.jump_s * SECOND)
        self._guard: StampGuard[Content] = StampGuard(config, rates_hz)
        self._offsets = Offsets(round(config.offset_ms * MS), rates_hz)

    @property
    def told(self) -> dict[str, Finding]:
        """The streams whose clock, or delivery, has moved since the start, and by how much."""
        return self._offsets.told

    @property
    def undecided(self) -> dict[str, Finding]:
        """The streams that have left each other, where nobody can say which of them moved."""
        return self._offsets.undecided

    def doubt(self, modality: str) -> Finding | None:
        """By how much a stream has left its peers, for as long as it lasts."""
        return self._offsets.moved.get(modality)

    def admit(self, sent: Stamped[Content]) -> Admission[Content]:
        """What the stamp guard makes of a message."""
        return self._guard.admit(sent)

    def compare(
        self, sent: Stamped[Content], admission: Admission[Content], refusal: Finding | None
    ) -> None:
        """Has a sensor's clock, or its delivery, moved by less than a jump?"""
        for item in admission.accepted:
            self._offsets.see(item.modality, item.stamp_ns, item.arrival_ns)
        refused = not any(item is sent for item in admission.accepted)
        if refused and (refusal is None or refusal.fault is Fault.OFFSET):
            # Held or refused because its stamps went back: it may have moved by less than that.
            far_ns = self._offsets.distance_ns(sent.modality, sent.stamp_ns, sent.arrival_ns)
            if far_ns is not None and abs(far_ns) <= self._jump_ns:
                self._offsets.see(sent.modality, sent.stamp_ns, sent.arrival_ns)

    def disputed(self, match: Match[Content]) -> dict[str, Finding]:
        """Why streams are not in a set whose opener, and not they, may have the wrong clock."""
        doubts = {**self._offsets.undecided, **self._offsets.moved}
        told = {name: doubt for name, doubt in doubts.items() if name in match.absent}
        if match.opened_by is None or not match.absent:
            return told
        opener = match.items[match.opened_by][0]
        far_ns = self._offsets.distance_ns(opener.modality, opener.stamp_ns, opener.arrival_ns)
        if far_ns is None or far_ns >= -self._offsets.limit_ns:
            return told
        text = (
            f"the mask's stamp is {-far_ns / SECOND:.2f} s ahead of where that of "
            f"{opener.modality} was until now; undecided which of the two moved"
        )
        ahead = self._ahead(far_ns, text)
        return {**dict.fromkeys(match.absent, ahead), **told}

    def ahead(self, names: Sequence[str]) -> dict[str, Finding]:
        """Which of these streams may not enter a set, as their stamps are ahead, and why.

        Nobody else is held against a stamp that no delivery explains, while it is compared.
        """
        limit_s = self._offsets.limit_ns / SECOND
        return {
            name: self._ahead(
                far_ns,
                f"the newest stamp is {-far_ns / SECOND:.2f} s ahead of where its peers' stamps "
                f"put it, limit {limit_s:g} s",
            )
            for name, far_ns in self._offsets.ahead().items()
            if name in names
        }

    def _ahead(self, far_ns: float, text: str) -> Finding:
        """A stamp that is ahead by more than it may be keeps a stream out of one set."""
        limit_s = self._offsets.limit_ns / SECOND
        return Finding(
            Fault.OFFSET,
            fatal=False,
            text=text,
            score=1.0,
            value=-far_ns / SECOND,
            limit=limit_s,
            unit="s",
        )

    def was_set(self, now_ns: int) -> None:
        """The clock that stamps go by was set: the stamps have just told it, or soon will."""
        just = self._jumped_ns is not None and now_ns - self._jumped_ns <= TOGETHER_NS
        self._set_ns = None if just else now_ns

    def set_unseen(self, now_ns: int) -> bool:
        """Whether the clock was set, and the stamps have had the time to say so, and did not."""
        return self._set_ns is not None and now_ns - self._set_ns > TOGETHER_NS

    def jumped(self, now_ns: int) -> None:
        """All of them have; delays are learned anew."""
        self.jumps += 1
        self._jumped_ns, self._set_ns = now_ns, None
        self._offsets.reset()

    def forget(self, modality: str) -> None:
        """Learn one stream anew."""
        self._guard.forget(modality)
        self._offsets.forget(modality)

    def forget_stamps(self) -> None:
        """The stamp guard knows of no stamp any longer."""
        self._guard.reset()

    def reset(self) -> None:
        """Forget stamps and delays; how many jumps there were stays."""
        self._set_ns = None
        self._guard.reset()
        self._offsets.reset()
