"""The checks of a stream that need no geometry: is it there, does it speak, can it be read?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from robustseg_core.codecs.message_types import CLOUD, IMAGE
from robustseg_core.config import DEAD, OFF
from robustseg_core.doctor.loss import (
    FAST_DDS,
    FEWEST,
    RUINOUS,
    WARNED,
    Wire,
    loss_of,
)
from robustseg_core.doctor.observation import NONE, Offer, Stream, cut, of_type
from robustseg_core.doctor.report import COLUMNS, Check
from robustseg_core.errors import did_you_mean
from robustseg_core.types import SECOND, Fault, State

LATE_S = 1.0
"""A stamp older than this is news: the health monitor's and diagnostic_updater's own limit is 5."""
AHEAD_S = 0.1
SEEN_SHARE = 0.8
"""A healthy stream is in this share of the masks, from the first that it is in."""
TOLERATED = 0.2
"""Of the masks: alarms in fewer are weather, not a fault."""
BULKY = (IMAGE, CLOUD)

TIME = (
    Fault.ZERO_STAMP,
    Fault.REPEATED_STAMP,
    Fault.OUT_OF_ORDER,
    Fault.OFFSET,
    Fault.LATE,
    Fault.SENSOR_CLOCK,
)
ELSEWHERE = (
    *TIME,
    Fault.FRAME_ID,
    Fault.NO_TF,
    Fault.NO_CALIB,
    Fault.RECALIBRATED,
    Fault.SILENT,
    Fault.SLOW,
    Fault.LOSSY,
    Fault.NEVER_SEEN,
    Fault.STARTING,
    Fault.RECOVERING,
    Fault.DISABLED,
    Fault.ACKNOWLEDGED,
)
"""What is not about the payload."""

_DRIVER = "let the driver set header.stamp to the time of measurement, anew for each message"
_DIRT = "clean and uncover the sensor; if it sees well, relax streams.<name>.limits"
FIXES: Mapping[Fault, str] = {
    Fault.ZERO_STAMP: _DRIVER,
    Fault.REPEATED_STAMP: f"{_DRIVER}; two publishers do this too: ros2 topic info -v <topic>",
    Fault.OUT_OF_ORDER: "look for a second publisher: ros2 topic info -v <topic>",
    Fault.OFFSET: "synchronize the sensor's clock with the robot's (chrony or PTP)",
    Fault.LATE: "raise streams.<name>.max_age_ms, or sync.deadline_ms",
    Fault.SENSOR_CLOCK: "restart the sensor, whose own clock does not go with its stamps "
    "(a recording that is played in a loop does this, too)",
    Fault.FORMAT: "configure the driver for what is expected, or record and report the message",
    Fault.STUCK: "restart the driver: it repeats one message with new stamps",
    Fault.BLACK: "remove the lens cap, or let the camera expose longer",
    Fault.SATURATED: "let the camera expose automatically",
    Fault.DEPTH_UNIT: "publish 16UC1 in millimetres or 32FC1 in metres (REP 118)",
    Fault.INVALID_DEPTH: "check the depth camera's projector and range",
    Fault.UNDECODABLE: "check the event driver's encoding: evt3 is expected",
    Fault.SEQUENCE_GAP: "raise the event driver's queue depth, or lower its rate",
    Fault.EVENT_FLOOD: "lower the event camera's sensitivity, or its rate limit",
    Fault.RESOLUTION: "let the driver keep one size",
    Fault.INTERNAL: "a bug of robustseg: report it with the recording",
}
"""What to do about a fault; where nothing is said, the sensor is to be cleaned."""


def check_stream(stream: Stream) -> list[Check]:
    """All but frame, TF and calibration, up to the first that leaves the rest without a meaning."""
    checks = [_topic(stream), _type(stream), _publishers(stream), _qos(stream)]
    silent = not stream.log.arrivals_ns
    if checks[0].status is NONE or stream.offer is None:
        return checks[:1]
    checks.append(_rate(stream))
    if silent:
        return checks
    checks.append(_loss(stream))
    return [*checks, _stamps(stream), _decode(stream), _used(stream)]


def complete(checks: Iterable[Check]) -> tuple[Check, ...]:
    """One check per column, in their order."""
    have = {check.name: check for check in checks}
    return tuple(have.get(name, Check(name, NONE)) for name in COLUMNS)


def _topic(stream: Stream) -> Check:
    if stream.config.in_force == OFF:
        return Check("topic", NONE, f"switched off: {stream.config.why_off}")
    if stream.config.in_force == DEAD:
        return Check("topic", NONE, "acknowledged: mode is dead")
    offers = stream.observation.offers
    if stream.offer is not None:
        return stream.ok("topic")
    where = "nobody publishes" if stream.observation.live else "the recording has no"
    candidates = of_type(offers, stream.kind.messages)
    start = "start its driver" if stream.observation.live else "record it"
    fix = f"{start}: <topic>"
    if candidates:
        hint = did_you_mean(stream.config.topic, candidates)
        fix = f"{hint} Then set streams.<name>.topic; else {start}"
    return stream.bad("topic", f"{where} {stream.config.topic}", fix)


def _type(stream: Stream) -> Check:
    offer, accepted = stream.offer, stream.kind.messages
    if offer is None:
        return Check("type", NONE)
    strange = [kind for kind in offer.types if kind not in accepted]
    if not strange:
        return stream.ok("type", ", ".join(offer.types))
    found = f"found {', '.join(strange)}, expected {' or '.join(accepted)}"
    candidates = [
        t for t in of_type(stream.observation.offers, accepted) if t != stream.config.topic
    ]
    fix = "publish it as that type, or set streams.<name>.topic"
    fix += f" to one of {', '.join(candidates[:4])}" if candidates else " to another topic"
    if len(strange) < len(offer.types):
        return stream.warn("type", found, f"stop the publisher of {strange[0]}")
    return stream.bad("type", found, fix)


def _publishers(stream: Stream) -> Check:
    count = stream.offer.publishers if stream.offer else None
    if count is None:
        return Check("publishers", NONE)
    if count < 2:
        return stream.ok("publishers", f"{count}")
    fix = "stop all but one; ros2 topic info -v <topic> names them"
    return stream.warn("publishers", f"{count} publishers, expected 1: they interleave", fix)


def _qos(stream: Stream) -> Check:
    if stream.offer is None or stream.offer.publishers is None:
        return Check("qos", NONE)
    if not stream.offer.mismatch:
        return stream.ok("qos")
    return stream.bad("qos", *cut(stream.offer.mismatch))


def _rate(stream: Stream) -> Check:
    times = np.array(stream.log.arrivals_ns, np.int64)
    observation, expected_hz = stream.observation, stream.config.rate_hz
    if not len(times):
        return _silence(stream)
    ends = [observation.end_ns] if observation.live else [observation.start_ns, observation.end_ns]
    gaps_s = np.diff(np.sort(np.concatenate([times, ends]))) / SECOND
    span_s = (times[-1] - times[0]) / SECOND
    rate_hz = (len(times) - 1) / span_s if span_s > 0 else 0.0
    found = f"{rate_hz:.1f} Hz" if len(times) > 1 else "1 message"
    if gaps_s.max() > max(1.0, observation.seconds / 2, 3 / rate_hz if rate_hz else 0.0):
        return stream.bad(
            "rate",
            f"{found}, but silent for {gaps_s.max():.1f} of {observation.seconds:.1f} s",
            "look at the driver, its cable and its power: it stopped",
        )
    if gaps_s.max() > max(1.0, 3 / rate_hz if rate_hz else 0.0):
        fix = "look at the driver, its cable and its power: it pauses"
        return stream.warn("rate", f"{found}, with a pause of {gaps_s.max():.1f} s", fix)
    fix = "let the driver keep its rate, or set streams.<name>.rate_hz to the real one"
    if expected_hz and rate_hz < expected_hz / 2:
        return stream.warn("rate", f"{found}, expected {expected_hz:g} Hz", fix)
    if expected_hz and rate_hz > 1.5 * expected_hz:
        fix = f"set streams.<name>.rate_hz to {rate_hz:.3g}, or stop a second publisher"
        return stream.warn("rate", f"{found}, expected {expected_hz:g} Hz", fix)
    return stream.ok("rate", found)


def _silence(stream: Stream) -> Check:
    """Nothing came at all: the fix depends on what was wrong before."""
    offer: Offer | None = stream.offer
    found = f"no message in {stream.observation.seconds:.1f} s"
    if offer is None or not stream.observation.live:
        return stream.bad("rate", found, "record <topic> again: the bag knows it, and it is empty")
    if offer.mismatch:
        return stream.bad("rate", found, "mend the QoS first")
    if not set(offer.types) & set(stream.kind.messages):
        return stream.bad("rate", found, "mend the type first")
    fix = "see whether its driver runs: ros2 topic hz <topic>"
    if set(offer.types) & set(BULKY):
        wire = stream.observation.wire or Wire(FAST_DDS, {})
        fix += f"; large messages get lost by default: {wire.cure()}"
    return stream.bad("rate", found, fix)


def _loss(stream: Stream) -> Check:
    wire = stream.observation.wire
    reception = wire.receptions.get(stream.name) if wire is not None else None
    if wire is None or reception is None:
        return Check("loss", NONE)
    if (loss := loss_of(reception)) is None:
        return Check("loss", NONE, f"{wire.middleware} numbers nothing, and no rate is kept")
    sent = loss.heard + loss.lost
    found = (
        f"{100 * loss.share:.1f} % of {sent} messages lost in {stream.observation.seconds:.1f} s"
    )
    found += f" ({wire.middleware}, by {loss.by}; the largest that came: {_bytes(reception.size)})"
    if loss.lost < FEWEST or loss.share < WARNED:
        return stream.ok("loss", found)
    fix = wire.cure()
    if reception.overflows:
        found += (
            f"; our own queue, found full at {reception.overflows} looks, may have a share in it"
        )
        fix += "; and stop other programs on this computer"
    tell = stream.bad if loss.share >= RUINOUS else stream.warn
    return tell("loss", found, fix)


def _stamps(stream: Stream) -> Check:
    rejected = stream.health.rejected
    wrong = {fault: rejected[fault] for fault in TIME if rejected.get(fault)}
    if wrong:
        fault = max(wrong, key=lambda f: wrong[f])
        count, total = sum(wrong.values()), len(stream.log.arrivals_ns)
        text = stream.log.texts.get(fault, "")
        found = f"{count} of {total} messages rejected, {fault.value}" + (text and f": {text}")
        tell = stream.bad if 2 * count > total else stream.warn
        return tell("stamps", cut(found)[0] if "; " in found else found, FIXES[fault])
    age_ms = stream.observation.ages_ms.get(stream.name)
    if age_ms is None:
        return stream.ok("stamps")
    if -AHEAD_S * 1e3 <= age_ms <= LATE_S * 1e3:
        return stream.ok("stamps", f"{age_ms:.0f} ms old on arrival")
    side = "old" if age_ms > 0 else "ahead"
    fix = "synchronize the clocks (chrony); a recording is played with restamping, or with "
    fix += "`ros2 bag play --clock` and use_sim_time: true"
    found = f"stamps are {_span(abs(age_ms) / 1e3)} {side} on the robot's clock, limit {LATE_S:g} s"
    return stream.warn("stamps", found, fix)


def _decode(stream: Stream) -> Check:
    log, health = stream.log, stream.health
    total = len(log.arrivals_ns)
    wrong = {f: n for f, n in health.rejected.items() if f not in ELSEWHERE and n}
    if wrong:
        fault = max(wrong, key=lambda f: wrong[f])
        found, hint = f"{sum(wrong.values())} of {total} messages rejected, {fault.value}", ""
        if text := log.texts.get(fault):
            # Our sentences about formats end with a way out; those about content are measurements.
            text, hint = cut(text) if fault is Fault.FORMAT else (text, "")
            found += f": {text}"
        dead = health.state is State.DEAD or 2 * sum(wrong.values()) > total
        tell = stream.bad if dead else stream.warn
        return tell("decode", found, hint or FIXES.get(fault, _DIRT))
    masks = max(log.used, 1)
    alarms = {f: n for f, n in log.alarms.items() if f not in ELSEWHERE and n > TOLERATED * masks}
    if alarms:
        fault = max(alarms, key=lambda f: alarms[f])
        found = f"{fault.value} in {alarms[fault]} of {masks} masks: {log.texts.get(fault, '')}"
        return stream.warn("decode", found.rstrip(": "), FIXES.get(fault, _DIRT))
    return stream.ok("decode", f"{total} messages")


def _used(stream: Stream) -> Check:
    log, masks = stream.log, stream.observation.probe.segmenter.masks
    if not masks:
        health = stream.health
        fix = "mend what is bad in this row and the last"
        if any(finding.fault is Fault.STARTING for finding in health.findings):
            fix = "listen or record for longer: one message is not believed"
        return stream.bad("used", f"in no mask: {health.reason or health.state.value}", fix)
    found = f"in {log.used} of {masks} masks"
    if log.used >= SEEN_SHARE * log.offered and log.used:
        return stream.ok("used", found)
    fault = log.reasons.most_common(1)[0][0]
    fix = FIXES[Fault.LATE] if fault is Fault.LATE else "mend the rest of this row"
    tell = stream.warn if log.used else stream.bad
    return tell("used", f"{found}: {log.why[fault]}", fix)


def _bytes(size: int) -> str:
    """A size as people say it."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _span(seconds: float) -> str:
    """A duration as people say it."""
    for unit, length in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
