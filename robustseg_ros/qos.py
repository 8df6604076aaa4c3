"""Why a publisher and a subscriber do not match, and what to do, in one sentence.

DDS matches what is offered against what is asked, policy by policy; a mismatch is silence. The two
policies that ever differ on robots are reliability and durability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

OVERRIDABLE = QoSOverridingOptions(
    [
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    ]
)
"""`qos_overrides.<topic>.<publisher|subscription>.reliability` etc. are read-only parameters."""


def overridden(node: Node, topic: str) -> QoSOverridingOptions:
    """Options for a subscription whose profile follows the graph: just what the user overrides.

    rclpy declares a parameter for every policy that may be overridden, and from then on the
    parameter wins: a subscription made anew would have its old profile for ever.

    Args:
        node: with its parameter overrides.
        topic: resolved name.
    """
    start = f"qos_overrides.{topic}.subscription."
    named = {key.removeprefix(start) for key in node._parameter_overrides if key.startswith(start)}
    return QoSOverridingOptions([p for p in OVERRIDABLE.policy_kinds if p.name.lower() in named])


def is_latched(profile: QoSProfile) -> bool:
    """Whether late subscribers get the last messages of a publisher with this profile."""
    return bool(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL)


def refused(offered: QoSProfile, asked: QoSProfile) -> list[tuple[str, str, str]]:
    """(policy, offered, asked) of all that is asked and not offered."""
    result = []
    for name, strong in (
        ("reliability", ReliabilityPolicy.RELIABLE),
        ("durability", DurabilityPolicy.TRANSIENT_LOCAL),
    ):
        have, want = getattr(offered, name), getattr(asked, name)
        if want == strong and have != strong:
            result.append((name, have.name, want.name))
    return result


def why_not(
    topic: str,
    ours: QoSProfile,
    others: Iterable[TopicEndpointInfo],
    *,
    we: Literal["publisher", "subscription"],
) -> str | None:
    """Names both sides of the first mismatch on `topic`, and the parameter that mends it here.

    None: everybody matches.

    Args:
        topic: resolved name.
        ours: our endpoint's profile.
        others: the endpoints on the other side.
        we: which side is ours.
    """
    for other in others:
        theirs = other.qos_profile
        pair = (theirs, ours) if we == "subscription" else (ours, theirs)
        for policy, have, want in refused(*pair):
            name = f"{other.node_namespace.rstrip('/')}/{other.node_name}"
            if "UNKNOWN" in name:  # discovery tells the endpoint first and its node later
                name = "a publisher" if we == "subscription" else "a subscriber"
            mend = have if we == "subscription" else want
            way_out = f"set qos_overrides.{topic}.{we}.{policy}: {mend.lower()}"
            if we == "subscription":
                return f"{topic}: {name} offers {have} {policy}, this node asks {want}; {way_out}"
            return f"{topic}: {name} asks {want} {policy}, this node offers {have}; {way_out}"
    return None


class Matches:
    """Compares our endpoints with the other side's, as the graph shows them.

    The graph is asked, not DDS's incompatible-QoS events: an event comes before the other node's
    name is known, and nothing says when the trouble is over.

    Args:
        node: for the graph and the log.
        we: which side is ours.
    """

    def __init__(self, node: Node, we: Literal["publisher", "subscription"]) -> None:
        self._node = node
        self._we: Literal["publisher", "subscription"] = we
        self._ours: dict[str, QoSProfile] = {}
        self._texts: dict[str, str] = {}

    def add(self, topic: str, ours: QoSProfile) -> None:
        """Our endpoint on `topic` (resolved) has this profile."""
        self._ours[topic] = ours

    def remove(self, topic: str) -> None:
        """We have no endpoint there any more."""
        self._ours.pop(topic, None)

    def complaints(self) -> Mapping[str, str]:
        """Topic -> what does not match now; new ones are logged."""
        node = self._node
        look = (
            node.get_publishers_info_by_topic
            if self._we == "subscription"
            else node.get_subscriptions_info_by_topic
        )
        found = {t: why_not(t, p, look(t), we=self._we) for t, p in self._ours.items()}
        texts = {topic: text for topic, text in found.items() if text is not None}
        for topic, text in texts.items():
            if self._texts.get(topic) != text:
                node.get_logger().warning(text)
        self._texts = texts
        return texts
