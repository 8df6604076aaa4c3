"""The gate's own work: what comes in is admitted, checked and believed, and sets are closed.

push    message -> decode -> check -> Reading -> admit -> set
offer   message -> admit -> set -> decode -> check -> Reading
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

from robustseg_core import modalities
from robustseg_core.codecs.fields import header
from robustseg_core.config import AUTO, DEAD, OFF, StreamConfig
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.geometry.view import View
from robustseg_core.health.backlog import Backlog, Load
from robustseg_core.health.identity import Identity
from robustseg_core.health.monitor import HealthMonitor
from robustseg_core.intake.calibration import Calibration, blocked
from robustseg_core.intake.clocks import Clocks
from robustseg_core.intake.drafts import Content, Draft, Drafts, judged, seen
from robustseg_core.intake.journal import NO_JOURNAL, Act
from robustseg_core.intake.observer import NOBODY, Observer
from robustseg_core.intake.policy import HEALTH_DECIDES, Policy
from robustseg_core.intake.reading import Decode, each_for_itself, read
from robustseg_core.intake.register import Register
from robustseg_core.modalities import Modality
from robustseg_core.modalities._base import moment
from robustseg_core.robot.config import RobotConfig
from robustseg_core.sync.stamps import Admission, Stamped
from robustseg_core.sync.synchronizer import Match, Synchronizer
from robustseg_core.types import (
    SECOND,
    Fault,
    Finding,
    Health,
    ModelSpec,
    Reading,
    Rejection,
    State,
    kind_of,
    streams_of,
)

log = logging.getLogger(__name__)

MOST_WAITING, MOST_PACKETS = 16, 512
"""Messages of a stream that are offered, and of one that accumulates, before somebody sees to them:
who offers one more does it himself."""
ACKNOWLEDGED = Finding(Fault.ACKNOWLEDGED, fatal=False, text="its mode is dead", score=1.0)
"""What becomes of a message of a sensor that somebody has said is dead."""


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
        self.ignored = tuple(n for n in config.topics if n not in streams and n not in self.unfed)
        """Streams that the network does not know: nobody listens to them."""
        self._streams = streams
        self._modes = {name: stream.in_force for name, stream in streams.items()}
        self._calibration = Calibration(self.view)
        self._clocks = Clocks(
            config.sync, {name: stream.rate_hz for name, stream in streams.items()}
        )
        self._sync: Synchronizer[Content] = Synchronizer(
            config.sync, streams, [n for n, m in self.modalities.items() if m.accumulates]
        )
        self._inbox: deque[Callable[[], object]] = deque()
        """What was offered, in the order in which it came; appended to without the lock."""
        self._waiting: Counter[str] = Counter()
        self._drafts = Drafts(self.modalities, config.sync.ring)
        self._came_ns: dict[str, int] = {}
        """When the oldest message came that was offered since the last poll."""
        self._backlog = Backlog(streams)
        self._load = self._backlog.load()
        self._report: dict[str, Health] = {}
        """The newest of `health`."""
        self._refused = False
        """Whether a message was rejected that a set had wanted."""
        self._health = HealthMonitor(config.health, streams)
        self._identities = {name: Identity() for name in streams}
        self._observer, self._policy = observer, policy
        self._decoded = decode
        self._lock = threading.RLock()
        self.journal = NO_JOURNAL
        """Who is told every act; to be exchanged in a `turn`."""

    def turn(self) -> AbstractContextManager[object]:
        """Nobody else changes anything within a `with` of it; may be entered again."""
        return self._lock

    @property
    def jumps(self) -> int:
        """How often all stamps jumped."""
        return self._clocks.jumps

    @property
    def calibration_rejected(self) -> Register:
        """What was refused of CameraInfo and transforms, and how often; the last good stays."""
        return self._calibration.rejected

    @property
    def calibration_changed(self) -> Register:
        """What became another in mid-drive, old and new value, and how often; it is used."""
        return self._calibration.changed

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
        while its stream is not believed, and every `drafts.CHECKED_NS`; the observer is told what
        is known of it before (`Observer.pushed`).

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
        found = read(decoder, message, self._decoded)
        if isinstance(found, Finding):
            return self._reject(decoder.name, now_ns, found)
        reading, notes, digest = found
        with self._lock:
            return self._take(reading, message, notes, digest, now_ns)

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
                self._drafts.lost(modality)

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
            return self._calibration.camera_info(modality, message, rectified=rectified)

    def push_transforms(self, message: Any, *, moving: bool = False) -> Finding | None:
        """Take transforms (tf2_msgs/TFMessage); why one was rejected, or None.

        Args:
            message: the message; it may be serialized (`edges`).
            moving: they are of /tf, and hold at their stamps; else of /tf_static, and for ever.
        """
        with self._lock:
            self.journal.note(Act.MOVING if moving else Act.STATIC, 0, "", message)
            finding = self._calibration.transforms(message, moving=moving)
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
            self._calibration.refuse(topic, finding)

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
            disputed = self._clocks.disputed(match)
            absent = {**match.absent, **disputed, **ahead} if ahead or disputed else match.absent
            if self._backlog.overloaded:
                absent = {name: self._excused(finding) for name, finding in absent.items()}
            items = {
                name: tuple(seen(item) for item in some if judged(item))
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
        return self._clocks.told

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
            self._backlog.reset()
            self._load, self._report = self._backlog.load(), {}
            self._sync.reset()
            self._drafts.clear()
            self._clocks.reset()
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
        self._drafts.forget(name)
        self._sync.forget(name)
        self._clocks.forget(name)
        self._health.dispute(self._clocks.undecided)
        self.modalities[name].skipped()

    def clock_jumped(self, now_ns: int) -> None:
        """The clock that stamps go by was set: the stamps have just told it, or soon will.

        They know which message is of before and which of after. Where they say nothing, sets are
        forgotten `clocks.TOGETHER_NS` later all the same. A jump is one reset, whoever tells it.
        """
        with self._lock:
            self._empty_inbox()
            self.journal.note(Act.CLOCK, now_ns)
            self._clocks.was_set(now_ns)

    def _look_at_clock(self, now_ns: int) -> None:
        """Whether the clock was set, and the stamps have had the time to say so, and did not."""
        if self._clocks.set_unseen(now_ns):
            log.warning("the clock was set, and the stamps were not: one reset")
            self._jumped(now_ns)
            self._clocks.forget_stamps()

    def _jumped(self, now_ns: int) -> None:
        """All stamps have: what waits for a set is of before."""
        self._clocks.jumped(now_ns)
        self._sync.reset()
        self._drafts.clear()

    def _tell(self, now_ns: int) -> None:
        for modality, finding in self._calibration.notices():
            self._health.notice(modality, now_ns, finding)

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
        draft = self._drafts.draft(modality, message)
        sent: Stamped[Content] = Stamped(modality, stamp_ns, now_ns, draft)
        admission, refusal = self._admit(sent)
        for item in admission.accepted:
            doubt = self._clocks.doubt(item.modality)
            if doubt is not None and doubt.fatal:
                self._health.reject(item.modality, now_ns, doubt)
                refusal = doubt if item.payload is draft else refusal
                continue
            self._sync.push(item)
            self._drafts.keep(item)
        return refusal

    def _weigh(self, now_ns: int) -> None:
        """How long what was offered has waited for us, and what follows from it.

        A replay pushes: there, nothing waits for us.
        """
        if not self._drafts.any_came:
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
        """Look into what no set will ask for (`Drafts.unasked`)."""
        usable = self._health.usable(now_ns)
        for name, decoder in self.modalities.items():
            believed, accumulates = name in usable, decoder.accumulates
            for item in self._drafts.unasked(name, believed=believed, accumulates=accumulates):
                self._judge(item)

    def _vet(self, now_ns: int, items: Mapping[str, tuple[Stamped[Content], ...]]) -> bool:
        """Look into what a set is to be made of; whether all of it may be used."""
        unseen = [
            item
            for name, some in items.items()
            for item in self._needed(name, some)
            if not judged(item)
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
        decoder = self.modalities[name]
        message, follows = self._drafts.open(item, draft)
        if not follows:
            decoder.skipped()
        found = read(decoder, message, self._decoded)
        if isinstance(found, Finding):
            return self._refuse_draft(item, found)
        reading, notes, digest = found
        finding = self._identify(reading, message, at_ns)
        if finding := finding or self._health.stuck(name, at_ns, digest):
            return self._refuse_draft(item, finding)
        doubt = self._clocks.doubt(name)
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
        self._calibration.settle(reading)
        self._tell(now_ns)
        at = moment(reading)
        missing = self.modalities[name].usable(reading.frame_id, self.view, at)
        self._health.block(name, blocked(missing, reading, self.view))
        return None

    def _admit(self, sent: Stamped[Content]) -> tuple[Admission[Content], Finding | None]:
        """What the stamp guard makes of a message, and why it rejects it, if it does."""
        name, now_ns = sent.modality, sent.arrival_ns
        admission = self._clocks.admit(sent)
        refusal: Finding | None = None
        for other, finding in admission.rejected:
            self._health.reject(other, now_ns, finding)
            refusal = finding if other == name else refusal
        if admission.jump_ns is not None:
            log.warning("all stamps moved by %.2f s: one reset", admission.jump_ns / SECOND)
            self._jumped(now_ns)
        # Has its clock, or its delivery, moved by less than a jump?
        self._clocks.compare(sent, admission, refusal)
        for item in admission.accepted:
            self._health.delivered(item.modality, item.stamp_ns, item.arrival_ns)
        self._health.dispute(self._clocks.undecided)
        return admission, refusal

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
            doubt = self._clocks.doubt(item.modality)
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

    def _believed(self, now_ns: int) -> tuple[list[str], dict[str, Finding]]:
        """The streams that may enter a set, and why those may not whose stamps are ahead."""
        usable = self._policy.believes(self._health.usable(now_ns), now_ns)
        why = self._clocks.ahead(usable)
        return [name for name in usable if name not in why], why


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
