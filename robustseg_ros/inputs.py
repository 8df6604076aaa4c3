"""What the node listens to: one subscription per sensor, CameraInfo, transforms.

A sensor's message type is the one that the graph offers; where nobody offers anything yet, the
topic's name decides. An image may come on a sibling of its topic (`streams.*.transport`). `watch`
looks again: when a publisher comes, and once a second. Sensors are asked for best effort: a
reliable reader that lost one fragment delivers nothing until the writer's next heartbeat, seconds
later, and by then nobody wants the old image. /tf is asked for as by tf2 (reliable, 100 deep), and
only while a sensor may hang on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from robustseg_core import modalities
from robustseg_core.codecs.message_types import CAMERA_INFO, COMPRESSED_IMAGE
from robustseg_core.codecs.tf_message import TF_MESSAGE
from robustseg_core.config import AUTO, OFF
from robustseg_core.doctor.loss import Reception
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import Intake, Router
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import (
    TF,
    TF_STATIC,
    calibrations,
    choose,
    contradiction,
    spellings,
)
from robustseg_core.types import SECOND, Rejection
from robustseg_ros import optional, qos
from robustseg_ros.arrivals import Ear
from robustseg_ros.optional import MessageInfo

QUIET_NS = 2 * SECOND
"""What says nothing for so long makes room for a type that came after it, or for a sibling that
speaks. DDS offers what a process said that was killed for the 20 s of its lease; the slowest
sensors speak once a second."""
ALONE_NS = SECOND
"""A sibling has spoken alone for so long: when a bag that stood still goes on, all of them speak,
and what was heard before is heard again."""


def choose_type(topic: str, accepted: Sequence[str], offered: Iterable[str]) -> str:
    """The type to subscribe with: the first offered one that is accepted, else by the name.

    `/camera/image_raw/compressed` and `.../compressedDepth` are image_transport's names for
    CompressedImage; what is offered beats what a name suggests.
    """
    for kind in offered:
        if kind in accepted:
            return kind
    compressed = topic.endswith(("/compressed", "/compressedDepth"))
    if compressed and COMPRESSED_IMAGE in accepted:
        return COMPRESSED_IMAGE
    return accepted[0]


@dataclass
class _Input:
    """One topic, as it is subscribed at the moment."""

    topic: str
    accepted: Sequence[str]
    depth: int
    take: Callable[[Any, int], None]
    """Gets a message, and when it came on the steady clock."""
    refuse: Callable[[Rejection, int], None]
    name: str = ""
    """Of the stream, where it is a sensor's."""
    spelled: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Topics that an image may come on, the most wanted first, and their types."""
    missed: Callable[[int], None] = lambda _until_ns: None
    """Told until when messages came that were lost on our side."""
    mode: Callable[[], str] = lambda: AUTO
    """Nobody listens to what is `OFF`."""
    latched: bool = False
    reliable: bool = False
    wakes: bool = True
    """Whether who makes masks is woken by a message."""
    sealed: bool = False
    """Gets serialized messages."""
    asked: tuple[str, bool] | None = None
    """Type and durability (latched or not): as it is subscribed now."""
    heard_ns: int = 0
    """When a message last came or, before the first, it was subscribed; on the steady clock."""
    known: set[str] = field(default_factory=set)
    """Types that have been offered ever since it was subscribed."""
    subscription: Subscription[Any] | None = None
    probes: dict[str, _Probe] = field(default_factory=dict)
    """By the topic: siblings that are listened to while this one is silent."""


@dataclass
class _Probe:
    """Whether a sibling of a silent topic speaks."""

    subscription: Subscription[Any]
    first_ns: int | None = None
    """When it spoke first, on the steady clock."""


class Inputs:
    """All subscriptions of a segmenter; they exist from the constructor until `close`.

    What a callback raises is counted, logged once in five seconds, and survived.

    Args:
        node: the subscriptions' owner.
        segmenter: where messages go: of one camera, or of all.
        ear: says when messages came; woken after each of them.
        offers: callbacks only offer: messages stay serialized until the thread that steps the
            segmenter looks into them. Else they push.
        receptions: by stream, told of each message of a sensor and of what comes beside it.
    """

    def __init__(
        self,
        node: Node,
        segmenter: Router,
        ear: Ear,
        *,
        offers: bool = False,
        receptions: Mapping[str, Reception] | None = None,
    ) -> None:
        self._node = node
        self._segmenter = segmenter
        self._config = segmenter.config
        self._offers = offers
        self._receptions = receptions or {}
        self._ear = ear
        self._deaf: dict[str, str] = {}
        self._strange: dict[str, str] = {}
        """Topic -> that it is offered as a type that none of us reads."""
        ear.begin()
        self.errors = 0
        """Exceptions that callbacks raised."""
        self.matches = qos.Matches(node, "subscription")
        self._inputs = [*self._sensors(), *self._calibrations(), *self._transforms()]
        # A subscription must not be replaced from its own event: the guard does it right after.
        self._rematch = node.create_guard_condition(self.watch)
        self.watch()

    def watch(self) -> None:
        """Subscribe anew where the graph offers something else than what was asked for."""
        for one in self._inputs:
            if one.mode() == OFF:
                self._unsubscribe(one)
                continue
            self._retarget(one)
            if (wanted := self._wanted(one)) != one.asked:
                if one.asked is not None and one.asked[0] != wanted[0]:
                    was = one.asked[0]
                    self._node.get_logger().warning(f"{one.topic} is {wanted[0]} now, was {was}")
                one.asked = wanted
                self._subscribe(one, wanted[0], latched=wanted[1])

    def configure(self, config: RobotConfig) -> None:
        """Begin or end to listen to streams whose mode has changed, right after this callback."""
        self._config = config
        self._rematch.trigger()

    def complaints(self) -> Mapping[str, str]:
        """Topic -> why it is not heard: as `mismatches`, or it is of a type that nobody reads."""
        return {**self._strange, **self.mismatches()}

    def mismatches(self) -> Mapping[str, str]:
        """Topic -> why it is not heard: its type cannot be subscribed to, or its QoS mismatches."""
        return {**self._deaf, **self.matches.complaints()}

    def close(self) -> None:
        """Destroy all subscriptions."""
        self._ear.begin()
        self._node.destroy_guard_condition(self._rematch)
        for one in self._inputs:
            self._end_probes(one, ())
            if one.subscription is not None:
                self._node.destroy_subscription(one.subscription)
        self._inputs = []

    def _sensors(self) -> Iterable[_Input]:
        for name in self._segmenter.streams:
            stream = self._config.streams[name]
            kind = modalities.load(name)
            spelled = spellings(name, stream.topic, stream.transport)
            topic, accepted = next(iter(spelled.items()))
            yield _Input(
                topic,
                accepted,
                kind.queue,
                partial(self._push, name),
                partial(self._reject, name),
                name=name,
                spelled=spelled,
                missed=partial(self._missed, name),
                mode=partial(self._mode, name),
                sealed=self._offers,
            )

    def _mode(self, name: str) -> str:
        return self._config.streams[name].in_force

    def _calibrations(self) -> Iterable[_Input]:
        for topic, names in calibrations(self._config).items():
            known = [name for name in names if name in self._segmenter.streams]
            if known:
                take = partial(self._calibrate, known)
                yield _Input(topic, [CAMERA_INFO], 2, take, partial(self._refuse, topic))

    def _transforms(self) -> Iterable[_Input]:
        for topic in (TF_STATIC, TF):
            moving = topic == TF
            yield _Input(
                topic,
                [TF_MESSAGE],
                100,
                partial(self._transform, moving),
                partial(self._refuse, topic),
                mode=self._motion_mode if moving else lambda: AUTO,
                latched=not moving,
                reliable=True,
                wakes=not moving,
                sealed=moving,
            )

    def _motion_mode(self) -> str:
        return AUTO if self._segmenter.needs_motion else OFF

    def _push(self, name: str, message: Any, arrival_ns: int) -> None:
        if self._offers:
            self._segmenter.offer(name, message, arrival_ns)
        else:
            self._segmenter.push(name, message, arrival_ns)

    def _missed(self, name: str, until_ns: int) -> None:
        if name in self._receptions:
            self._receptions[name].overflows += 1
        for intake in self._segmenter.hearing(name):
            self._in_turn(intake, partial(intake.missed, name, until_ns))

    def _reject(self, name: str, rejection: Rejection, arrival_ns: int) -> None:
        for intake in self._segmenter.hearing(name):
            intake.reject(name, arrival_ns, rejection.finding)

    def _calibrate(self, names: Sequence[str], message: Any, _arrival_ns: int) -> None:
        for name in names:
            for intake in self._segmenter.hearing(name):
                self._in_turn(intake, partial(intake.push_camera_info, name, message))

    def _transform(self, moving: bool, message: Any, _arrival_ns: int) -> None:  # noqa: FBT001
        for intake in self._segmenter.intakes:
            self._in_turn(intake, partial(intake.push_transforms, message, moving=moving))

    def _in_turn(self, intake: Intake, act: Callable[[], object]) -> None:
        """Now, or where the messages before it are seen to."""
        if self._offers:
            intake.later(act)
        else:
            act()

    def _refuse(self, topic: str, rejection: Rejection, _arrival_ns: int) -> None:
        for intake in self._segmenter.intakes:
            intake.reject_calibration(topic, rejection.finding)
        self._node.get_logger().warning(str(rejection), throttle_duration_sec=5.0)

    def _retarget(self, one: _Input) -> None:
        """Turn to the sibling of an image's topic that is there, or that speaks, instead of it."""
        if len(one.spelled) < 2:
            return
        offered = {topic: self._kinds(topic) for topic in one.spelled}
        if set(one.accepted) & set(offered[one.topic]):
            topic, why = self._living(one, offered), "speaks"
        else:
            topic, why = choose(one.spelled, offered), "is there"
        if topic == one.topic or not any(offered.values()):
            return
        self._node.get_logger().info(f"{topic} {why} instead of {one.topic}")
        self._unsubscribe(one)
        one.topic, one.accepted = topic, one.spelled[topic]

    def _living(self, one: _Input, offered: Mapping[str, Sequence[str]]) -> str:
        """What is heard already or, while that is silent, a sibling that speaks.

        An offer says nothing of life: of a driver that was killed DDS keeps it, and one that hangs
        has it. So siblings are listened to, at no cost while they are silent, too.
        """
        now_ns = time.monotonic_ns()
        quiet = one.subscription is not None and now_ns - one.heard_ns > QUIET_NS
        there = [t for t, kinds in one.spelled.items() if set(kinds) & set(offered[t])]
        siblings = [topic for topic in there if topic != one.topic] if quiet else []
        self._end_probes(one, siblings)
        for topic in siblings:
            if topic not in one.probes:
                kind = choose_type(topic, one.spelled[topic], offered[topic])
                one.probes[topic] = self._probe(topic, kind)
        for topic, probe in one.probes.items():
            if probe.first_ns is not None and now_ns - probe.first_ns > ALONE_NS:
                return topic
        return one.topic

    def _probe(self, topic: str, kind: str) -> _Probe:
        profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

        def heard(_message: Any) -> None:
            if probe.first_ns is None:
                probe.first_ns = time.monotonic_ns()

        probe = _Probe(
            optional.subscribe(
                self._node,
                kind,
                topic,
                heard,
                profile,
                sealed=True,
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
        )
        return probe

    def _end_probes(self, one: _Input, wanted: Collection[str]) -> None:
        for topic in set(one.probes) - set(wanted):
            self._node.destroy_subscription(one.probes.pop(topic).subscription)

    def _kinds(self, topic: str) -> list[str]:
        offers = self._node.get_publishers_info_by_topic(self._resolved(topic))
        return [offer.topic_type for offer in offers]

    def _wanted(self, one: _Input) -> tuple[str, bool]:
        """Type and durability that fit what the graph offers now.

        A CameraInfo that is published once and latched must be asked for as latched. While nobody
        publishes, or only what none of us reads, what was asked for stays: a restarted driver finds
        everything as it left it.
        """
        offers = self._node.get_publishers_info_by_topic(self._resolved(one.topic))
        kinds = [offer.topic_type for offer in offers]
        self._tell_strange(one, kinds)
        if one.asked is not None and not set(kinds) & set(one.accepted):
            return one.asked
        kind = choose_type(one.topic, one.accepted, kinds)
        if one.asked is not None and one.asked[0] in kinds:
            kind = self._of_several(one, one.asked[0], kinds)
        if one.accepted != [CAMERA_INFO] or not offers:
            return kind, one.latched
        return kind, all(qos.is_latched(offer.qos_profile) for offer in offers)

    def _of_several(self, one: _Input, heard: str, kinds: Sequence[str]) -> str:
        """The type that is heard already or, while that is silent, one that came after it."""
        one.known &= set(kinds)
        quiet = time.monotonic_ns() - one.heard_ns > QUIET_NS
        later = [k for k in one.accepted if k in kinds and k not in one.known and k != heard]
        return later[0] if later and quiet else heard

    def _tell_strange(self, one: _Input, kinds: Sequence[str]) -> None:
        name = self._resolved(one.topic)
        before = self._strange.pop(name, "")
        if strange := sorted(set(kinds) - set(one.accepted)):
            stream = self._config.streams.get(one.name)
            wrong = contradiction(one.name, stream.topic, stream.transport, kinds) if stream else ""
            text = wrong or (
                f"{name} is offered as {', '.join(strange)}, expected {' or '.join(one.accepted)}; "
                "publish it as that, or give another topic"
            )
            self._strange[name] = text
            if text != before:
                self._node.get_logger().warning(text)

    def _unsubscribe(self, one: _Input) -> None:
        self._end_probes(one, ())
        if one.subscription is not None:
            self._node.destroy_subscription(one.subscription)
            self._node.get_logger().info(f"listening to {one.topic} no longer")
        one.subscription = one.asked = None
        name = self._resolved(one.topic)
        self._deaf.pop(name, None)
        self._strange.pop(name, None)
        self.matches.remove(name)

    def _subscribe(self, one: _Input, kind: str, *, latched: bool) -> None:
        if one.subscription is not None:
            self._node.destroy_subscription(one.subscription)
            one.subscription = None
        profile = QoSProfile(depth=one.depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        if latched or one.reliable:
            profile.reliability = ReliabilityPolicy.RELIABLE
        if latched:
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL

        name = self._resolved(one.topic)
        follows = one.accepted == [CAMERA_INFO]
        overridable = qos.overridden(self._node, name) if follows else qos.OVERRIDABLE

        def guarded(act: Callable[[Any, int], None], message: Any, arrival_ns: int) -> None:
            try:
                act(message, arrival_ns)
            except Exception as error:
                self.errors += 1
                self._node.get_logger().error(
                    f"{one.topic}: {type(error).__name__}: {error}", throttle_duration_sec=5.0
                )
            if one.wakes:
                self._ear.wake()

        told = self._begun(one)
        one.heard_ns, one.known = time.monotonic_ns(), set(self._kinds(one.topic))

        def heard(act: Callable[[Any, int], None], message: Any, info: MessageInfo) -> None:
            one.heard_ns = time.monotonic_ns()
            told(message, info)
            self._ear.take(
                one.topic,
                info,
                partial(guarded, act, message),
                depth=profile.depth,
                missed=one.missed,
            )

        self._deaf.pop(name, None)
        try:
            one.subscription = optional.subscribe(
                self._node,
                kind,
                one.topic,
                partial(heard, one.take),
                profile,
                rejected=partial(heard, one.refuse),
                informed=True,
                sealed=one.sealed,
                qos_overriding_options=overridable,
                event_callbacks=SubscriptionEventCallbacks(
                    matched=lambda _event: self._rematch.trigger(), use_default_callbacks=False
                ),
            )
        except RobustsegError as error:
            self._deaf[name] = f"{one.topic} is not heard: {error}"
            self._node.get_logger().warning(self._deaf[name])
            return
        self.matches.add(name, profile)  # with the user's qos_overrides in it
        self._node.get_logger().info(f"listening to {one.topic} ({kind})")

    def _begun(self, one: _Input) -> Callable[[Any, MessageInfo], None]:
        """Who is told of each message of a new subscription."""
        reception = self._receptions.get(one.name)
        if reception is None:
            return lambda _message, _info: None
        reception.begin()
        return reception.heard

    def _resolved(self, topic: str) -> str:
        return self._node.resolve_topic_name(topic)
