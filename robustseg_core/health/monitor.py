"""Is each stream telling the truth? Evidence in, one state per stream out, with reasons.

Four channels of evidence: arrival (`arrival`, on the caller's steady clock), stamp (`stamps`),
format (the decoders' `Rejection`s) and content (each modality's `check`). A bad *message* is never
used, whatever the state; the *state* is for expectations, waiting and reporting (PX4's error
density and back-off, Nav2's consecutive counts; docs/specs/health.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from robustseg_core.config import AUTO, DEAD, OFF, HealthConfig, StreamConfig
from robustseg_core.health.arrival import ArrivalMonitor
from robustseg_core.health.freeze import FreezeDetector
from robustseg_core.types import SECOND, Fault, Finding, Health, State

SMOOTHING = 0.3
"""Weight of the newest score in the running one: about three messages of memory."""
BEGIN = {OFF: State.DISABLED, AUTO: State.WAITING, DEAD: State.DEAD}
"""Mode of a stream -> the state that it begins with; only an automatic one ever leaves it."""
ALIVE = (State.LIVE, State.DEGRADED, State.RECOVERING)


@dataclass(slots=True)
class _Stream:
    """What is known of one stream; all times on the steady clock."""

    mode: str
    arrival: ArrivalMonitor
    state: State
    since_ns: int | None = None
    findings: tuple[Finding, ...] = ()
    """Why the state is what it is."""
    notes: tuple[Finding, ...] = ()
    """What the newest used message is suspected of."""
    doubtful: int = 0
    """Messages in a row that are suspected of something."""
    doubts: tuple[Finding, ...] = ()
    """What the newest suspected message is suspected of: why the score is low."""
    notices: tuple[tuple[int, Finding], ...] = ()
    """(told until, what) of things that happened once, and that nobody need act on."""
    blocked: Finding | None = None
    disputed: Finding | None = None
    """That it and another disagree about the time, and nobody knows which of them is wrong."""
    compared: Finding | None = None
    """What its peers hold against it; fatal: it is proven wrong."""
    delivered: Finding | None = None
    """That it comes in bursts, since it was found."""
    good: int = 0
    bad: int = 0
    density: int = 0
    good_since_ns: int = 0
    good_from_ns: int = 0
    """Arrival, and stamp, of the first of those messages in a row."""
    score: float = 1.0
    score_side_ns: int | None = None
    """Since when the smoothed score has been beyond the threshold that would change the state."""
    need_s: float = 0.0
    recovered_ns: int | None = None
    received: int = 0
    rejected: Counter[Fault] = field(default_factory=Counter)

    def become(self, state: State, now_ns: int, *findings: Finding) -> None:
        if state is not self.state:
            self.since_ns = now_ns
            self.score_side_ns = None
        self.state = state
        self.findings = findings


class HealthMonitor:
    """One state machine per stream; a pure function of what it was told, and when.

    Args:
        config: thresholds of the state machine.
        streams: the configured streams.
    """

    def __init__(self, config: HealthConfig, streams: Mapping[str, StreamConfig]) -> None:
        self._config = config
        self._start_ns: int | None = None
        self._streams = {
            name: _Stream(
                mode=stream.in_force,
                arrival=ArrivalMonitor(config, stream.rate_hz),
                state=BEGIN[stream.in_force],
                need_s=config.recover_s,
            )
            for name, stream in streams.items()
        }
        self._freezes = FreezeDetector(config, streams)

    def configure(self, config: HealthConfig) -> None:
        """Other thresholds from now on; states, and what was learned, stay."""
        self._config = config
        self._freezes.configure(config)
        for stream in self._streams.values():
            stream.arrival.configure(config)

    def switch(self, name: str, mode: str, now_ns: int) -> None:
        """Another mode of a stream: whoever is told to listen again waits for good messages.

        Learned rates, and the counts of its messages, stay.
        """
        stream = self._streams[name]
        if mode == stream.mode:
            return
        stream.mode = mode
        stream.blocked = stream.disputed = stream.compared = stream.delivered = None
        stream.score = 1.0
        self._start_anew(name, now_ns)

    # -- evidence ---------------------------------------------------------------------------------

    def arrived(self, name: str, now_ns: int) -> None:
        """A message came, whatever is in it."""
        stream = self._streams[name]
        self.advance(now_ns)
        stream.arrival.arrived(now_ns)
        stream.received += 1

    def missed(self, name: str, until_ns: int) -> None:
        """Messages came until then, and were lost before we could take them."""
        self._streams[name].arrival.missed(until_ns)

    def excuse(self, until_ns: int, *, lost: bool) -> None:
        """We are overloaded: until then no sensor is slow or lossy.

        Nor, where messages were lost on our side, silent before the longest silence is over.
        """
        for stream in self._streams.values():
            stream.arrival.excuse(until_ns, lost=lost)

    def block(self, name: str, finding: Finding | None) -> None:
        """The stream speaks but cannot be placed (no calibration, no TF), or again can."""
        stream = self._streams[name]
        stream.blocked = finding
        if finding is not None and stream.state in (State.WAITING, *ALIVE):
            stream.good = 0
            stream.become(State.WAITING, stream.arrival.last_ns or 0, finding)

    def reject(self, name: str, now_ns: int, finding: Finding) -> None:
        """This message is bad and is not used."""
        stream, config = self._streams[name], self._config
        stream.rejected[finding.fault] += 1
        stream.good, stream.bad = 0, stream.bad + 1
        stream.density += 1
        enough = (
            stream.state is State.RECOVERING
            or finding.fault is Fault.STUCK
            or finding.final
            or stream.bad >= config.bad_to_die
            or stream.density >= config.error_density
        )
        if stream.state in (State.WAITING, State.DEAD):
            stream.findings = (finding,)
        elif stream.state in ALIVE and enough:
            self._die(stream, now_ns, finding)

    def accept(
        self,
        name: str,
        now_ns: int,
        notes: Iterable[Finding] = (),
        *,
        stamp_ns: int | None = None,
    ) -> None:
        """This message is good enough to be used; `notes` are non-fatal findings about it.

        Only alarms are reported, and only after some in a row; remarks lower the score. Without a
        stamp, only arrivals say for how long the stream has been good.
        """
        stamp_ns = now_ns if stamp_ns is None else stamp_ns
        stream, config = self._streams[name], self._config
        notes = tuple(notes)
        stream.notes = tuple(note for note in notes if note.alarm)
        stream.doubtful = stream.doubtful + 1 if stream.notes else 0
        stream.doubts = stream.notes or stream.doubts or notes
        stream.bad, stream.density = 0, max(0, stream.density - 1)
        stream.good += 1
        if stream.good == 1:
            stream.good_since_ns, stream.good_from_ns = now_ns, stamp_ns
        newest = min((note.score for note in notes), default=1.0)
        stream.score += SMOOTHING * (newest - stream.score)
        if stream.state is State.WAITING and stream.blocked is None:
            alone = sum(s.mode == AUTO for s in self._streams.values()) == 1
            if stream.good >= (1 if alone else config.good_to_start):
                stream.become(State.LIVE, now_ns)
        elif stream.state in (State.DEAD, State.RECOVERING):
            self._recover(stream, now_ns, stamp_ns)
        elif stream.state in (State.LIVE, State.DEGRADED):
            self._grade(stream, now_ns)

    def stuck(self, name: str, now_ns: int, digest: int) -> Finding | None:
        """Compare a payload's fingerprint with those before it; a finding if it is frozen."""
        return self._freezes.see(name, now_ns, digest)

    def notice(self, name: str, now_ns: int, finding: Finding) -> None:
        """Something happened once that people should hear of; the message is used all the same."""
        stream = self._streams[name]
        until_ns = now_ns + round(self._config.notice_s * SECOND)
        kept = [(t, f) for t, f in stream.notices if t > now_ns and f.fault is not finding.fault]
        stream.notices = (*kept, (until_ns, finding))

    def delivered(self, name: str, stamp_ns: int, now_ns: int) -> None:
        """A message with a believable stamp came: how are they delivered? Said once, and kept."""
        stream = self._streams[name]
        finding = stream.arrival.bursts.see(stamp_ns, now_ns)
        if finding is not None:
            stream.delivered = finding
            self.notice(name, now_ns, finding)

    def dispute(self, findings: Mapping[str, Finding]) -> None:
        """Streams that disagree about the time, all of them; they are used all the same."""
        for name, stream in self._streams.items():
            stream.disputed = findings.get(name)

    def compare(self, findings: Mapping[str, Finding]) -> None:
        """What its peers hold against each stream (`evidence`); of the others, nothing.

        Who is proven wrong is reported dead, and is listened to all the same: it may be mended.
        """
        for name, stream in self._streams.items():
            stream.compared = findings.get(name)

    @property
    def bursts(self) -> dict[str, Finding]:
        """The streams that have been found to come in bursts, and how."""
        return {n: s.delivered for n, s in self._streams.items() if s.delivered is not None}

    # -- opinion ----------------------------------------------------------------------------------

    def advance(self, now_ns: int) -> None:
        """Let time pass: silence is found here, not when a message arrives."""
        if self._start_ns is None:
            self._start_ns = now_ns
        for name, stream in self._streams.items():
            if stream.state in ALIVE and (died_ns := stream.arrival.silent_ns(now_ns)):
                stream.notes, stream.doubtful = (), 0
                self._freezes.forget(name)
                self._die(stream, died_ns, stream.arrival.silence(died_ns))

    def usable(self, now_ns: int) -> tuple[str, ...]:
        """Names of the streams that may enter a set."""
        self.advance(now_ns)
        return tuple(n for n, s in self._streams.items() if s.state.usable and s.blocked is None)

    def states(self) -> dict[str, State]:
        """The state of every stream, as `report` had it if no time had passed since."""
        return {name: _believed(stream) for name, stream in self._streams.items()}

    def report(self, now_ns: int) -> dict[str, Health]:
        """The opinion of every stream at this moment."""
        self.advance(now_ns)
        return {name: self._health(stream, now_ns) for name, stream in self._streams.items()}

    def reset(self, now_ns: int) -> None:
        """Start anew (lifecycle activate, `~/reset`): all WAITING, learned rates kept."""
        self._start_ns = now_ns
        for name in self._streams:
            self._start_anew(name, now_ns)

    def _start_anew(self, name: str, now_ns: int) -> None:
        stream = self._streams[name]
        stream.arrival.reset()
        self._freezes.forget(name)
        stream.good = stream.bad = stream.density = 0
        stream.notes, stream.notices, stream.doubtful = (), (), 0
        stream.compared = None
        stream.become(BEGIN[stream.mode], now_ns)

    # -- the state machine ------------------------------------------------------------------------

    def _die(self, stream: _Stream, now_ns: int, finding: Finding) -> None:
        config = self._config
        relapse = stream.state is State.RECOVERING or (
            stream.recovered_ns is not None
            and now_ns - stream.recovered_ns <= config.relapse_s * SECOND
        )
        stream.need_s = (
            min(stream.need_s * 2, config.backoff_max_s) if relapse else config.recover_s
        )
        stream.good = 0
        stream.become(State.DEAD, now_ns, finding)

    def _recover(self, stream: _Stream, now_ns: int, stamp_ns: int) -> None:
        config = self._config
        # What came at once, after a stall of the network, is as good as its stamps are long.
        spans_ns = now_ns - stream.good_since_ns, stamp_ns - stream.good_from_ns
        good_s = max(spans_ns) / SECOND
        if stream.good >= config.recover_count and good_s >= stream.need_s:
            stream.recovered_ns = now_ns
            stream.density, stream.score = 0, 1.0
            stream.become(State.LIVE, now_ns)
            return
        text = (
            f"{stream.good} good in {good_s:.2f} s, "
            f"needs {config.recover_count} in {stream.need_s:g} s"
        )
        stream.become(State.RECOVERING, now_ns, Finding(Fault.RECOVERING, fatal=False, text=text))

    def _grade(self, stream: _Stream, now_ns: int) -> None:
        """LIVE and DEGRADED, with hysteresis in score and time."""
        config = self._config
        live = stream.state is State.LIVE
        beyond = (
            stream.score < config.degraded_below if live else stream.score > config.degraded_above
        )
        if not beyond:
            stream.score_side_ns = None
        elif stream.score_side_ns is None:
            stream.score_side_ns = now_ns
        if not live and stream.notes:
            stream.findings = stream.notes
        held_ns = now_ns - stream.score_side_ns if stream.score_side_ns is not None else -1
        if beyond and held_ns >= config.degraded_s * SECOND:
            if live:
                stream.become(State.DEGRADED, now_ns, *stream.doubts)
            else:
                stream.become(State.LIVE, now_ns, *stream.notes)

    def _health(self, stream: _Stream, now_ns: int) -> Health:
        state, findings = _believed(stream), stream.findings
        if stream.mode == DEAD:
            speaks = stream.arrival.last_ns is not None and not stream.arrival.silent_ns(now_ns)
            text = "its mode is dead" + "; it speaks, and mode auto would use it" * speaks
            findings = (Finding(Fault.ACKNOWLEDGED, fatal=False, text=text, score=1.0),)
        elif stream.state is State.DISABLED:
            findings = (Finding(Fault.DISABLED, fatal=False, text="switched off by parameter"),)
        elif stream.state is State.WAITING and stream.arrival.last_ns is None:
            begun_ns = now_ns if self._start_ns is None else self._start_ns
            start_ns = max(begun_ns, stream.since_ns or begun_ns)  # or since its mode is auto
            waited_s = (now_ns - start_ns) / SECOND
            text = f"no message for {waited_s:.1f} s since the start"
            late = waited_s > self._config.grace_s
            findings = (
                Finding(
                    Fault.NEVER_SEEN,
                    fatal=late,
                    text=text,
                    value=waited_s,
                    limit=self._config.grace_s,
                    unit="s",
                ),
            )
        elif stream.state is State.WAITING and not findings:
            text = f"{stream.good} good messages, needs {self._config.good_to_start}"
            findings = (Finding(Fault.STARTING, fatal=False, text=text),)
        elif (
            stream.state is State.DEAD
            and findings
            and findings[0].fault is Fault.SILENT
            and stream.arrival.silent_ns(now_ns)  # else it has spoken, and nobody has judged it yet
        ):
            findings = (stream.arrival.silence(now_ns),)
        elif stream.state.usable and stream.compared is not None and stream.compared.fatal:
            findings = (stream.compared,)
        elif stream.state.usable:
            if stream.compared is not None:
                findings = (stream.compared, *findings)
            live = stream.state is State.LIVE
            told = stream.notes if live and stream.doubtful >= self._config.doubts_to_warn else ()
            notices = (finding for until_ns, finding in stream.notices if now_ns < until_ns)
            disputed = (stream.disputed,) if stream.disputed is not None else ()
            findings = (*findings, *told, *disputed, *stream.arrival.delay(), *notices)
        elif stream.state is State.RECOVERING:
            findings = (*findings, *stream.arrival.delay())
        return Health(
            state=state,
            findings=findings,
            since_ns=stream.since_ns,
            rate_hz=stream.arrival.rate_hz,
            age_ms=stream.arrival.age_ms(now_ns),
            score=stream.score,
            received=stream.received,
            rejected=dict(stream.rejected),
        )


def _believed(stream: _Stream) -> State:
    """The state that is told: of whom its peers prove wrong it is DEAD, and nobody forgets why."""
    if not stream.state.usable or stream.compared is None:
        return stream.state
    return State.DEAD if stream.compared.fatal else State.DEGRADED
