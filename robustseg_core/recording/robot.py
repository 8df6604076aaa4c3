"""The robot that made a recording: configured, or guessed from what its topics look like."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from robustseg_core import config
from robustseg_core.bag import Bag
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.recording.sources import guessed, transported, wants_guess
from robustseg_core.recording.survey import survey
from robustseg_core.robot.config import RobotConfig, parse_robot


def robot_for(
    bag: Bag, params: Path | None, overrides: Iterable[str], *, several: bool = False
) -> RobotConfig:
    """The configured robot, or the one that the recording looks like.

    Args:
        bag: the recording.
        params: robot.yaml; None: it is guessed.
        overrides: `key=value` words; they win.
        several: all cameras and LiDARs, by their names. Else one of each, that need no names: of a
            guess the likeliest, or that of `cameras`.

    Raises:
        RobustsegError: a configuration that cannot be used, or no sensor was recognized.
    """
    words = list(overrides)
    if params is not None:
        told = parse_robot(config.override(config.read_file(params), words))
        return _of_recording(bag, told if several else told.alone())
    found = survey(bag)
    refused = [f"{t.topic} is not used: {t.problem}" for t in found.topics if t.refused]
    chosen = any(word.partition("=")[0].strip() == "cameras" for word in words)
    text = found.robot_yaml(several=several or chosen)
    guessed = config.read_yaml(text, source="the guessed robot.yaml")
    robot = config.parse(RobotConfig, config.override(guessed, words))
    if not robot.streams:
        names = [topic.name for topic in bag.topics]
        raise RobustsegError(
            f"no sensor was recognized among the topics {names}; {'; '.join([*refused, ''])}"
            "write a robot.yaml with streams.<modality>.topic and give it with --params"
        )
    bag.notices += refused
    return _of_recording(bag, robot if several else robot.alone())


def _of_recording(bag: Bag, robot: RobotConfig) -> RobotConfig:
    """The robot with the topics that the recording has, where it leaves that open.

    Raises:
        RobustsegError: none fits.
    """
    if wants_guess(robot):
        robot, told = guessed(robot, (topic.candidate for topic in survey(bag).topics))
        bag.notices += told
    offered: dict[str, list[str]] = {}
    counted = any(topic.count for topic in bag.topics)  # a damaged one may have no counts
    for topic in bag.topics:
        if topic.count or not counted:
            offered.setdefault(topic.name, []).append(topic.type)
    robot, told = transported(robot, offered)
    bag.notices += told
    return robot


def check_streams(bag: Bag, robot: RobotConfig) -> None:
    """Refuse what cannot give a mask, before anything is written.

    Raises:
        RobustsegError: no configured topic is in the recording, or one cannot be decoded.
    """
    recorded = {topic.name: topic for topic in bag.topics}
    streams = robot.topics
    absent = {name: topic for name, topic in streams.items() if topic not in recorded}
    if absent and len(absent) == len(streams):
        name, topic = next(iter(absent.items()))
        raise RobustsegError(
            f"streams.{name}.topic is {topic!r}, and no configured topic is in the recording; "
            f"{did_you_mean(topic, recorded)}"
        )
    for name, topic in streams.items():
        if topic in recorded and not recorded[topic].decodable:
            raise RobustsegError(f"streams.{name}.topic is {topic!r}: {recorded[topic].why}")
