"""The TF tree: who hangs where, at what time, and the way from any frame to any other.

What /tf_static says holds for all times; what /tf says is kept for a while, and looked up at a
time. Of /tf's frames only those are kept of which somebody has asked the way: a robot publishes
dozens of wheels and fingers a hundred times a second, and its sensors hang on none of them.
"""

from __future__ import annotations

import reprlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.tf_message import Edge, edges, strip
from robustseg_core.geometry.motion import Motion, Numbers
from robustseg_core.types import SECOND, Fault, Rejection

__all__ = ["Moment", "Route", "TransformTree", "apart", "placed", "pose", "strip", "turned"]

_FARTHEST_M = 1e9
"""Longer than any map's offset (UTM's are 1e7); keeps every chain of transforms finite."""
_SAME = 1e-6
"""Metres, and shares of a turn: what rounding alone changes when a pose is published again."""
_MOST_FRAMES = 4096
"""More than any robot has; a publisher gone wild with new names must not fill the memory."""


_UNIT = 0.01
"""How far the square of a quaternion's length may be from 1, as tf2 has it."""
_ADOPTED_NS = SECOND
"""A frame that moves may get another parent when its old one has said nothing for so long."""
_MOST_MISSED = 64
"""Ways that are not there and that are looked for anew when /tf names a new frame."""


class Moment(NamedTuple):
    """The two times of a lookup, ns.

    What moves on the sensor's side of the way is taken at the one, what moves on the view's side
    at the other: tf2's `lookupTransform` with two times, the frame where the sides meet being the
    fixed one.
    """

    sensor_ns: int
    """When the sensor saw it."""
    view_ns: int
    """When the camera looked: the stamp of the mask."""


def pose(
    x: float, y: float, z: float, qx: float, qy: float, qz: float, qw: float
) -> NDArray[np.float64] | None:
    """(4, 4) parent_from_child of a translation and a quaternion, or None: they are no pose."""
    try:
        t, q = np.array([x, y, z], np.float64), np.array([qx, qy, qz, qw], np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if t.ndim != 1 or q.ndim != 1 or not (np.abs([*t, *q]) < _FARTHEST_M).all():
        return None
    norm = float(np.linalg.norm(q))
    if norm < 1e-6:
        return None
    a, b, c, d = q / norm
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (b * b + c * c), 2 * (a * b - c * d), 2 * (a * c + b * d)],
        [2 * (a * b + c * d), 1 - 2 * (a * a + c * c), 2 * (b * c - a * d)],
        [2 * (a * c - b * d), 2 * (b * c + a * d), 1 - 2 * (a * a + b * b)],
    ]
    matrix[:3, 3] = t
    return matrix


def placed(matrix: NDArray[np.float64]) -> str:
    """A (4, 4) pose in metres and degrees, for people."""
    x, y, z = matrix[:3, 3]
    return f"x {x:.3f} y {y:.3f} z {z:.3f} m, {turned(matrix)}"


def turned(matrix: NDArray[np.float64]) -> str:
    """The rotation of a (3, 3) or (4, 4) matrix about fixed x, y and z, for people."""
    flat = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    angles = (
        np.arctan2(matrix[2, 1], matrix[2, 2]),
        np.arctan2(-matrix[2, 0], flat),
        np.arctan2(matrix[1, 0], matrix[0, 0]),
    )
    roll, pitch, yaw = (np.degrees(angle) + 0.0 for angle in angles)
    return f"roll {roll:.2f} pitch {pitch:.2f} yaw {yaw:.2f} degrees"


def apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """(metres, degrees) between two (4, 4) poses."""
    metres = float(np.linalg.norm(one[:3, 3] - other[:3, 3]))
    # Of the chord, which is exact for small angles where the cosine is not.
    chord = float(np.linalg.norm(one[:3, :3] - other[:3, :3])) / np.sqrt(8)
    return metres, float(np.degrees(2 * np.arcsin(min(1.0, chord))))


class Link(NamedTuple):
    """One transform on the way."""

    child: str
    parent: str
    upward: bool
    """From the child to its parent: on the target's side of the way."""
    fixed: NDArray[np.float64] | None
    """(4, 4) parent_from_child; None: it moves."""


@dataclass(frozen=True)
class Route:
    """The way from one frame to another, link by link from the target on."""

    links: tuple[Link, ...]
    moving: tuple[str, ...]
    """The children of the links that move."""

    def along(self, pose_of: Callable[[Link], NDArray[np.float64]]) -> NDArray[np.float64]:
        """(4, 4) target_from_source, where `pose_of` gives parent_from_child of links that move."""
        matrix = np.eye(4)
        for link in self.links:
            here = pose_of(link) if link.fixed is None else link.fixed
            matrix = matrix @ (np.asarray(np.linalg.inv(here), np.float64) if link.upward else here)
        return matrix


class TransformTree:
    """Every frame's newest parent; chains of any depth, in both directions.

    Args:
        kept_s: of how much time poses from /tf are kept.
        grace_s: data may be newer than the newest pose, or older than the oldest, by so much: then
            that pose is used. Beyond it there is no way.
    """

    def __init__(self, *, kept_s: float = 10.0, grace_s: float = 0.2) -> None:
        self._parents: dict[str, tuple[str, NDArray[np.float64]]] = {}
        self._kept_ns, self._grace_ns = round(kept_s * SECOND), round(grace_s * SECOND)
        self._moving: dict[str, Motion] = {}
        """Child -> how it moves, of those on a way that somebody asked for."""
        self._idle: dict[str, Edge] = {}
        """Child -> its newest transform, of all others."""
        self._missed: set[tuple[str, str]] = set()
        """(target, source) of ways that were asked for, and are not there."""
        self._lock = threading.RLock()

    def add(self, message: Any) -> tuple[bool, Rejection | None]:
        """(whether anything changed, what was wrong) of a tf2_msgs/TFMessage of /tf_static.

        A transform that is not finite, has no rotation or is none at all is left out; all others
        are learned. What differs by rounding alone is no change.
        """

        def learn(edge: Edge) -> bool:
            parent_from_child = pose(*edge.pose)
            if parent_from_child is None:
                raise _no_pose(edge, "a unit quaternion x y z w")
            self._expect_room(edge.child)
            known = self._parents.get(edge.child)
            if known and known[0] == edge.parent and _same(known[1], parent_from_child):
                return False
            self._moving.pop(edge.child, None)
            self._idle.pop(edge.child, None)
            self._parents[edge.child] = (edge.parent, parent_from_child)
            return True

        return self._learn(message, learn)

    def move(self, message: Any) -> tuple[bool, Rejection | None]:
        """(whether a way is there now, or another), what was wrong) of a TFMessage of /tf.

        Refused are: a frame that is on /tf_static, too; one with two parents that both speak; a
        circle; and, of frames on the way of a sensor, what is no pose. All others are learned.
        """
        fresh: list[str] = []

        def learn(edge: Edge) -> bool:
            child = edge.child
            motion = self._moving.get(child)
            if motion is not None and motion.parent == edge.parent:
                self._append(motion, edge)
                return False
            idle = self._idle.get(child)
            if motion is None and idle is not None and idle.parent == edge.parent:
                self._idle[child] = edge
                return False
            self._admit(edge, motion)
            self._moving.pop(child, None)
            self._idle[child] = edge
            fresh.append(child)
            return motion is not None

        changed, wrong = self._learn(message, learn)
        if fresh:
            found = {pair for pair in self._missed if self._steps(*pair) is not None}
            self._missed -= found
            changed = changed or bool(found)
        return changed, wrong

    def forget(self) -> None:
        """Forget how everything moved; who hangs on whom stays."""
        with self._lock:
            for motion in self._moving.values():
                motion.clear()

    def way(self, target: str, source: str, at: Moment | None = None) -> NDArray[np.float64] | None:
        """(4, 4) target_from_source, or None: no chain of transforms joins them.

        Args:
            target: a frame.
            source: another.
            at: when; None: the newest that is known of each transform.

        Raises:
            Rejection: NO_TF; what moves on the way is not known at that time.
        """
        route = self.route(target, source)
        return None if route is None else self.follow(route, at)

    def links(self, target: str, source: str) -> frozenset[str]:
        """The children of all transforms on the way from one to the other; empty: there is none."""
        route = self.route(target, source)
        return frozenset(link.child for link in route.links) if route else frozenset()

    def route(self, target: str, source: str) -> Route | None:
        """The way as it is now, or None: there is none. What moves on it is kept from now on."""
        with self._lock:
            steps = self._steps(target, source)
            if steps is None:
                if len(self._missed) >= _MOST_MISSED:
                    self._missed.clear()
                self._missed.add((target, source))
                return None
            self._missed.discard((target, source))
            links = []
            for child, upward in steps:
                fixed = self._parents.get(child)
                parent = fixed[0] if fixed else self._follow_from_now_on(child).parent
                links.append(Link(child, parent, upward, fixed[1] if fixed else None))
        return Route(tuple(links), tuple(link.child for link in links if link.fixed is None))

    def follow(self, route: Route, at: Moment | None = None) -> NDArray[np.float64]:
        """(4, 4) of a route at a time, as `way`.

        Raises:
            Rejection: NO_TF.
        """
        with self._lock:
            return route.along(lambda link: self._pose(link, at))

    def stance(self, route: Route, at: Moment | None = None) -> dict[str, NDArray[np.float64]]:
        """Child -> (4, 4) parent_from_child of what moves on a route, at a time.

        Raises:
            Rejection: NO_TF.
        """
        with self._lock:
            return {link.child: self._pose(link, at) for link in route.links if link.fixed is None}

    def _learn(self, message: Any, learn: Callable[[Edge], bool]) -> tuple[bool, Rejection | None]:
        """(whether any transform changed something, the first that was refused)."""
        changed, more = False, 0
        wrong: Rejection | None = None
        try:
            rows: Iterable[Edge | Rejection] = edges(message)
        except Rejection as rejection:
            return False, rejection
        with self._lock:
            for row in rows:
                try:
                    if isinstance(row, Rejection):
                        raise row
                    changed = learn(row) or changed
                except Rejection as rejection:
                    more += wrong is not None
                    wrong = wrong or rejection
        if wrong is not None and more:
            wrong = Rejection(wrong.finding.fault, f"{wrong} (and {more} more)")
        return changed, wrong

    def _expect_room(self, child: str) -> None:
        known = len(self._parents) + len(self._moving) + len(self._idle)
        if known >= _MOST_FRAMES and self._parent_of(child) is None:
            text = f"{child} is one frame too many; {_MOST_FRAMES} are known already"
            raise Rejection(Fault.NO_TF, text)

    def _parent_of(self, child: str) -> str | None:
        if (fixed := self._parents.get(child)) is not None:
            return fixed[0]
        known = self._moving.get(child) or self._idle.get(child)
        return known.parent if known is not None else None

    def _admit(self, edge: Edge, motion: Motion | None) -> None:
        """Whether a frame that moves may be new, or hang on somebody else.

        Raises:
            Rejection: NO_TF; it may not.
        """
        child, parent = edge.child, edge.parent
        if child in self._parents:
            raise Rejection(
                Fault.NO_TF,
                f"{child!r} is on /tf_static below {self._parents[child][0]!r}, and on /tf below "
                f"{parent!r}; the static one is used; publish it on one of them",
            )
        if motion is not None and motion.newest_ns is not None:
            silent_ns = edge.stamp_ns - motion.newest_ns
            if silent_ns < _ADOPTED_NS:
                raise Rejection(
                    Fault.NO_TF,
                    f"{child!r} has two parents on /tf, {motion.parent!r} and {parent!r}; the "
                    "first is used while it is published; stop one of the two publishers",
                )
        self._expect_room(child)
        circle = [child]
        at: str | None = parent
        while at is not None and at not in circle:
            circle.append(at)
            at = self._parent_of(at)
        if at == child:
            raise Rejection(
                Fault.NO_TF,
                f"{child!r} below {parent!r} on /tf closes a circle ({', '.join(circle)}); it is "
                "left out; stop one of its publishers",
            )

    def _append(self, motion: Motion, edge: Edge) -> None:
        """Keep a pose of a frame that somebody asks for.

        Raises:
            Rejection: NO_TF; it is none, or of another time.
        """
        numbers = _unit(edge.pose)
        if numbers is None:
            raise _no_pose(edge, "a quaternion x y z w of length 1 (within 0.5 %)")
        if refusal := motion.add(edge.stamp_ns, numbers):
            text = f"a transform {edge.parent!r} to {edge.child!r} of /tf is left out: {refusal}"
            raise Rejection(Fault.NO_TF, text)

    def _follow_from_now_on(self, child: str) -> Motion:
        if child not in self._moving:
            edge = self._idle.pop(child)
            motion = self._moving[child] = Motion(edge.parent, self._kept_ns)
            if (numbers := _unit(edge.pose)) is not None:
                motion.add(edge.stamp_ns, numbers)
        return self._moving[child]

    def _pose(self, link: Link, at: Moment | None) -> NDArray[np.float64]:
        """(4, 4) parent_from_child of a link that moves.

        Raises:
            Rejection: NO_TF.
        """
        motion, name = self._moving.get(link.child), f"{link.parent!r} to {link.child!r}"
        stamp_ns = None if at is None else at.view_ns if link.upward else at.sensor_ns
        try:
            if motion is None:
                raise LookupError
            beyond_ns = 0 if stamp_ns is None else motion.beyond_ns(stamp_ns)
            numbers = motion.newest() if stamp_ns is None else motion.between(stamp_ns)
        except LookupError:
            raise Rejection(Fault.NO_TF, f"no usable transform {name} on /tf yet") from None
        if abs(beyond_ns) > self._grace_ns:
            which, than = ("newest", "older") if beyond_ns > 0 else ("oldest", "newer")
            raise Rejection(
                Fault.NO_TF,
                f"the {which} transform {name} on /tf is {abs(beyond_ns) / SECOND:.2f} s {than} "
                f"than the data, limit {self._grace_ns / SECOND:g} s; publish it faster, mend its "
                "clock, or raise view.tf_grace_s",
            )
        found = pose(*numbers)
        assert found is not None  # `_unit` has looked
        return found

    def _steps(self, target: str, source: str) -> list[tuple[str, bool]] | None:
        """(child, upward) of each link from target to source; None: no chain joins them.

        Breadth first, either way along every transform; cycles are harmless.
        """
        if not target or not source:
            return None
        parents = dict[str, str](self._parent_names())
        children: dict[str, list[str]] = {}
        for child, parent in parents.items():
            children.setdefault(parent, []).append(child)
        came: dict[str, tuple[str, str, bool]] = {}
        """Frame -> (the one before it, the link's child, upward)."""
        seen, edge = {target}, [target]
        while edge and source not in seen:
            here = edge.pop(0)
            steps = [(child, child, False) for child in children.get(here, ())]
            if here in parents:
                steps.append((parents[here], here, True))
            for there, link, upward in steps:
                if there not in seen:
                    seen.add(there)
                    came[there] = here, link, upward
                    edge.append(there)
        if source not in seen:
            return None
        way, at = list[tuple[str, bool]](), source
        while at != target:
            at, link, upward = came[at]
            way.append((link, upward))
        return way[::-1]

    def _parent_names(self) -> Mapping[str, str]:
        return {
            **{child: edge.parent for child, edge in self._idle.items()},
            **{child: motion.parent for child, motion in self._moving.items()},
            **{child: parent for child, (parent, _) in self._parents.items()},
        }


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((np.abs(one - other) <= _SAME).all())


def _unit(numbers: tuple[Any, ...]) -> Numbers | None:
    """x y z qx qy qz qw with a quaternion of length 1, or None: they are no pose."""
    try:
        x, y, z, a, b, c, d = map(float, numbers)
    except (TypeError, ValueError, OverflowError):
        return None
    square = a * a + b * b + c * c + d * d
    # Each comparison is false of NaN.
    if not (abs(x) < _FARTHEST_M and abs(y) < _FARTHEST_M and abs(z) < _FARTHEST_M):
        return None
    if not abs(square - 1) <= _UNIT:
        return None
    length = square**0.5
    return x, y, z, a / length, b / length, c / length, d / length


def _no_pose(edge: Edge, expected: str) -> Rejection:
    shown = ", ".join(map(reprlib.repr, edge.pose))
    return Rejection(
        Fault.NO_TF,
        f"transform {edge.parent} to {edge.child} is ({shown}); "
        f"expected less than {_FARTHEST_M:g} m and {expected}",
    )
