"""From notes to a report, and the examination of a recording: it is replayed before a `Probe`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from robustseg_core.bag import Bag, Recorded
from robustseg_core.config import DEAD, OFF
from robustseg_core.doctor.observation import BAD, OK, WARN, Observation, Offer, Stream, cut
from robustseg_core.doctor.places import check_place, transforms_row
from robustseg_core.doctor.probe import Probe, network_of
from robustseg_core.doctor.report import Check, Report, Row
from robustseg_core.doctor.streams import check_stream, complete
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.clip import Clip
from robustseg_core.recording.replay import replay
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import TF_TOPICS, calibrations
from robustseg_core.types import SECOND, name_of, streams_of

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

    Several cameras are examined one by one, each as a robot with this camera alone; a row that is
    not the same for all of them says whose it is.

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
    if len(config.camera_names) == 1:
        return _examine(bag, config, recorded_offers(bag), seconds, on_message)
    reports = {}
    for name, (own, others) in one_by_one(config).items():
        offers = {t: offer for t, offer in recorded_offers(bag).items() if t not in others}
        reports[name] = _examine(bag, own, offers, seconds, on_message)
    return together(reports)


def one_by_one(config: RobotConfig) -> dict[str, tuple[RobotConfig, set[str]]]:
    """Camera -> (the robot that has this camera alone, topics that are only the others')."""
    of_camera = {name: config.of_camera(name) for name in config.camera_names}
    topics = {name: {*own.topics.values(), *calibrations(own)} for name, own in of_camera.items()}
    every = set[str]().union(*topics.values())
    return {name: (own, every - topics[name]) for name, own in of_camera.items()}


def together(reports: Mapping[str, Report]) -> Report:
    """The reports of several cameras as one; of a single one, its own."""
    rows: dict[Row, list[str]] = {}
    unseen: dict[str, list[str]] = {}
    for camera, report in reports.items():
        for row in report.rows:
            rows.setdefault(row, []).append(camera)
        for text in report.unseen:
            unseen.setdefault(text, []).append(camera)

    def told(text: str, whose: list[str]) -> str:
        shared = len(whose) == len(reports) or any(name_of(text) == name for name in whose)
        return text if shared else f"{text} ({', '.join(whose)})"

    first = next(iter(reports.values()))
    return Report(
        first.source,
        max(report.seconds for report in reports.values()),
        tuple(replace(row, name=told(row.name, whose)) for row, whose in rows.items()),
        heard=tuple(dict.fromkeys(name for report in reports.values() for name in report.heard)),
        unseen=tuple(told(text, whose) for text, whose in unseen.items()),
        notices=first.notices,
    )


def _examine(
    bag: Bag,
    config: RobotConfig,
    offers: dict[str, Offer],
    seconds: float,
    on_message: Callable[[int, int], None],
) -> Report:
    """Of a robot with one camera."""
    source = ", ".join(path.name for path in bag.paths)
    probe, problem = admit(config)
    if probe is None:
        return refused(source, problem)
    beginning = Clip(bag, seconds)
    numbers = itertools.count(1)

    def read(recorded: Recorded) -> None:
        on_message(next(numbers), bag.message_count)

    for _ in replay(beginning, probe.segmenter, on_message=read):
        pass
    start_ns = bag.start_ns
    newest = [log.arrivals_ns[-1] for log in probe.logs.values() if log.arrivals_ns]
    end_ns = max([start_ns, beginning.last_ns, *newest])  # a second bag may lie before the first
    observation = Observation(probe, offers, start_ns, end_ns)
    unseen = ["who publishes, with which QoS, the robot's clock and DDS: see `doctor --live`"]
    if beginning.cut:
        text = f"what comes after the first {seconds:g} s; see --seconds"
        unseen.insert(0, f"{text}, all in all {bag.duration_ns / SECOND:.1f} s")
    return diagnose(observation, source, problem, [], unseen=unseen, notices=bag.notices)


def refused(source: str, problem: str) -> Report:
    """The report where nothing could be listened to."""
    row = Row("node", "", (_network(None, problem),))
    return Report(source, 0.0, (row,), unseen=("every sensor: mend the network first",))


def admit(config: RobotConfig) -> tuple[Probe | None, str]:
    """(the robot, ready to listen; why its network or its streams cannot be used, or "")."""
    spec, problem = network_of(config)
    try:
        return Probe(config, spec), problem
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


def diagnose(
    observation: Observation,
    source: str,
    problem: str,
    of_node: Sequence[Check],
    *,
    unseen: Sequence[str] = (),
    notices: Sequence[str] = (),
) -> Report:
    """The report of an examination.

    Args:
        observation: what was seen and heard.
        source: the recording, or "live".
        problem: why the network cannot be used, or "".
        of_node: further checks of the node: its clock, its transport, its output.
        unseen: what could not be examined, beside what the observation itself tells.
        notices: what is missing or damaged in the recording.
    """
    probe, rows = observation.probe, []
    segmenter = probe.segmenter
    for name, topic in segmenter.config.topics.items():
        if name not in probe.logs:
            known = ", ".join(segmenter.spec.modalities)
            found = f"ignored: the network knows {known}"
            check = Check("used", BAD, found, "give weights that were trained with it")
            rows.append(Row(name, topic, complete([check])))
            continue
        stream = Stream(observation, name)
        found_here = [*check_stream(stream), *check_place(stream)]
        rows.append(Row(name, topic, complete(found_here)))
    rows.append(transforms_row(observation))
    masks = Check("masks", OK, _masks(observation))
    if not segmenter.masks:
        masks = Check("masks", BAD, _masks(observation), "mend the streams above")
    rows.append(Row("node", "", (_network(probe, problem), masks, *of_node)))
    return Report(
        source,
        observation.seconds,
        tuple(rows),
        heard=tuple(name for name, log in probe.logs.items() if log.arrivals_ns),
        unseen=(*_unseen(observation), *unseen),
        notices=tuple(notices),
    )


def _unseen(observation: Observation) -> list[str]:
    """What no check of this observation was about."""
    probe, found = observation.probe, []
    config, spec = probe.segmenter.config, probe.segmenter.spec
    streams = config.streams
    for name in dict.fromkeys((*streams_of(spec.modalities, streams), *streams)):
        if name not in config.topics:
            found.append(f"{name}: no topic is configured for it")
        elif streams[name].in_force == OFF:
            found.append(f"{name}: it is switched off, {streams[name].why_off}")
        elif streams[name].in_force == DEAD:
            found.append(f"{name}: it is acknowledged as dead, mode is dead")
        elif name in probe.logs and not probe.logs[name].arrivals_ns:
            found.append(f"what {name} measures: no message of it came")
    known = {*config.topics.values(), *calibrations(config), *TF_TOPICS}
    if others := sorted(topic for topic in observation.offers if topic not in known):
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        shown = ", ".join(others[:MOST_NAMED])
        found.append(f"topics that no stream is configured for: {shown}{more}")
    return [*found, "what the network makes of the sensors: see `robustseg run`"]


def _network(probe: Probe | None, problem: str) -> Check:
    if problem:
        return Check("network", BAD, *cut(problem))
    if probe is None:
        return Check("network", OK)
    spec = probe.segmenter.spec
    known = f"knows {', '.join(spec.modalities)}"
    if not spec.trained:
        found = f"{known}, and its weights are random: masks show plumbing, not a scene"
        return Check("network", WARN, found, "give weights: a checkpoint of `robustseg train`")
    return Check("network", OK, known)


def _masks(observation: Observation) -> str:
    count, seconds = observation.probe.segmenter.masks, observation.seconds
    rate = f", {count / seconds:.1f} Hz" if count > 1 and seconds > 0 else ""
    return f"{count} masks would be made in {seconds:.1f} s{rate}"
