"""How a mask's sensors are, as numbers over time: what PlotJuggler and Foxglove plot.

The type is sensor_msgs/JointState: of the types that every ROS 2 has, and that rclpy's wheels
bring, it is the one that has a stamp, names, and as many numbers as one likes, and that both plot.
PlotJuggler makes a curve of each name; in Foxglove, where a curve is `position[N]`, N is the place
in `name`, the same in all messages of one network. Others were left out: std_msgs' arrays have no
stamp, and would not belong to their mask; diagnostic_msgs are texts; sensor_msgs/PointCloud is
deprecated; what has fields for it (`plotjuggler_msgs`) needs a package of its own.
"""

from __future__ import annotations

import math

from robustseg_core.output.messages import Fields, header
from robustseg_core.types import LabelMap, ModelSpec, State, kind_of

HEIGHT = {
    State.DISABLED: -1,
    State.DEAD: 0,
    State.WAITING: 1,
    State.RECOVERING: 2,
    State.DEGRADED: 3,
    State.LIVE: 4,
}
"""A state in a plot: the higher, the better."""


def sensor_states(label_map: LabelMap, spec: ModelSpec) -> Fields:
    """sensor_msgs/JointState: names and, in `position`, their numbers.

    Of each stream in the network's order: `<stream>.state` (`HEIGHT`), `.used` (0 or 1),
    `.quality` (0 to 1) and `.held_ms` (beside the mask's stamp), these two NaN where it is not
    used. Then `confidence`, the mean over the mask (0 to 1), and `latency_ms.<stage>`.
    """
    curves: dict[str, float] = {}
    for name in label_map.streams(spec.modalities):
        frame = label_map.bundle.frames.get(kind_of(name)) if name in label_map.used else None
        curves[f"{name}.state"] = HEIGHT[label_map.states.get(name, State.DISABLED)]
        curves[f"{name}.used"] = name in label_map.used
        curves[f"{name}.quality"] = frame.quality if frame else math.nan
        curves[f"{name}.held_ms"] = label_map.held_ms.get(name, math.nan)
    sure = label_map.confidence
    curves["confidence"] = float(sure.mean()) / 255 if sure.size else math.nan
    curves |= {f"latency_ms.{stage}": ms for stage, ms in label_map.latency_ms.items()}
    return {
        "header": header(label_map.stamp_ns, label_map.frame_id),
        "name": list(curves),
        "position": list(curves.values()),
    }
