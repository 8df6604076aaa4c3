"""A fault's file through the same gate once more: is every decision the one that was made?

The gate is a `Segmenter` with the state that the file begins with; what was done to it then is done
again, in the order in which it took effect. Its network is not needed: what it is given is decided
before, and what others did while it was at work is done where it would be.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import config
from robustseg_core.bag import Bag, Recorded
from robustseg_core.bag.sealed import Sealed
from robustseg_core.blackbox.account import Decision, of_states, text, to_finding
from robustseg_core.blackbox.files import versions
from robustseg_core.blackbox.layout import ACTS, HEAD, OWN, STATE, Row, expect_version, rows_of
from robustseg_core.blackbox.state import restore
from robustseg_core.engines import LackingError, NoMaskError
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import Act
from robustseg_core.models import architectures
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import FAILED, Outcome, Segmenter
from robustseg_core.types import SECOND, Bundle, ModelSpec

_SHOWN = 300
"""Characters of either side of a difference."""


@dataclass(slots=True)
class Fault:
    """A file, read."""

    head: Mapping[str, Any]
    state: bytes
    rows: list[Row]
    messages: Mapping[str, list[Recorded]]
    """Topic -> its messages, the oldest first."""
    notices: list[str] = field(default_factory=list)
    """What of the file is damaged."""

    @property
    def robot(self) -> RobotConfig:
        """The configuration at the beginning.

        Raises:
            RobustsegError: it is none of this version.
        """
        return config.parse(RobotConfig, self.head.get("config") or {})

    @property
    def spec(self) -> ModelSpec:
        """The network's.

        Raises:
            RobustsegError: it is none of this version.
        """
        return config.parse(ModelSpec, self.head.get("spec") or {})


def read(path: Path) -> Fault:
    """A file that the black box wrote; of a damaged one, what can be done again.

    Raises:
        RobustsegError: it is no such file, of another version, or too much of it is missing.
    """
    head: Mapping[str, Any] | None = None
    state: bytes | None = None
    rows: list[Row] = []
    messages: dict[str, list[Recorded]] = defaultdict(list)
    with Bag(path) as bag:
        if HEAD not in {topic.name for topic in bag.topics}:
            raise RobustsegError(
                f"{path} was not written by the black box: it has no topic {HEAD}; give a "
                "fault_*.mcap, or `robustseg run` for a recording"
            )
        for recorded in bag.messages():
            if recorded.topic == HEAD:
                head = _json(recorded)
                expect_version(head)
            elif recorded.topic == STATE:
                state = recorded.message().data.tobytes()
            elif recorded.topic == ACTS:
                rows += rows_of(_json(recorded))
            elif recorded.topic not in OWN:
                messages[recorded.topic].append(recorded)
        notices = list(bag.notices)
    if head is None or state is None:
        raise RobustsegError(
            f"{path} lacks its beginning ({HEAD if head is None else STATE}), without which "
            "nothing can be done again; take another copy of it"
        )
    return Fault(head, state, _whole(rows, messages, notices), messages, notices)


def _json(recorded: Recorded) -> Any:
    try:
        return json.loads(recorded.message().data)
    except ValueError as error:
        raise RobustsegError(
            f"{recorded.topic} holds what is no JSON ({error}); the file is damaged"
        ) from None


def _whole(
    rows: list[Row], messages: Mapping[str, list[Recorded]], notices: list[str]
) -> list[Row]:
    """The rows up to the first whose message is missing, and back to the end of a step."""
    for number, row in enumerate(rows):
        if row.carries and not _there(row.what, messages):
            ends = [k for k in range(number) if rows[k].act is Act.END]
            kept = ends[-1] + 1 if ends else 0
            notices.append(
                f"a message of {row.subject or row.act.value} is missing or damaged, so that "
                f"{kept} of {len(rows)} acts can be done again"
            )
            return rows[:kept]
    return rows


def _there(place: Any, messages: Mapping[str, list[Recorded]]) -> bool:
    try:
        topic, number, crc = place
        if not 0 <= int(number) < len(messages.get(topic, ())):
            return False
        return bool(zlib.crc32(messages[topic][number].raw) == crc)
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay left what had been decided."""

    at_ns: int
    what: str
    """`decision`, `states`, or what went wrong."""
    then: str
    now: str

    def __str__(self) -> str:
        then, now = _apart(self.then, self.now)
        return f"{self.what} at {self.at_ns / SECOND:.6f} s: then {then}, now {now}"


def _apart(then: str, now: str) -> tuple[str, str]:
    """Both texts around the first place where they differ."""
    same = next((k for k, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), 0)
    start = max(0, same - 60)
    return then[start : start + _SHOWN], now[start : start + _SHOWN]


@dataclass(slots=True)
class Result:
    """What came of doing it again."""

    decisions: int = 0
    """That were made then and are there to be compared, ..."""
    states: int = 0
    """... and looks at the sensors' states."""
    differences: list[Difference] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    """What is of another version now than then."""

    @property
    def compared(self) -> int:
        """Of how much it was looked at whether it is equal."""
        return self.decisions + self.states

    @property
    def first(self) -> Difference | None:
        """The first; those after it may follow from it."""
        return self.differences[0] if self.differences else None


class _FailedError(Exception):
    """The network raised then."""


Watch = Callable[[int, Outcome, Mapping[str, Any], Segmenter], None]
"""Is told each step: (time, what came of it now, what was written of it, the gate)."""


class Again:
    """Does it again.

    Args:
        fault: the file.
        watch: is told each step.
        heard: is told each sensor's message: (modality, message, time).
    """

    def __init__(
        self,
        fault: Fault,
        *,
        watch: Watch = lambda now_ns, outcome, then, gate: None,
        heard: Callable[[str, Any, int], None] = lambda modality, message, now_ns: None,
    ) -> None:
        self._fault, self._watch, self._heard = fault, watch, heard
        self._spec = fault.spec
        self._needs = architectures.needs(self._spec)
        self._blank = np.zeros(self._spec.size, np.uint8)
        self._rows, self._at = fault.rows, 0
        self._asked = False
        """Whether the step at hand reached the network."""
        self.result = Result()
        self.gate = Segmenter(fault.robot, self._spec, self._network)
        restore(self.gate, fault.state)
        now = versions()
        for name, then in fault.head.items():
            if name in now and now[name] != then:
                self.result.versions.append(f"{name} {then} then, {now[name]} now")

    def run(self) -> Result:
        """All of it.

        Raises:
            RobustsegError: the file holds what cannot be done at all.
        """
        try:
            while self._at < len(self._rows):
                row = self._rows[self._at]
                if row.act is Act.STEP:
                    self._step(row)
                else:
                    self._at += 1
                    self._do(row)
        except RobustsegError:
            raise
        except Exception as error:  # whatever the file says
            raise RobustsegError(
                f"act {self._at} of the file cannot be done ({type(error).__name__}: {error}); the "
                "file is damaged"
            ) from None
        return self.result

    def _step(self, row: Row) -> None:
        self._at += 1
        self._asked = False
        outcome: Outcome = None
        try:
            outcome = self.gate.step(row.now_ns)
            if outcome is None:
                outcome = self.gate.outcome
        except _FailedError:
            outcome = FAILED
        while self._at < len(self._rows) and self._rows[self._at].act is not Act.END:
            after = self._rows[self._at]
            if after.act is Act.TOLD and not self._asked:
                self._differ(row.now_ns, "a mask was being made", "it was", "there is no set")
            self._at += 1
            if after.act is not Act.TOLD:
                self._do(after)
        if self._at < len(self._rows):
            end = self._rows[self._at]
            self._at += 1
            self._compare(end, outcome)

    def _compare(self, end: Row, outcome: Outcome) -> None:
        then: Mapping[str, Any] = end.what if isinstance(end.what, Mapping) else {}
        made = Decision.of(outcome)
        now = None if made is None else made.account()
        if now is not None or "decision" in then:
            self.result.decisions += 1
            self._hold(end.now_ns, "decision", then.get("decision"), now)
        if "states" in then:
            self.result.states += 1
            believed = of_states(self.gate.intake.believed(end.now_ns))
            self._hold(end.now_ns, "states", then["states"], believed)
        self._watch(end.now_ns, outcome, then, self.gate)

    def _hold(self, at_ns: int, what: str, then: Any, now: Any) -> None:
        # Written and read once more, so that both went the same way.
        before, after = text(then), text(json.loads(text(now)))
        if before != after:
            self._differ(at_ns, what, before, after)

    def _differ(self, at_ns: int, what: str, then: str, now: str) -> None:
        self.result.differences.append(Difference(at_ns, what, then, now))

    def _network(self, bundle: Bundle) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """In the network's place: what others did while it was at work."""
        self._asked = True
        while self._at < len(self._rows):
            row = self._rows[self._at]
            if row.act in (Act.TOLD, Act.END):
                break
            self._at += 1
            self._do(row)
        else:
            return self._blank, self._blank
        if row.act is Act.END:
            kind = ((row.what or {}).get("decision") or {}).get("kind")
            if kind == FAILED:
                raise _FailedError
        for name in self._needs:
            if name not in bundle.frames:
                raise LackingError(name, f"the network makes no mask without {name}")
        if row.act is Act.END and kind == "refused":
            raise NoMaskError(row.what["decision"]["why"]["network"][0]["text"])
        return self._blank, self._blank

    def _do(self, row: Row) -> None:
        """An act that is no step."""
        act, now_ns, subject, what = row
        gate, intake = self.gate, self.gate.intake
        if row.carries:
            self._carry(row)
        elif act is Act.REJECT:
            intake.reject(subject, now_ns, to_finding(what))
        elif act is Act.REFUSE:
            intake.reject_calibration(subject, to_finding(what))
        elif act is Act.MISSED:
            intake.missed(subject, now_ns)
        elif act is Act.HEALTH:
            intake.health(now_ns)
        elif act is Act.WAKE:
            intake.wake_ns(now_ns)
        elif act is Act.CONFIGURE:
            gate.config = config.parse(RobotConfig, what)
            intake.configure(gate.config, now_ns)
        elif act is Act.CLOCK:
            intake.clock_jumped(now_ns)
        elif act is Act.RESET:
            gate.reset(now_ns)
        else:
            raise RobustsegError(f"{act.value} stands outside of a step; the file is damaged")

    def _carry(self, row: Row) -> None:
        topic, number, _ = row.what
        recorded = self._fault.messages[topic][number]
        intake = self.gate.intake
        if row.act in (Act.OFFER, Act.MOVING):
            message: Any = Sealed(recorded.raw, recorded.type)
        else:
            message = recorded.message()
        if row.act is Act.OFFER:
            intake.offer(row.subject, message, row.now_ns)
            intake.catch_up()  # it was admitted before the next act
            self._heard(row.subject, message, row.now_ns)
        elif row.act is Act.PUSH:
            intake.push(row.subject, message, row.now_ns)
            self._heard(row.subject, message, row.now_ns)
        elif row.act is Act.CAMERA_INFO:
            intake.push_camera_info(row.subject, message)
        else:
            intake.push_transforms(message, moving=row.act is Act.MOVING)
