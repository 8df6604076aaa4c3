"""From notes to verdict, and the examination of a recording: it is replayed through a `Patient`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import cast

from robustseg_core.bag import Bag, Recorded
from robustseg_core.doctor.observation import BAD, OK, WARN, Exam, Offer, Stream, cut
from robustseg_core.doctor.places import check_place, transforms_row
from robustseg_core.doctor.probe import Patient, network_of
from robustseg_core.doctor.report import Check, Report, Row
from robustseg_core.doctor.streams import check_stream, complete
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.clip import Excerpt
from robustseg_core.recording.replay import replay
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import TF_TOPICS, calibrations
from robustseg_core.types import SECOND, Rejection

TF = "/tf"
_MOVING = 1000
"""Messages of /tf that are read for a hint."""
MOST_NAMED = 8
"""Topics that are named one by one."""


def examine(
    bag: Bag,
    config: RobotConfig,
    *,
    seconds: float = 30.0,
    on_message: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """One row per stream of `config`, one for /tf_static, one for the node.

    Args:
        bag: open; only its beginning is looked at.
        config: the robot.
        seconds: how much of it.
        on_message: called with (messages read, messages in the bag).

    Raises:
        RobustsegError: the bag holds no message at all.
    """
    if not bag.message_count:
        raise RobustsegError(f"{bag.paths[0]} holds no message; record it again")
    source = ", ".join(path.name for path in bag.paths)
    patient, problem = admit(config)
    if patient is None:
        return refused(source, problem)
    beginning = Excerpt(bag, seconds)
    numbers = itertools.count(1)

    def read(recorded: Recorded) -> None:
        on_message(next(numbers), bag.message_count)

    for _ in replay(cast(Bag, beginning), patient, on_message=read):
        pass
    for recorded in itertools.islice(bag.messages({TF}), _MOVING):
        try:
            patient.moving.add(recorded.message())
        except Rejection:
            continue
    start_ns = bag.start_ns
    newest = [heard.arrivals_ns[-1] for heard in patient.heard.values() if heard.arrivals_ns]
    end_ns = max([start_ns, beginning.last_ns, *newest])  # a second bag may lie before the first
    exam = Exam(patient, recorded_offers(bag), start_ns, end_ns)
    unseen = ["who publishes, with which QoS, the robot's clock and DDS: see `doctor --live`"]
    if beginning.cut:
        text = f"what comes after the first {seconds:g} s; see --seconds"
        unseen.insert(0, f"{text}, all in all {bag.duration_ns / SECOND:.1f} s")
    return judge(exam, source, problem, [], unseen=unseen, notices=bag.notices)


def refused(source: str, problem: str) -> Report:
    """The report where nothing could be listened to."""
    row = Row("node", "", (_network(None, problem),))
    return Report(source, 0.0, (row,), unseen=("every sensor: mend the network first",))


def admit(config: RobotConfig) -> tuple[Patient | None, str]:
    """(the robot, ready to listen; why its network or its streams cannot be used, or "")."""
    spec, problem = network_of(config)
    try:
        return Patient(config, spec), problem
    except RobustsegError as error:
        return None, problem or str(error)


def recorded_offers(bag: Bag) -> dict[str, Offer]:
    """What a recording has: topics with at least one message."""
    types: dict[str, list[str]] = {}
    latched: dict[str, bool] = {}
    for topic in bag.topics:
        if topic.count:
            types.setdefault(topic.name, []).append(topic.type)
            latched[topic.name] = topic.latched
    return {name: Offer(tuple(kinds), latched=latched[name]) for name, kinds in types.items()}


def judge(
    exam: Exam,
    source: str,
    problem: str,
    of_node: Sequence[Check],
    *,
    unseen: Sequence[str] = (),
    notices: Sequence[str] = (),
) -> Report:
    """The report of an examination.

    Args:
        exam: what was seen and heard.
        source: the recording, or "live".
        problem: why the network cannot be used, or "".
        of_node: further checks of the node: its clock, its transport, its output.
        unseen: what could not be examined, beside what the exam itself tells.
        notices: what is missing or damaged in the recording.
    """
    patient, rows = exam.patient, []
    for name, config in patient.config.streams.items():
        if not config.topic:
            continue
        if name not in patient.heard:
            known = ", ".join(patient.spec.modalities)
            found = f"ignored: the network knows {known}"
            check = Check("used", BAD, found, "give weights that were trained with it")
            rows.append(Row(name, config.topic, complete([check])))
            continue
        stream = Stream(exam, name)
        found_here = [*check_stream(stream), *check_place(stream)]
        rows.append(Row(name, config.topic, complete(found_here)))
    rows.append(transforms_row(exam))
    masks = Check("masks", OK, _masks(exam))
    if not patient.masks:
        masks = Check("masks", BAD, _masks(exam), "mend the streams above")
    rows.append(Row("node", "", (_network(patient, problem), masks, *of_node)))
    return Report(
        source,
        exam.seconds,
        tuple(rows),
        heard=tuple(name for name, heard in patient.heard.items() if heard.arrivals_ns),
        unseen=(*_unseen(exam), *unseen),
        notices=tuple(notices),
    )


def _unseen(exam: Exam) -> list[str]:
    """What no check of this exam was about."""
    patient, found = exam.patient, []
    streams = patient.config.streams
    for name in dict.fromkeys((*patient.spec.modalities, *streams)):
        if name not in streams or not streams[name].topic:
            found.append(f"{name}: no topic is configured for it")
        elif not streams[name].enabled:
            found.append(f"{name}: it is switched off, enabled is false")
        elif name in patient.heard and not patient.heard[name].arrivals_ns:
            found.append(f"what {name} measures: no message of it came")
    known = {stream.topic for stream in streams.values()}
    known |= {*calibrations(patient.config), *TF_TOPICS}
    if others := sorted(topic for topic in exam.offers if topic not in known):
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        shown = ", ".join(others[:MOST_NAMED])
        found.append(f"topics that no stream is configured for: {shown}{more}")
    return [*found, "what the network makes of the sensors: see `robustseg run`"]


def _network(patient: Patient | None, problem: str) -> Check:
    if problem:
        return Check("network", BAD, *cut(problem))
    if patient is None:
        return Check("network", OK)
    known = f"knows {', '.join(patient.spec.modalities)}"
    if not patient.spec.trained:
        found = f"{known}, and its weights are random: masks show plumbing, not a scene"
        return Check("network", WARN, found, "give weights: a checkpoint of `robustseg train`")
    return Check("network", OK, known)


def _masks(exam: Exam) -> str:
    count, seconds = exam.patient.masks, exam.seconds
    rate = f", {count / seconds:.1f} Hz" if count > 1 and seconds > 0 else ""
    return f"{count} masks would be made in {seconds:.1f} s{rate}"
