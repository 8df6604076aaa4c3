"""Which topics a robot means by `topic: auto` and `transport`, of those that there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from robustseg_core import modalities
from robustseg_core.codecs.message_types import CAMERA_INFO
from robustseg_core.config import AUTO
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.guess import Candidate, camera_info_of, rank, score_of
from robustseg_core.robot.config import RobotConfig, base_of
from robustseg_core.robot.topics import changing, choose, contradiction, spellings

MOST_NAMED = 6
"""Topics that a sentence names."""


def wants_guess(robot: RobotConfig) -> list[str]:
    """The streams whose topic is to be guessed."""
    return [name for name, topic in robot.topics.items() if topic == AUTO]


def guessed(robot: RobotConfig, candidates: Iterable[Candidate]) -> tuple[RobotConfig, list[str]]:
    """(the robot with a topic for each `auto`, what people should know of the guess).

    A stream that no topic looks like loses its `auto`: the robot goes on without it.

    Raises:
        RobustsegError: nothing looks like any of its streams.
    """
    wanted = wants_guess(robot)
    if not wanted:
        return robot, []
    known = list(candidates)
    ranked, notices, topics = rank(known), list[str](), dict[str, str]()
    infos = [one.topic for one in known if one.type == CAMERA_INFO]
    taken = {topic for topic in robot.topics.values() if topic != AUTO}
    for name in wanted:
        found = [topic for topic in ranked.get(name, ()) if topic not in taken]
        topics[name] = found[0] if found else ""
        told = f"streams.{name}.topic is auto"
        if not found:
            notices.append(f"{told}, and no topic looks like {name}; it is left out")
        elif others := _as_likely(found):
            notices.append(f"{told}: {found[0]} is taken, it could be {', '.join(others)} as well")
    if not any(topic for topic in {**robot.topics, **topics}.values()):
        shown = ", ".join(sorted(one.topic for one in known)[:MOST_NAMED]) or "none"
        raise RobustsegError(
            f"every streams.<name>.topic is auto, and no topic looks like "
            f"{' or '.join(wanted)} (there are: {shown}); give the topics"
        )
    return _with_topics(robot, topics, infos), notices


def undecided(robot: RobotConfig, candidates: Iterable[Candidate]) -> dict[str, list[str]]:
    """Stream of topic `auto` -> the topics that look like it equally; the siblings of one image
    count once."""
    known = list(candidates)
    by_topic = {one.topic: one for one in known}
    ranked, tied = rank(known), dict[str, list[str]]()
    for name in wants_guess(robot):
        found = [ranked[name][0], *_as_likely(ranked[name])] if ranked.get(name) else []
        scores = {topic: score_of(name, by_topic[topic]) for topic in found}
        best = [topic for topic in found if scores[topic] == scores[found[0]]]
        if len(best) > 1:
            tied[name] = best[:MOST_NAMED]
    return tied


def transported(
    robot: RobotConfig, offered: Mapping[str, Collection[str]]
) -> tuple[RobotConfig, list[str]]:
    """(the robot with the topics that its images come on, what people should know of them).

    Args:
        robot: its topics as configured.
        offered: topic -> types.

    Raises:
        RobustsegError: a configured transport is not what its topic has.
    """
    topics, notices = dict[str, str](), list[str]()
    for name, topic in robot.topics.items():
        transport = robot.streams[name].transport
        found = choose(spellings(name, topic, transport), offered)
        if wrong := contradiction(name, topic, transport, offered.get(found, ())):
            raise RobustsegError(wrong)
        if told := changing(found, offered.get(found, ())):
            notices.append(told)
        if found != topic:
            topics[name] = found
    return (_with_topics(robot, topics, ()) if topics else robot), notices


def _as_likely(found: list[str]) -> list[str]:
    """The others that are no siblings of the first."""
    return [topic for topic in found[1:] if base_of(topic)[0] != base_of(found[0])[0]][:MOST_NAMED]


def _with_topics(
    robot: RobotConfig, topics: Mapping[str, str], infos: Collection[str]
) -> RobotConfig:
    streams = dict(robot.streams)
    for name, topic in topics.items():
        own = streams[name]
        info = own.camera_info
        if not info and not modalities.load(name).needs_view:
            info = camera_info_of(topic, infos)
        streams[name] = own.model_copy(update={"topic": topic, "camera_info": info})
    return robot.model_copy(update={"streams": streams})
