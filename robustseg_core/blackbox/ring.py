"""The last seconds of a gate: every act with its message, in chunks that begin with its state.

    Journal.note -> chunk | chunk | chunk ...   a chunk: the gate's state, then what was done to it
                          ^ fault: a Window of the chunks around it goes to whoever writes files

Nothing is copied but the state, once a chunk; messages are kept as they came, by reference. All of
it happens under the intake's lock, and what goes wrong here is told, and stops nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from robustseg_core.blackbox.account import Decision, struck
from robustseg_core.blackbox.state import Snapshot
from robustseg_core.config import BlackBoxConfig
from robustseg_core.intake import NO_JOURNAL, Act, Journal
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND, Finding, Health, State

log = logging.getLogger(__name__)

CHUNKS = 2
"""A chunk is the time before a fault over this: so much more than that is kept at the most."""
SHARE, ROOM = 5, 0.8
"""... and no more than the memory over this; of the memory, so much is filled before a chunk goes,
so that the newest one has room."""
LOOK_NS = SECOND // 5
"""States are noted when they change, and this often."""
LONGEST_S = 60.0
"""A window that faults keep open is closed after so long; the next fault opens another."""
MOST_STANDING = 256
"""Calibrations and static transforms that are kept."""
MEGABYTE = 1_000_000
_ACT = 200
"""Bytes of an act without a message, about."""


class Ended(NamedTuple):
    """What came of a step."""

    decision: Decision | None
    healths: Mapping[str, Health] | None
    """What is believed of each sensor; None: that was not looked at."""


class Entry(NamedTuple):
    """An act, as `Journal.note` was told it."""

    act: Act
    now_ns: int
    subject: str
    what: Any


Kept: TypeAlias = tuple[str, int, str, Any]
"""The same as it is kept: of an act without a message the garbage collector has nothing to see."""


@dataclass(slots=True)
class Chunk:
    """A piece of the past that can be done again by itself."""

    state: Snapshot
    config: RobotConfig
    start_ns: int
    standing: tuple[Entry, ...] = ()
    """The newest calibrations and static transforms of before: the state has what they say, and
    whoever plays the file needs them."""
    acts: list[Kept] = field(default_factory=list)
    grown: int = 0
    """Bytes of the acts, about."""


class Strike(NamedTuple):
    """A fault that struck a sensor."""

    at_ns: int
    modality: str
    state: State
    finding: Finding | None


@dataclass(slots=True)
class Window:
    """What is around faults: some chunks, and of the last one as many entries."""

    chunks: list[Chunk]
    strikes: list[Strike]
    until_ns: int
    count: int = 0
    """Acts of the last chunk that belong to it."""
    cut: str = ""
    """Why it ends early; empty: it does not."""

    @property
    def nbytes(self) -> int:
        """About how much memory it holds."""
        return memory_of(self.chunks)

    def entries(self) -> list[Entry]:
        """All acts, in order."""
        *whole, last = self.chunks
        kept = [one for chunk in whole for one in chunk.acts] + last.acts[: self.count]
        return [Entry(Act(act), *rest) for act, *rest in kept]


class Ring(Journal):
    """Keeps the last seconds of a gate, and hands on the windows around faults.

    Args:
        gate: the segmenter; it is told to tell us, until `close`.
        config: how long, how much, and what counts as a fault.
        hand_on: takes a window that is over; False: it could not, and the window is lost.
        held: bytes of windows that were handed on and are in memory still.
        now_ns: the gate's clock.
    """

    def __init__(
        self,
        gate: Segmenter,
        config: BlackBoxConfig,
        hand_on: Callable[[Window], bool],
        held: Callable[[], int] = lambda: 0,
        *,
        now_ns: int = 0,
    ) -> None:
        self._gate, self._config = gate, config
        self._hand_on, self._held = hand_on, held
        self._chunks: deque[Chunk] = deque()
        self._window: Window | None = None
        self._states: dict[str, State] = {}
        self._looked_ns = 0
        self._told: dict[tuple[str, str], int] = {}
        """(sensor, fault) -> when it last made a window, or joined one."""
        self._standing: dict[tuple[str, ...], Entry] = {}
        self.trouble = ""
        """Why nothing is kept any more; empty: it is."""
        self.quiet = 0
        """Faults that made no window because the same one had just made one."""
        self._before_ns = round(config.before_s * SECOND)
        self._after_ns = round(config.after_s * SECOND)
        self._most = round(ROOM * config.memory_mb * MEGABYTE)
        with gate.intake.turn():
            try:
                self._begin(now_ns)
            except Exception as error:
                self._give_up(error)
            else:
                gate.intake.journal = self

    @property
    def nbytes(self) -> int:
        """About how much memory is held, an open window's included."""
        return memory_of([*self._chunks, *(self._window.chunks if self._window else ())])

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """What is kept, the oldest first."""
        return tuple(self._chunks)

    def note(self, act: Act, now_ns: int, subject: str = "", what: Any = None) -> None:
        """As `Journal.note`."""
        if self.trouble:
            return
        try:
            self._note(act, now_ns, subject, what)
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Keep nothing any more; a window that is open ends here."""
        with self._gate.intake.turn():
            if self._gate.intake.journal is self:
                self._gate.intake.journal = NO_JOURNAL
            if self._window is not None and not self.trouble:
                self._finish("the node stopped")
            self._chunks.clear()

    def _give_up(self, error: Exception) -> None:
        log.exception("the black box failed")
        self.trouble = f"the black box keeps nothing any more: {type(error).__name__}: {error}"
        self._chunks.clear()
        self._window = None

    def _begin(self, now_ns: int) -> None:
        """A chunk, with the gate's state as it is."""
        state = Snapshot(self._gate)
        standing = tuple(self._standing.values())
        chunk = Chunk(state, self._gate.config, now_ns, standing)
        self._chunks.append(chunk)
        if self._window is not None:
            self._window.chunks.append(chunk)

    def _note(self, act: Act, now_ns: int, subject: str, what: Any) -> None:
        chunk = self._chunks[-1]
        if act is Act.END:
            what = self._ended(now_ns, Decision.of(what))
        chunk.acts.append((act.value, now_ns, subject, what))
        chunk.grown += _ACT if what is None else _ACT + size_of(what)
        if act is Act.CAMERA_INFO or act is Act.STATIC:
            self._stand(Entry(act, now_ns, subject, what))
        if act is Act.RESET or act is Act.CONFIGURE:
            self._states = {}  # what becomes of sensors now is nobody's fault
        elif act is Act.END:
            self._after(now_ns)

    def _stand(self, entry: Entry) -> None:
        """Keep what is said once: of each camera, and of each set of frames, the newest."""
        moved = getattr(entry.what, "transforms", ())
        frames = tuple(str(getattr(one, "child_frame_id", "")) for one in moved)
        key = (entry.subject, *frames)
        if key in self._standing or len(self._standing) < MOST_STANDING:
            self._standing[key] = entry

    def _ended(self, now_ns: int, decision: Decision | None) -> Ended | None:
        intake = self._gate.intake
        states = intake.states()
        before, self._states = self._states, states
        if states == before and now_ns - self._looked_ns < LOOK_NS:
            return None if decision is None else Ended(decision, None)
        self._looked_ns = now_ns
        healths = intake.believed(now_ns)
        for name in struck(before, states, suspected=self._config.suspected):
            self._strike(now_ns, name, healths[name])
        return Ended(decision, healths)

    def _strike(self, now_ns: int, name: str, health: Health) -> None:
        finding = health.findings[0] if health.findings else None
        key = name, finding.fault.value if finding else health.state.value
        told_ns = self._told.get(key)
        soon = told_ns is not None and now_ns - told_ns < self._config.again_s * SECOND
        if soon and self._window is None:
            self.quiet += 1
            return
        self._told[key] = now_ns
        strike = Strike(now_ns, name, health.state, finding)
        until_ns = now_ns + self._after_ns
        if self._window is None:
            self._window = Window(list(self._chunks), [strike], until_ns)
        else:
            first_ns = self._window.strikes[0].at_ns
            self._window.strikes.append(strike)
            self._window.until_ns = min(until_ns, first_ns + round(LONGEST_S * SECOND))

    def _after(self, now_ns: int) -> None:
        """A step is over: the gate is at rest, and may be left here."""
        if self._window is not None and now_ns >= self._window.until_ns:
            self._finish()
        chunk = self._chunks[-1]
        long = now_ns - chunk.start_ns >= self._before_ns // CHUNKS
        if long or chunk.grown >= self._most // SHARE:
            self._begin(now_ns)
            self._trim(now_ns)

    def _trim(self, now_ns: int) -> None:
        """Let go of what is too old, or too much."""
        while len(self._chunks) > 1 and now_ns - self._chunks[1].start_ns >= self._before_ns:
            self._chunks.popleft()
        most = self._most - self._held()
        if self._window is not None and self.nbytes > most:
            self._finish(f"more than black_box.memory_mb ({self._config.memory_mb:g} MB) came")
            most = self._most - self._held()
        while len(self._chunks) > 1 and self.nbytes > most:
            self._chunks.popleft()

    def _finish(self, cut: str = "") -> None:
        window, self._window = self._window, None
        assert window is not None
        window.cut = cut
        if window.chunks[-1] is self._chunks[-1] and not window.chunks[-1].acts:
            window.chunks.pop()  # it has just begun
        window.count = len(window.chunks[-1].acts)
        self._hand_on(window)


def memory_of(chunks: Iterable[Chunk]) -> int:
    """About how many bytes some chunks hold; what several of them share counts once."""
    every = {id(chunk): chunk for chunk in chunks}.values()
    shared: dict[int, int] = {}
    for chunk in every:
        shared |= chunk.state.shared
    own = sum(c.grown + c.state.nbytes - sum(c.state.shared.values()) for c in every)
    return own + sum(shared.values())


def size_of(message: Any) -> int:
    """Bytes that a message holds, about: of serialized ones, and of large fields."""
    if isinstance(message, Ended):
        return 500 if message.healths is not None or message.decision is not None else 0
    found = 0
    for name in ("raw", "data", "events", "transforms"):
        held = getattr(message, name, None)
        if held is not None and hasattr(held, "__len__"):
            found += getattr(held, "nbytes", len(held) * getattr(held, "itemsize", 1)) + 300
            if name == "raw":
                break
    return found
