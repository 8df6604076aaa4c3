"""What was offered: admitted by arrival and stamp, and kept unseen until somebody wants it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

from robustseg_core.modalities import Modality
from robustseg_core.sync.buffer import ACCUMULATED
from robustseg_core.sync.stamps import Stamped
from robustseg_core.types import SECOND, Reading

CHECKED_NS = SECOND // 10
"""Of what no set asks for, a message is looked into all the same where none was for so long."""


class Draft:
    """A message that was offered, and that nobody has looked into yet.

    Args:
        message: the message.
        number: of its stream, counted since the start.
    """

    __slots__ = ("item", "judged", "message", "number")

    def __init__(self, message: Any, number: int) -> None:
        self.message = message
        self.number = number
        self.judged = False
        self.item: Stamped[Reading] | None = None
        """What a set gets; None: nobody has looked into it, or it was rejected."""


Content: TypeAlias = Reading | Draft
"""What waits for a set."""


def judged(item: Stamped[Content]) -> bool:
    """Whether somebody has looked into it; what was pushed comes that way."""
    return not isinstance(item.payload, Draft) or item.payload.judged


def seen(item: Stamped[Content]) -> Stamped[Reading]:
    """What a set gets of a message that was looked into."""
    found = item.payload.item if isinstance(item.payload, Draft) else item
    assert found is not None  # it was vetted
    return cast("Stamped[Reading]", found)


class Drafts:
    """The drafts of each stream, in the order of their numbers, and which was looked into last.

    Args:
        decoders: by stream.
        ring: how many are kept of a stream that does not accumulate.
    """

    def __init__(self, decoders: Mapping[str, Modality], ring: int) -> None:
        self._waiting: dict[str, deque[Stamped[Content]]] = {
            name: deque(maxlen=ACCUMULATED if decoder.accumulates else ring)
            for name, decoder in decoders.items()
        }
        """What was admitted, and nobody has looked into."""
        self._numbers: Counter[str] = Counter()
        self._judged: Counter[str] = Counter()
        """Number of the newest message of a stream that was looked into ..."""
        self._judged_ns: dict[str, int] = {}
        """... and when that came."""

    @property
    def any_came(self) -> bool:
        """Whether anything was ever offered."""
        return bool(self._numbers)

    def draft(self, modality: str, message: Any) -> Draft:
        """The next message of a stream."""
        self._numbers[modality] += 1
        return Draft(message, self._numbers[modality])

    def lost(self, modality: str) -> None:
        """A message was lost on our side: what comes next follows none of what was before."""
        self._numbers[modality] += 1

    def keep(self, item: Stamped[Content]) -> None:
        """It was admitted; what was pushed is not kept here."""
        if isinstance(item.payload, Draft):
            self._waiting[item.modality].append(item)

    def forget(self, modality: str) -> None:
        """Nothing of this stream waits any longer."""
        self._waiting[modality].clear()

    def clear(self) -> None:
        """Nothing waits any longer."""
        for drafts in self._waiting.values():
            drafts.clear()

    def open(self, item: Stamped[Content], draft: Draft) -> tuple[Any, bool]:
        """(the message, whether it follows the one that was looked into before); only once."""
        name, message = item.modality, draft.message
        draft.judged, draft.message = True, None
        follows = draft.number == self._judged[name] + 1
        self._judged[name], self._judged_ns[name] = draft.number, item.arrival_ns
        return message, follows

    def unasked(
        self, modality: str, *, believed: bool, accumulates: bool
    ) -> Iterator[Stamped[Content]]:
        """What has to be looked into though no set asks for it.

        Of a stream that is not believed all, and of another one now and then: a healthy stream
        whose messages are overtaken must not go bad unseen. To be judged one by one, as each
        decides what is due after it.
        """
        drafts = self._waiting[modality]
        for item in list(drafts):
            due = item.arrival_ns - self._judged_ns.get(modality, 0) >= CHECKED_NS
            if not believed or (due and not accumulates):
                yield item
        while drafts and judged(drafts[0]):
            drafts.popleft()
