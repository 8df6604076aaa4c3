"""A static TF tree: who hangs where, and the way from any frame to any other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.types import Fault, Rejection


def strip(frame_id: str) -> str:
    """A frame's name without the leading slash that ROS 1 wrote."""
    return frame_id.lstrip("/")


def pose(
    x: float, y: float, z: float, qx: float, qy: float, qz: float, qw: float
) -> NDArray[np.float64] | None:
    """(4, 4) parent_from_child of a translation and a quaternion, or None: they are no pose."""
    q = np.array([qx, qy, qz, qw], np.float64)
    norm = float(np.linalg.norm(q))
    if not np.isfinite([x, y, z, norm]).all() or norm < 1e-6:
        return None
    a, b, c, d = q / norm
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (b * b + c * c), 2 * (a * b - c * d), 2 * (a * c + b * d)],
        [2 * (a * b + c * d), 1 - 2 * (a * a + c * c), 2 * (b * c - a * d)],
        [2 * (a * c - b * d), 2 * (b * c + a * d), 1 - 2 * (a * a + b * b)],
    ]
    matrix[:3, 3] = x, y, z
    return matrix


class TransformTree:
    """Every frame's newest parent; chains of any depth, in both directions."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, NDArray[np.float64]]] = {}

    def add(self, message: Any) -> tuple[bool, Rejection | None]:
        """(whether anything changed, what was wrong) of a tf2_msgs/TFMessage.

        A transform that is not finite or has no rotation is left out; all others are learned.
        """
        changed = False
        wrong: Rejection | None = None
        for stamped in message.transforms:
            parent, child = strip(stamped.header.frame_id), strip(stamped.child_frame_id)
            t, q = stamped.transform.translation, stamped.transform.rotation
            parent_from_child = pose(t.x, t.y, t.z, q.x, q.y, q.z, q.w)
            if parent_from_child is None:
                wrong = Rejection(
                    Fault.NO_TF,
                    f"transform {parent} to {child} is ({t.x}, {t.y}, {t.z}; {q.x}, {q.y}, {q.z}, "
                    f"{q.w}); expected finite numbers and a unit quaternion",
                )
                continue
            known = self._parents.get(child)
            if known and known[0] == parent and np.array_equal(known[1], parent_from_child):
                continue
            self._parents[child] = (parent, parent_from_child)
            changed = True
        return changed, wrong

    def way(self, target: str, source: str) -> NDArray[np.float64] | None:
        """(4, 4) target_from_source, or None: no chain of transforms joins them.

        Breadth first, either way along every transform; cycles are harmless.
        """
        if not target or not source:
            return None
        parents = dict(self._parents)  # another thread may add to it meanwhile
        seen = {target: np.eye(4)}
        edge = [target]
        while edge and source not in seen:
            here = edge.pop(0)
            steps = [(child, known) for child, (parent, known) in parents.items() if parent == here]
            if here in parents:
                parent, here_in_parent = parents[here]
                steps.append((parent, np.linalg.inv(here_in_parent)))
            for there, here_from_there in steps:
                if there not in seen:
                    seen[there] = seen[here] @ here_from_there
                    edge.append(there)
        return seen.get(source)
