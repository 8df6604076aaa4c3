"""What the ROS graph offers: the topics of a robot that says `topic: auto`."""

from __future__ import annotations

import time

from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from robustseg_core.config import AUTO
from robustseg_core.errors import RobustsegError
from robustseg_core.recording import sources
from robustseg_core.recording.guess import Candidate, rank
from robustseg_core.recording.sources import guessed, undecided, wants_guess
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import spellings

WAIT_S = 10.0
"""Longest wait for drivers to come up."""
CALM_S = 1.0
"""A guess that has not changed for so long is believed: discovery brings topics one by one."""
_LOOK_S = 0.1


def candidates(node: Node) -> list[Candidate]:
    """The topics that somebody publishes, as the guess takes them."""
    return [
        Candidate(name, kind, 1)
        for name, kinds in node.get_topic_names_and_types()
        if node.count_publishers(name)
        for kind in kinds
    ]


def settled(node: Node, robot: RobotConfig, *, wait_s: float = WAIT_S) -> RobotConfig:
    """The robot with a topic for each stream of `topic: auto`, of those that are published now.

    Waits until each has one and nothing new has come for `CALM_S`, at most `wait_s`; streams that
    have none then are left out, with a warning.

    Raises:
        RobustsegError: several topics look like a stream equally, or none like any.
        ExternalShutdownException: the context has ended meanwhile.
    """
    wanted = wants_guess(robot)
    if not wanted:
        return robot
    here = _calm(node, robot, wait_s)
    found, told = guessed(robot, here)
    for name, topics in undecided(robot, here).items():
        raise RobustsegError(
            f"streams.{name}.topic is auto, and {' and '.join(topics)} look like {name} equally; "
            "give the topic that is meant"
        )
    for text in told:
        node.get_logger().warning(text)
    for name in wanted:
        if topic := found.streams[name].topic:
            node.get_logger().info(f"streams.{name}.topic is auto: {topic}")
    return found


def _calm(node: Node, robot: RobotConfig, wait_s: float) -> list[Candidate]:
    """The candidates, when each stream has one and no other has come for a while, or at the end."""
    end_s, since_s, before = time.monotonic() + wait_s, time.monotonic(), list[Candidate]()
    while True:
        now_s, here = time.monotonic(), sorted(candidates(node), key=lambda one: one.topic)
        if here != before:
            since_s, before = now_s, here
        complete = set(wants_guess(robot)) <= set(rank(here))
        if (complete and now_s - since_s >= CALM_S) or now_s >= end_s:
            return here
        if not node.context.ok():
            raise ExternalShutdownException
        time.sleep(_LOOK_S)


def transported(node: Node, robot: RobotConfig, *, wait_s: float = 2.0) -> RobotConfig:
    """The robot with the topics that its images come on, as soon as each has one (`transport`).

    Raises:
        RobustsegError: a configured transport is not what its topic has.
        ExternalShutdownException: the context has ended meanwhile.
    """
    end_s = time.monotonic() + wait_s
    spelled = [spellings(n, topic, robot.streams[n].transport) for n, topic in robot.topics.items()]
    while True:
        offered = {
            topic: [one.topic_type for one in node.get_publishers_info_by_topic(resolved)]
            for each in spelled
            for topic in each
            for resolved in [node.resolve_topic_name(topic)]
        }
        if time.monotonic() >= end_s or all(any(offered[t] for t in each) for each in spelled):
            return sources.transported(robot, offered)[0]
        if not node.context.ok():
            raise ExternalShutdownException
        time.sleep(_LOOK_S)


def as_settled(robot: RobotConfig, before: RobotConfig) -> RobotConfig:
    """Another configuration of a robot, with the topics that were found before."""
    streams = {
        name: stream.model_copy(
            update={
                "topic": before.streams[name].topic,
                "camera_info": before.streams[name].camera_info,
            }
        )
        if stream.topic == AUTO and name in before.streams
        else stream
        for name, stream in robot.streams.items()
    }
    return robot.model_copy(update={"streams": streams})
