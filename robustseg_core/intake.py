"""The first half of the product: messages in, closed sets out.

    push    message -> decode -> check -> Reading -> admit -> set
    offer   message -> admit -> set -> decode -> check -> Reading

What is pushed is looked at as it comes: a replay's way. What is offered is looked into when a set
needs it: the live node's way, for whom most messages of a busy moment are never looked at. Both
judge arrival and stamp of every message.

Whatever is wrong with a message, it is rejected, counted and named, and nothing stops.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

from robustseg_core import modalities
from robustseg_core.codecs.fields import header
from robustseg_core.config import AUTO, DEAD, OFF, StreamConfig
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.geometry.view import View
from robustseg_core.health.backlog import Backlog, Load
from robustseg_core.health.identity import Identity
from robustseg_core.health.monitor import HealthMonitor
from robustseg_core.modalities import Modality
from robustseg_core.modalities._base import moment
from robustseg_core.robot.config import RobotConfig
from robustseg_core.sync.buffer import ACCUMULATED
from robustseg_core.sync.offsets import Offsets
from robustseg_core.sync.stamps import Admission, Stamped, StampGuard
from robustseg_core.sync.synchronizer import Match, Synchronizer
from robustseg_core.types import (
    MS,
    SECOND,
    Fault,
    Finding,
    Health,
    LabelMap,
    ModelSpec,
    Reading,
    Rejection,
    State,
    kind_of,
    streams_of,
)

log = logging.getLogger(__name__)

TRANSFORM = "transform"
"""The subject of what is refused of /tf_static, ..."""
MOVING = "moving transform"
"""... and of /tf."""
CHECKED_NS = SECOND // 10
"""Of what no set asks for, a message is looked into all the same where none was for so long."""
TOGETHER_NS = SECOND
"""Stamps and the clock that they go by jump together: what the second says is known by then."""
MOST_WAITING, MOST_PACKETS = 16, 512
"""Messages of a stream that are offered, and of one that accumulates, before somebody sees to them:
who offers one more does it himself."""


class Register:
    """What was found of each subject, by fault: how often, and the newest finding.

    Texts are no keys: a publisher gone wild gives a new one with every message.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, Fault], Finding] = {}
        self._counts: Counter[tuple[str, Fault]] = Counter()

    def add(self, subject: str, finding: Finding) -> bool:
        """Count a finding; whether it is the first of its fault about this subject."""
        key = subject, finding.fault
        self._newest[key] = finding
        self._counts[key] += 1
        return self._counts[key] == 1

    def newest(self, subject: str, fault: Fault) -> Finding | None:
        """What was found last; None: nothing was."""
        return self._newest.get((subject, fault))

    def total(self) -> int:
        """How many were counted."""
        return self._counts.total()

    def __len__(self) -> int:
        return len(self._newest)

    def __iter__(self) -> Iterator[tuple[str, Finding, int]]:
        """(subject, newest finding, how often), the first that was found first."""
        for (subject, fault), finding in self._newest.items():
            yield subject, finding, self._counts[subject, fault]

    def clear(self) -> None:
        """Forget everything."""
        self._newest.clear()
        self._counts.clear()


class Observer:
    """Watches an intake, or the segmenter that has it: is told what it took, and what became of it.

    Derive from it and override what you want to hear; the rest does nothing. It is called in the
    thread that pushes or steps, and may ask the segmenter whatever it likes; what it raises reaches
    whoever pushed or stepped.
    """

    def arriving(self, modality: str, now_ns: int) -> None:
        """A message has come, and nothing has been done with it yet."""

    def pushed(self, modality: str, message: Any, now_ns: int, finding: Finding | None) -> None:
        """It was rejected for that finding, or is used or under consideration (None).

        The message is None where its serialized form did not parse. One that was offered, and not
        pushed, is under consideration: nobody has looked into it.
        """

    def calibrated(self, modality: str, message: Any, finding: Finding | None) -> None:
        """A CameraInfo was refused for that finding, or is used."""

    def placed(self, message: Any, finding: Finding | None) -> None:
        """Transforms, static or moving, were refused for that finding, or are used."""

    def stepped(self, now_ns: int, label_map: LabelMap | None) -> None:
        """The segmenter was stepped, and made this mask, or none."""


class Act(str, Enum):
    """What changes an intake, or may: done again in the same order, it gives the same sets."""

    OFFER = "offer"
    """A message that was offered is admitted."""
    PUSH = "push"
    REJECT = "reject"
    """A message that never became one is counted."""
    MISSED = "missed"
    CAMERA_INFO = "camera_info"
    STATIC = "tf_static"
    MOVING = "tf"
    REFUSE = "refuse"
    """A calibration that never became one is counted."""
    HEALTH = "health"
    """Somebody asked what is believed, ..."""
    TOLD = "told"
    """... and the step asked that is making a mask."""
    WAKE = "wake"
    CONFIGURE = "configure"
    CLOCK = "clock"
    """The clock that stamps go by was set."""
    RESET = "reset"
    STEP = "step"
    """A set is asked for."""
    END = "end"
    """That step is over, and this is what came of it."""


class Journal:
    """Is told every act of an intake, in the order in which they take effect; does nothing.

    Called under the intake's lock: it must be quick, and must not raise.
    """

    def note(self, act: Act, now_ns: int, subject: str = "", what: Any = None) -> None:
        """An act.

        Args:
            act: which.
            now_ns: what the intake was told of the time; 0 where it was told nothing.
            subject: the stream, or what a refusal is about.
            what: the message, finding or configuration.
        """


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

Decode: TypeAlias = Callable[[Modality, Any, int], Any]
"""Decoder, message, stamp -> what the decoder's `decode` makes of it, or raises."""


def each_for_itself(decoder: Modality, message: Any, stamp_ns: int) -> Any:
    """Every message is decoded when it is looked into."""
    return decoder.decode(message, stamp_ns)


ACKNOWLEDGED = Finding(Fault.ACKNOWLEDGED, fatal=False, text="its mode is dead", score=1.0)
"""What becomes of a message of a sensor that somebody has said is dead."""
NOBODY = Observer()
NO_JOURNAL = Journal()
HEALTH_DECIDES: Policy = HealthDecides()


class Intake:
    """Decoders, stamp guard, health monitor and synchronizer, behind one lock.

    `push*`, `offer` and `later` may be called from one thread while another calls `poll`; decoders
    belong to one of them, so a stream is either pushed or offered. `offer` and `later` wait for
    nobody.

    Args:
        config: the robot.
        spec: what the network expects; other streams are not listened to, and neither are those
            whose images no live sensor gives (`unfed`).
        observer: is told what is taken, and what became of it.
        policy: who may enter a set.
        decode: how a message becomes what its modality's `decode` makes of it.

    Raises:
        RobustsegError: the robot has none of the network's modalities, or none that it can be fed.
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        *,
        observer: Observer = NOBODY,
        policy: Policy = HEALTH_DECIDES,
        decode: Decode = each_for_itself,
    ) -> None:
        self.unfed = {
            name: Finding(Fault.DISABLED, fatal=False, text=why, score=1.0)
            for name in streams_of(spec.modalities, config.topics)
            if name in config.topics
            and (why := modalities.unfed(kind_of(name), spec.encodings.get(kind_of(name), {})))
        }
        """Streams that the network knows and cannot be fed live, and why."""
        streams = _streams(config, spec, self.unfed)
        self.config = config
        self.view = View(spec.size, config.view)
        self.modalities: dict[str, Modality] = {
            name: modalities.load(name)(
                encoding=spec.encodings.get(kind_of(name)), limits=stream.limits, stream=name
            )
            for name, stream in streams.items()
        }
        """By stream."""
        self._grid = next((n for n, m in self.modalities.items() if not m.needs_view), None)
        """The stream whose own pixels the masks have, where no CameraInfo tells."""
        self.pushed: Counter[str] = Counter()
        self.jumps = 0
        self._jumped_ns: int | None = None
        """When the last of them was seen."""
        self._clock_set_ns: int | None = None
        """When the clock was set, while the stamps have not told it."""
        self.calibration_rejected = Register()
        """What was refused of CameraInfo and transforms, and how often; the last good stays."""
        self.calibration_changed = Register()
        """What became another in mid-drive, old and new value, and how often; it is used."""
        self.ignored = tuple(n for n in config.topics if n not in streams and n not in self.unfed)
        """Streams that the network does not know: nobody listens to them."""
        self._streams = streams
        self._modes = {name: stream.in_force for name, stream in streams.items()}
        self._guard: StampGuard[Content] = StampGuard(
            config.sync, {name: stream.rate_hz for name, stream in streams.items()}
        )
        self._sync: Synchronizer[Content] = Synchronizer(
            config.sync, streams, [n for n, m in self.modalities.items() if m.accumulates]
        )
        self._inbox: deque[Callable[[], object]] = deque()
        """What was offered, in the order in which it came; appended to without the lock."""
        self._waiting: Counter[str] = Counter()
        self._drafts: dict[str, deque[Stamped[Content]]] = {
            name: deque(maxlen=ACCUMULATED if decoder.accumulates else config.sync.ring)
            for name, decoder in self.modalities.items()
        }
        """What was admitted, and nobody has looked into."""
        self._numbers: Counter[str] = Counter()
        self._judged: Counter[str] = Counter()
        """Number of the newest message of a stream that was looked into ..."""
        self._judged_ns: dict[str, int] = {}
        """... and when that came."""
        self._came_ns: dict[str, int] = {}
        """When the oldest message came that was offered since the last poll."""
        self._backlog = Backlog(streams)
        self._load = self._backlog.load()
        self._report: dict[str, Health] = {}
        """The newest of `health`."""
        self._refused = False
        """Whether a message was rejected that a set had wanted."""
        self._offsets = Offsets(round(config.sync.offset_ms * MS), streams)
        self._jump_ns = round(config.sync.jump_s * SECOND)
        self._health = HealthMonitor(config.health, streams)
        self._identities = {name: Identity() for name in streams}
        self._notices: dict[tuple[str, Fault], Finding] = {}
        """What is told of a stream as soon as somebody says what time it is."""
        self._refusals: dict[tuple[str, Fault], Finding] = {}
        """What was last refused of a stream's calibration and place, while nothing better came."""
        self._observer, self._policy = observer, policy
        self._decoded = decode
        self._lock = threading.RLock()
        self.journal = NO_JOURNAL
        """Who is told every act; to be exchanged in a `turn`."""

    def turn(self) -> AbstractContextManager[object]:
        """Nobody else changes anything within a `with` of it; may be entered again."""
        return self._lock

    @property
    def longest_wait_ns(self) -> int:
        """No set stays open for longer after its reference came."""
        return self._sync.longest_wait_ns

    @property
    def overtaken(self) -> int:
        """References that a newer one overtook before the network was free (latest only)."""
        return self._sync.skipped

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """Take one message: why it was rejected, or None: it is used, or under consideration.

        Raises:
            RobustsegError: no such modality.
        """
        decoder = self._decoder(modality)
        if self._deaf(modality, now_ns):
            return None
        with self._lock:
            self.journal.note(Act.PUSH, now_ns, modality, message)
        self._observer.arriving(modality, now_ns)
        finding = self._decode(decoder, message, now_ns)
        self._observer.pushed(modality, message, now_ns, finding)
        return finding

    def offer(self, modality: str, message: Any, now_ns: int) -> None:
        """Take one message without a look at it, at once; who polls sees to it.

        Its arrival and stamp count in any case. Its content is looked into when a set needs it,
        while its stream is not believed, and every `CHECKED_NS`; the observer is told what is known
        of it before (`Observer.pushed`).

        Raises:
            RobustsegError: no such modality.
        """
        most = MOST_PACKETS if self._decoder(modality).accumulates else MOST_WAITING
        if self._modes[modality] == OFF:
            return
        self._waiting[modality] += 1
        self.later(partial(self._admit_unseen, modality, message, now_ns))
        if self._waiting[modality] > most and self._lock.acquire(blocking=False):
            try:  # else somebody is at it
                self._empty_inbox()
            finally:
                self._lock.release()

    def catch_up(self) -> None:
        """Admit what was offered, and do what was to be done later."""
        with self._lock:
            self._empty_inbox()

    def later(self, act: Callable[[], object]) -> None:
        """Have something done by who polls, after what was offered before and ahead of the rest."""
        self._inbox.append(act)

    def _decoder(self, modality: str) -> Modality:
        try:
            return self.modalities[modality]
        except KeyError:
            way_out = did_you_mean(modality, self.modalities)
            raise RobustsegError(f"no stream called {modality!r}; {way_out}") from None

    def _deaf(self, modality: str, now_ns: int) -> bool:
        """Whether a message is as if it had not come."""
        return self._modes[modality] == OFF or not self._policy.hears(modality, now_ns)

    def _decode(self, decoder: Modality, message: Any, now_ns: int) -> Finding | None:
        self._arrived(decoder.name, now_ns)
        if self._modes[decoder.name] == DEAD:
            return ACKNOWLEDGED
        read = self._read(decoder, message)
        if isinstance(read, Finding):
            return self._reject(decoder.name, now_ns, read)
        reading, notes, digest = read
        with self._lock:
            return self._take(reading, message, notes, digest, now_ns)

    def _read(
        self, decoder: Modality, message: Any
    ) -> tuple[Reading, tuple[Finding, ...], int] | Finding:
        """(reading, what is found of it, fingerprint), or why there is none."""
        try:
            reading, notes = _read(decoder, message, self._decoded)
            return reading, notes, decoder.digest(message)
        except Rejection as rejection:
            return rejection.finding
        except Exception as error:
            log.exception("decoding a message of %s failed", decoder.name)
            return Finding(Fault.INTERNAL, fatal=True, text=f"{type(error).__name__}: {error}")

    def reject(self, modality: str, now_ns: int, finding: Finding) -> None:
        """Count a message that never became one (its serialized form did not parse)."""
        if self._modes[modality] == OFF:
            return
        self._observer.arriving(modality, now_ns)
        with self._lock:
            self.journal.note(Act.REJECT, now_ns, modality, finding)
            self._arrived(modality, now_ns)
            if self._modes[modality] == AUTO:
                self._reject(modality, now_ns, finding)
        self._observer.pushed(modality, None, now_ns, finding)

    def missed(self, modality: str, until_ns: int) -> None:
        """Messages came until then, and were lost on our side: no silence of the sensor."""
        with self._lock:
            self.journal.note(Act.MISSED, until_ns, modality)
            self._health.missed(modality, until_ns)
            if self.modalities[modality].accumulates:  # of the others, only the newest is wanted
                self._backlog.lost(modality)
                self._numbers[modality] += 1  # what comes next follows none of what was before

    def load(self) -> Load:
        """How far behind we are with what was offered."""
        return self._load

    def push_camera_info(self, modality: str, message: Any) -> Finding | None:
        """Take a calibration; why it was rejected, or None. A change is counted and told."""
        finding = self._calibrate(modality, message)
        self._observer.calibrated(modality, message, finding)
        return finding

    def _calibrate(self, modality: str, message: Any) -> Finding | None:
        stream = self._streams[modality]
        rectified = "rect" in stream.topic if stream.rectified is None else stream.rectified
        with self._lock:
            self.journal.note(Act.CAMERA_INFO, 0, modality, message)
            try:
                changes = self.view.set_camera_info(modality, message, rectified=rectified)
            except Rejection as rejection:
                self._count_refusal(f"CameraInfo of {modality}", rejection.finding)
                self._refuse(modality, Fault.NO_CALIB, str(rejection))
                return rejection.finding
            self._refusals.pop((modality, Fault.NO_CALIB), None)
            if changes:
                self._recalibrated(modality, f"CameraInfo of {modality} changed", changes)
        return None

    def push_transforms(self, message: Any, *, moving: bool = False) -> Finding | None:
        """Take transforms (tf2_msgs/TFMessage); why one was rejected, or None.

        Args:
            message: the message; it may be serialized (`edges`).
            moving: they are of /tf, and hold at their stamps; else of /tf_static, and for ever.
        """
        finding = None
        with self._lock:
            self.journal.note(Act.MOVING if moving else Act.STATIC, 0, "", message)
            try:
                (self.view.move if moving else self.view.add_transforms)(message)
            except Rejection as rejection:
                finding = rejection.finding
                self._count_refusal(MOVING if moving else TRANSFORM, finding)
        self._observer.placed(message, finding)
        return finding

    @property
    def needs_motion(self) -> bool:
        """Whether anybody has to listen to /tf (`View.needs_motion`)."""
        return self.view.needs_motion(
            name
            for name, decoder in self.modalities.items()
            if self._modes[name] == AUTO
            and (decoder.needs_view or self.view.camera_of(name) is not None)
        )

    def reject_calibration(self, topic: str, finding: Finding) -> None:
        """Count a CameraInfo or transform that never became one (it did not parse)."""
        with self._lock:
            self.journal.note(Act.REFUSE, 0, topic, finding)
            self._count_refusal(topic, finding)

    def notice(self, modality: str, now_ns: int, finding: Finding) -> None:
        """Tell something of a stream that people should hear of; it goes on all the same."""
        with self._lock:
            self._health.notice(modality, now_ns, finding)

    def poll(self, now_ns: int) -> Match[Reading] | None:
        """A set, if one is ready."""
        with self._lock:
            self._empty_inbox()
            self.journal.note(Act.STEP, now_ns)
            self._look_at_clock(now_ns)
            self._look(now_ns)
            while True:
                self._refused = False
                usable, ahead = self._believed(now_ns)
                match = self._sync.poll(now_ns, usable, partial(self._vet, now_ns))
                if match is not None or not self._refused:
                    break
            self._weigh(now_ns)
            if match is None:
                return None
            disputed = self._disputed(match)
            absent = {**match.absent, **disputed, **ahead} if ahead or disputed else match.absent
            if self._backlog.overloaded:
                absent = {name: self._excused(finding) for name, finding in absent.items()}
            items = {
                name: tuple(_seen(item) for item in some if _judged(item))
                for name, some in match.items.items()
            }
            return Match(match.stamp_ns, match.opened_by, items, absent, match.held_ns)

    def wake_ns(self, now_ns: int) -> int | None:
        """When `poll` wants to be called if nothing arrives before; None: no need."""
        with self._lock:
            self.journal.note(Act.WAKE, now_ns)
            return self._sync.wake_ns(now_ns, self._believed(now_ns)[0])

    @property
    def bursts(self) -> dict[str, Finding]:
        """The streams that were found to be delivered in bursts, and how."""
        return self._health.bursts

    @property
    def moved(self) -> dict[str, Finding]:
        """The streams whose clock, or delivery, has moved since the start, and by how much."""
        return self._offsets.told

    def compared(self, findings: Mapping[str, Finding]) -> None:
        """What sensors hold against each other, from now on; see `HealthMonitor.compare`."""
        with self._lock:
            self._health.compare(findings)

    def health(self, now_ns: int, *, wait: bool = True, act: Act = Act.HEALTH) -> dict[str, Health]:
        """What is believed of each stream, and why.

        Args:
            now_ns: the intake's clock.
            wait: until whoever is looking into messages is done; else, what was believed before.
            act: what the journal is told.
        """
        if not self._lock.acquire(blocking=wait or not self._report):
            return self._report
        try:
            self._empty_inbox()
            self.journal.note(act, now_ns)
            self._tell(now_ns)
            self._report = self._health.report(now_ns)
            return self._report
        finally:
            self._lock.release()

    def states(self) -> dict[str, State]:
        """What is believed of each stream, as at the last act: nothing changes by asking."""
        with self._lock:
            return self._health.states()

    def believed(self, now_ns: int) -> dict[str, Health]:
        """As `health`, of what was seen to until now: what was offered since waits on."""
        with self._lock:
            return self._health.report(now_ns)

    def reset(self, now_ns: int) -> None:
        """Forget stamps, sets and states; learned rates and calibration stay."""
        with self._lock:
            self._inbox.clear()
            self.journal.note(Act.RESET, now_ns)
            self._came_ns.clear()
            self._clock_set_ns = None
            self._backlog.reset()
            self._load, self._report = self._backlog.load(), {}
            self._forget_sets()
            self._guard.reset()
            self._health.reset(now_ns)
            self._identities = {name: Identity() for name in self._streams}
            for decoder in self.modalities.values():
                decoder.reset()
            self.view.forget_motion()

    def configure(self, config: RobotConfig, now_ns: int) -> None:
        """Other values of what may change in mid-drive (docs/robot/README.md); the rest stays.

        Belongs to the thread that looks into messages: what was offered before is judged by the
        old values where it was looked into, and else by the new ones.
        """
        with self._lock:
            self._empty_inbox()
            self.journal.note(Act.CONFIGURE, now_ns, "", config)
            self.config = config
            self._streams = {name: config.streams[name] for name in self._streams}
            self._health.configure(config.health)
            self._sync.configure(self._streams)
            for name, stream in self._streams.items():
                self.modalities[name].relimit(stream.limits)
                if stream.in_force != self._modes[name]:
                    self._switch(name, stream.in_force, now_ns)

    def _switch(self, name: str, mode: str, now_ns: int) -> None:
        """Another mode: what was heard of a stream goes, what was learned of it stays."""
        log.info("%s: mode %s, was %s", name, mode, self._modes[name])
        self._modes[name] = mode
        self._health.switch(name, mode, now_ns)
        self._drafts[name].clear()
        self._sync.forget(name)
        self._guard.forget(name)
        self._offsets.forget(name)
        self._health.dispute(self._offsets.undecided)
        self.modalities[name].skipped()

    def clock_jumped(self, now_ns: int) -> None:
        """The clock that stamps go by was set: the stamps have just told it, or soon will.

        They know which message is of before and which of after. Where they say nothing, sets are
        forgotten `TOGETHER_NS` later all the same. A jump is one reset, whoever tells it.
        """
        with self._lock:
            self._empty_inbox()
            self.journal.note(Act.CLOCK, now_ns)
            self._clock_set_ns = None if self._just_jumped(now_ns) else now_ns

    def _look_at_clock(self, now_ns: int) -> None:
        """Whether the clock was set, and the stamps have had the time to say so, and did not."""
        if self._clock_set_ns is not None and now_ns - self._clock_set_ns > TOGETHER_NS:
            log.warning("the clock was set, and the stamps were not: one reset")
            self._jumped(now_ns)
            self._guard.reset()

    def _jumped(self, now_ns: int) -> None:
        self.jumps += 1
        self._jumped_ns, self._clock_set_ns = now_ns, None
        self._forget_sets()

    def _just_jumped(self, now_ns: int) -> bool:
        return self._jumped_ns is not None and now_ns - self._jumped_ns <= TOGETHER_NS

    def _refuse(self, modality: str, fault: Fault, text: str) -> bool:
        """Tell that a calibration or place is refused, once; whether this is the first time."""
        finding = Finding(fault, fatal=False, text=f"refused: {text}", score=1.0)
        if self._refusals.get((modality, fault)) == finding:
            return False
        self._refusals[modality, fault] = self._notices[modality, fault] = finding
        return True

    def _count_refusal(self, subject: str, finding: Finding) -> None:
        if self.calibration_rejected.add(subject, finding):
            log.warning("refused: %s: %s", subject, finding)

    def _recalibrated(self, modality: str, what: str, changes: str) -> None:
        finding = Finding(Fault.RECALIBRATED, fatal=False, text=changes, score=1.0)
        if self.calibration_changed.add(what, finding):
            log.warning("%s: %s", what, changes)
        self._notices[modality, Fault.RECALIBRATED] = finding

    def _tell(self, now_ns: int) -> None:
        for (modality, _), finding in self._notices.items():
            self._health.notice(modality, now_ns, finding)
        self._notices.clear()

    def _settle(self, reading: Reading) -> None:
        """Where the data of a stream lie: told if it moved, or if its transform is refused."""
        name = reading.modality
        if moved := self.view.settle(name, reading.frame_id):
            self._recalibrated(name, name, moved)
        far = self.view.far(name, reading.frame_id, moment(reading))
        if not far:
            self._refusals.pop((name, Fault.NO_TF), None)
        elif self._refuse(name, Fault.NO_TF, far):
            refusal = Finding(Fault.NO_TF, fatal=True, text=far)
            if self.calibration_rejected.newest(TRANSFORM, Fault.NO_TF) != refusal:
                self._count_refusal(TRANSFORM, refusal)  # else it was counted when it came

    def _arrived(self, modality: str, now_ns: int) -> None:
        with self._lock:
            self._tell(now_ns)
            self.pushed[modality] += 1
            self._health.arrived(modality, now_ns)

    def _reject(self, modality: str, now_ns: int, finding: Finding) -> Finding:
        with self._lock:
            self._health.reject(modality, now_ns, finding)
        return finding

    # -- what was offered -------------------------------------------------------------------------

    def _empty_inbox(self) -> None:
        """Arrival and stamp of what was offered."""
        self._waiting.clear()
        while self._inbox:
            self._inbox.popleft()()

    def _admit_unseen(self, modality: str, message: Any, now_ns: int) -> None:
        if self._deaf(modality, now_ns):
            return
        self.journal.note(Act.OFFER, now_ns, modality, message)
        self._observer.arriving(modality, now_ns)
        finding = self._admit_draft(modality, message, now_ns)
        self._observer.pushed(modality, message, now_ns, finding)

    def _admit_draft(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        self._arrived(modality, now_ns)
        if self._modes[modality] == DEAD:
            return ACKNOWLEDGED
        self._came_ns.setdefault(modality, now_ns)
        try:
            stamp_ns, _ = header(message)
        except Rejection as rejection:
            return self._reject(modality, now_ns, rejection.finding)
        self._numbers[modality] += 1
        draft = Draft(message, self._numbers[modality])
        sent: Stamped[Content] = Stamped(modality, stamp_ns, now_ns, draft)
        admission, refusal = self._admit(sent)
        for item in admission.accepted:
            doubt = self._offsets.moved.get(item.modality)
            if doubt is not None and doubt.fatal:
                self._health.reject(item.modality, now_ns, doubt)
                refusal = doubt if item.payload is draft else refusal
                continue
            self._sync.push(item)
            if isinstance(item.payload, Draft):
                self._drafts[item.modality].append(item)
        return refusal

    def _weigh(self, now_ns: int) -> None:
        """How long what was offered has waited for us, and what follows from it.

        A replay pushes: there, nothing waits for us.
        """
        if not self._numbers:
            return
        for name, came_ns in self._came_ns.items():
            self._backlog.waited(name, now_ns - came_ns)
        self._came_ns.clear()
        self._backlog.look(now_ns, overtaken=self._sync.skipped, period_ns=self._sync.period_ns)
        self._load = self._backlog.load()
        if self._backlog.overloaded:
            self._health.excuse(now_ns + SECOND, lost=self._backlog.losing)
        coarse = "events" in self._backlog.shed
        for decoder in self.modalities.values():
            decoder.coarse = coarse

    def _excused(self, finding: Finding) -> Finding:
        """Why a stream is not in a set, while it may be our fault."""
        if finding.fault is not Fault.LATE:
            return finding
        text = f"this node is behind, not the sensor: {finding.text}"
        return replace(finding, fault=Fault.OVERLOADED, text=text)

    def _look(self, now_ns: int) -> None:
        """Look into what no set will ask for: of streams that are not believed, and now and then.

        A healthy stream whose messages are overtaken must not go bad unseen.
        """
        usable = self._health.usable(now_ns)
        for name, drafts in self._drafts.items():
            if not drafts:
                continue
            believed, accumulates = name in usable, self.modalities[name].accumulates
            for item in list(drafts):
                due = item.arrival_ns - self._judged_ns.get(name, 0) >= CHECKED_NS
                if not believed or (due and not accumulates):
                    self._judge(item)
            while drafts and _judged(drafts[0]):
                drafts.popleft()

    def _vet(self, now_ns: int, items: Mapping[str, tuple[Stamped[Content], ...]]) -> bool:
        """Look into what a set is to be made of; whether all of it may be used."""
        unseen = [
            item
            for name, some in items.items()
            for item in self._needed(name, some)
            if not _judged(item)
        ]
        if not unseen:
            return True
        good = all([self._judge(item) for item in unseen])
        usable, _ = self._believed(now_ns)
        self._refused = not good or not set(items) <= set(usable)
        return not self._refused

    def _needed(
        self, name: str, items: tuple[Stamped[Content], ...]
    ) -> tuple[Stamped[Content], ...]:
        """What of a stream a set has to look into: of packets, while we are behind, the latest."""
        window_ns = self.modalities[name].window_ns
        if not window_ns or not self._backlog.overloaded:
            return items
        since_ns = items[-1].stamp_ns - 2 * window_ns
        return tuple(item for item in items if item.stamp_ns >= since_ns)

    def _judge(self, item: Stamped[Content]) -> bool:
        """Decode and check a message that was admitted; whether it may be used."""
        name, at_ns, draft = item.modality, item.arrival_ns, item.payload
        if not isinstance(draft, Draft) or draft.judged:
            return not isinstance(draft, Draft) or draft.item is not None
        decoder, message = self.modalities[name], draft.message
        draft.judged, draft.message = True, None
        if draft.number != self._judged[name] + 1:
            decoder.skipped()
        self._judged[name], self._judged_ns[name] = draft.number, at_ns
        read = self._read(decoder, message)
        if isinstance(read, Finding):
            return self._refuse_draft(item, read)
        reading, notes, digest = read
        finding = self._identify(reading, message, at_ns)
        if finding := finding or self._health.stuck(name, at_ns, digest):
            return self._refuse_draft(item, finding)
        doubt = self._offsets.moved.get(name)
        own = (*notes, *((doubt,) if doubt is not None else ()))
        self._health.accept(name, at_ns, own, stamp_ns=item.stamp_ns)
        draft.item = Stamped(name, item.stamp_ns, at_ns, reading)
        return True

    def _refuse_draft(self, item: Stamped[Content], finding: Finding) -> bool:
        """Reject what had been admitted: no."""
        self._sync.drop(item)
        self._reject(item.modality, item.arrival_ns, finding)
        return False

    # -- what was pushed --------------------------------------------------------------------------

    def _identify(self, reading: Reading, message: Any, now_ns: int) -> Finding | None:
        """Identity and calibration: why a message is refused for them, or None."""
        name = reading.modality
        identity, size = self._identities[name], self.modalities[name].size(reading.data)
        if renamed := identity.refuse(reading, self.view):
            return renamed
        for change in identity.changes(message, size):
            log.warning("%s: %s", name, change)
            self._health.notice(name, now_ns, change)
        if name == self._grid and size:
            self.view.set_image_size(*size, frame_id=reading.frame_id)
        self._settle(reading)
        self._tell(now_ns)
        at = moment(reading)
        missing = self.modalities[name].usable(reading.frame_id, self.view, at)
        self._health.block(name, _blocked(missing, reading, self.view))
        return None

    def _admit(self, sent: Stamped[Content]) -> tuple[Admission[Content], Finding | None]:
        """What the stamp guard makes of a message, and why it rejects it, if it does."""
        name, now_ns = sent.modality, sent.arrival_ns
        admission = self._guard.admit(sent)
        refusal: Finding | None = None
        for other, finding in admission.rejected:
            self._health.reject(other, now_ns, finding)
            refusal = finding if other == name else refusal
        if admission.jump_ns is not None:
            log.warning("all stamps moved by %.2f s: one reset", admission.jump_ns / SECOND)
            self._jumped(now_ns)
        self._compare(sent, admission, refusal)
        return admission, refusal

    def _forget_sets(self) -> None:
        self._sync.reset()
        self._offsets.reset()
        for drafts in self._drafts.values():
            drafts.clear()

    def _take(
        self,
        reading: Reading,
        message: Any,
        notes: tuple[Finding, ...],
        digest: int,
        now_ns: int,
    ) -> Finding | None:
        """Identity, calibration, stamp and freeze checks; what passes goes to the synchronizer."""
        name = reading.modality
        if renamed := self._identify(reading, message, now_ns):
            self._health.reject(name, now_ns, renamed)
            return renamed
        sent: Stamped[Content] = Stamped(name, reading.stamp_ns, now_ns, reading)
        admission, refusal = self._admit(sent)
        frozen = self._health.stuck(name, now_ns, digest)
        for item in admission.accepted:
            doubt = self._offsets.moved.get(item.modality)
            refused = doubt if doubt is not None and doubt.fatal else None
            if item.modality == name and frozen is not None:
                refused = frozen
            if refused is not None:
                self._health.reject(item.modality, now_ns, refused)
                refusal = refused if item is sent else refusal
                continue
            own = (*(notes if item is sent else ()), *((doubt,) if doubt is not None else ()))
            self._health.accept(item.modality, now_ns, own, stamp_ns=item.stamp_ns)
            self._sync.push(item)
        return refusal

    def _compare(
        self, sent: Stamped[Content], admission: Admission[Content], refusal: Finding | None
    ) -> None:
        """Has a sensor's clock, or its delivery, moved by less than a jump?"""
        for item in admission.accepted:
            self._offsets.see(item.modality, item.stamp_ns, item.arrival_ns)
            self._health.delivered(item.modality, item.stamp_ns, item.arrival_ns)
        refused = not any(item is sent for item in admission.accepted)
        if refused and (refusal is None or refusal.fault is Fault.OFFSET):
            # Held or refused because its stamps went back: it may have moved by less than that.
            far_ns = self._offsets.distance_ns(sent.modality, sent.stamp_ns, sent.arrival_ns)
            if far_ns is not None and abs(far_ns) <= self._jump_ns:
                self._offsets.see(sent.modality, sent.stamp_ns, sent.arrival_ns)
        self._health.dispute(self._offsets.undecided)

    def _disputed(self, match: Match[Content]) -> dict[str, Finding]:
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

    def _believed(self, now_ns: int) -> tuple[list[str], dict[str, Finding]]:
        """The streams that may enter a set, and why those may not whose stamps are ahead.

        Nobody else is held against a stamp that no delivery explains, while it is compared.
        """
        usable = self._policy.believes(self._health.usable(now_ns), now_ns)
        ahead = self._offsets.ahead()
        limit_s = self._offsets.limit_ns / SECOND
        why = {
            name: self._ahead(
                far_ns,
                f"the newest stamp is {-far_ns / SECOND:.2f} s ahead of where its peers' stamps "
                f"put it, limit {limit_s:g} s",
            )
            for name, far_ns in ahead.items()
            if name in usable
        }
        return [name for name in usable if name not in why], why

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


def _streams(
    config: RobotConfig, spec: ModelSpec, unfed: Mapping[str, Finding]
) -> Mapping[str, StreamConfig]:
    known = streams_of(spec.modalities, config.topics)
    wanted = [name for name in known if name in config.topics and name not in unfed]
    if unfed and not wanted:
        told = "; ".join(f"{name}: {finding.text}" for name, finding in unfed.items())
        raise RobustsegError(
            f"no configured stream can be fed to this network ({told}); configure another of "
            f"{list(spec.modalities)}, or use other weights"
        )
    if not wanted:
        raise RobustsegError(
            f"streams name {sorted(config.streams)}, but the network knows "
            f"{list(spec.modalities)}; configure at least one of these"
        )
    return {name: config.streams[name] for name in wanted}


def _read(decoder: Modality, message: Any, decode: Decode) -> tuple[Reading, tuple[Finding, ...]]:
    """Decode and check; raises the first fatal finding as a Rejection."""
    stamp_ns, frame_id = header(message)
    data = decode(decoder, message, stamp_ns)
    findings, quality = checked(decoder, data)
    fatal = next((finding for finding in findings if finding.fatal), None)
    if fatal is not None:
        raise Rejection(fatal.fault, fatal.text, final=fatal.final)
    return Reading(decoder.name, stamp_ns, frame_id, data, quality), findings


def _judged(item: Stamped[Content]) -> bool:
    return not isinstance(item.payload, Draft) or item.payload.judged


def _seen(item: Stamped[Content]) -> Stamped[Reading]:
    """What a set gets of a message that was looked into."""
    found = item.payload.item if isinstance(item.payload, Draft) else item
    assert found is not None  # it was vetted
    return cast("Stamped[Reading]", found)


def checked(decoder: Modality, data: Any) -> tuple[tuple[Finding, ...], float]:
    """(what the content checks find in a sensor's data, quality that they leave of it)."""
    findings = tuple(decoder.check(data))
    return findings, min((finding.score for finding in findings), default=1.0)


def _blocked(missing: Fault | None, reading: Reading, view: View) -> Finding | None:
    """What people are told while a sensor cannot be placed."""
    if missing is None:
        return None
    text = view.why(missing, reading.modality, reading.frame_id, moment(reading))
    return Finding(missing, fatal=False, text=text)
