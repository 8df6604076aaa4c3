"""A static TF tree: who hangs where, and the way from any frame to any other."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import word
from robustseg_core.types import Fault, Rejection

_FARTHEST_M = 1e9
"""Longer than any map's offset (UTM's are 1e7); keeps every chain of transforms finite."""
_SAME = 1e-6
"""Metres, and shares of a turn: what rounding alone changes when a pose is published again."""
_MOST_FRAMES = 4096
"""More than any robot has; a publisher gone wild with new names must not fill the memory."""


def strip(frame_id: str) -> str:
    """A frame's name without the leading slash that ROS 1 wrote."""
    return frame_id.lstrip("/")


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


class TransformTree:
    """Every frame's newest parent; chains of any depth, in both directions."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, NDArray[np.float64]]] = {}

    def add(self, message: Any) -> tuple[bool, Rejection | None]:
        """(whether anything changed, what was wrong) of a tf2_msgs/TFMessage.

        A transform that is not finite, has no rotation or is none at all is left out; all others
        are learned. What differs by rounding alone is no change.
        """
        changed = False
        wrong: Rejection | None = None
        more = 0
        transforms = getattr(message, "transforms", None)
        if not isinstance(transforms, (list, tuple)):
            text = f"transforms is {reprlib.repr(transforms)}; expected a list"
            return False, Rejection(Fault.FORMAT, text)
        if len(transforms) > _MOST_FRAMES:  # seconds of work, behind a lock
            text = f"message has {len(transforms)} transforms, limit {_MOST_FRAMES}"
            return False, Rejection(Fault.FORMAT, text)
        for stamped in transforms:
            try:
                parent, child, parent_from_child = _read(stamped)
                if child not in self._parents and len(self._parents) >= _MOST_FRAMES:
                    text = f"{child} is one frame too many; {_MOST_FRAMES} are known already"
                    raise Rejection(Fault.NO_TF, text)
            except Rejection as rejection:
                more += wrong is not None
                wrong = wrong or rejection
                continue
            known = self._parents.get(child)
            if known and known[0] == parent and _same(known[1], parent_from_child):
                continue
            self._parents[child] = (parent, parent_from_child)
            changed = True
        if wrong is not None and more:
            wrong = Rejection(wrong.finding.fault, f"{wrong} (and {more} more)")
        return changed, wrong

    def way(self, target: str, source: str) -> NDArray[np.float64] | None:
        """(4, 4) target_from_source, or None: no chain of transforms joins them."""
        return self._search(target, source)[0]

    def links(self, target: str, source: str) -> frozenset[str]:
        """The children of all transforms on the way from one to the other; empty: there is none."""
        return self._search(target, source)[1]

    def _search(
        self, target: str, source: str
    ) -> tuple[NDArray[np.float64] | None, frozenset[str]]:
        """`way` and `links`.

        Breadth first, either way along every transform; cycles are harmless.
        """
        if not target or not source:
            return None, frozenset()
        parents = dict(self._parents)  # another thread may add to it meanwhile
        children: dict[str, list[str]] = {}
        for child, (parent, _) in parents.items():
            children.setdefault(parent, []).append(child)
        seen: dict[str, NDArray[np.float64]] = {target: np.eye(4)}
        came: dict[str, tuple[str, str]] = {}  # frame -> (the one before it, the link's child)
        edge = [target]
        while edge and source not in seen:
            here = edge.pop(0)
            steps = [(child, child, parents[child][1]) for child in children.get(here, ())]
            if here in parents:
                parent, here_in_parent = parents[here]
                back = np.asarray(np.linalg.inv(here_in_parent), np.float64)
                steps.append((parent, here, back))
            for there, link, here_from_there in steps:
                if there not in seen:
                    seen[there] = seen[here] @ here_from_there
                    came[there] = here, link
                    edge.append(there)
        links, at = set(), source
        while at in came:
            at, link = came[at]
            links.add(link)
        return seen.get(source), frozenset(links)


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((np.abs(one - other) <= _SAME).all())


def _read(stamped: Any) -> tuple[str, str, NDArray[np.float64]]:
    """(parent, child, parent_from_child) of a geometry_msgs/TransformStamped.

    Raises:
        Rejection: FORMAT; it is none. NO_TF; its numbers are no pose.
    """
    parent = strip(word(getattr(stamped, "header", None), "frame_id"))
    child = strip(word(stamped, "child_frame_id"))
    transform = getattr(stamped, "transform", None)
    t, q = getattr(transform, "translation", None), getattr(transform, "rotation", None)
    numbers: list[Any] = [getattr(t, axis, None) for axis in "xyz"]
    numbers += [getattr(q, axis, None) for axis in "xyzw"]
    parent_from_child = pose(*numbers)
    if parent_from_child is None:
        shown = ", ".join(map(reprlib.repr, numbers))
        raise Rejection(
            Fault.NO_TF,
            f"transform {parent} to {child} is ({shown}); "
            f"expected less than {_FARTHEST_M:g} m and a unit quaternion x y z w",
        )
    return parent, child, parent_from_child
