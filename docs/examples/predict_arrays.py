"""Plain arrays to classes: a simulated moment of a street, seen by four sensors, then by fewer.

    python docs/examples/predict_arrays.py [PNG]

No bag, no ROS. The simulator (pip install 'robustseg[sim]') stands for sensors of yours: `moment`
returns what theirs would be, NumPy arrays and a calibration.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import robustseg_core
from robustseg_core.errors import RobustsegError
from robustseg_core.sim.camera_sensor import RgbCamera
from robustseg_core.sim.depth_sensor import DepthCamera
from robustseg_core.sim.event_sensor import EventCamera
from robustseg_core.sim.lidar_sensor import Lidar
from robustseg_core.sim.rig import FRAMES, focal_px, rig
from robustseg_core.sim.world import World

SEED, AT_S, STEPS = 7, 4.0, 6
"""The street, the moment, and how many looks of 10 ms the event camera takes until then."""


class Moment(NamedTuple):
    """What the sensors of a robot say at one moment, and how they are mounted."""

    inputs: dict[str, Any]
    camera: dict[str, Any]
    extrinsics: dict[str, NDArray[np.float64]]
    label: NDArray[np.uint8]
    """(H, W) true class ids."""


def moment(preset: str = "default") -> Moment:
    """Arrays and calibration of a simulated street."""
    street, robot = World(SEED, conditions=frozenset(), length_m=200.0), rig(preset)
    size, event_size = (robot.height, robot.width), (robot.event_height, robot.event_width)

    image, label = RgbCamera(*size, focal_px(robot.width), SEED).render(
        street, pose_of("rgb", street, AT_S), AT_S
    )
    millimetres = DepthCamera(*size, focal_px(robot.width), SEED).render(
        street, pose_of("depth", street, AT_S), AT_S
    )
    scan = Lidar(
        rings=robot.rings,
        columns=robot.columns,
        rate_hz=robot.lidar_hz,
        slices=robot.slices,
        seed=SEED,
    ).sweep(street, FRAMES["lidar"][1], AT_S - 1 / robot.lidar_hz)
    points = np.column_stack([scan[name] for name in ("x", "y", "z", "intensity")])
    events = watch(street, event_size)

    return Moment(
        inputs={"rgb": image, "depth": millimetres / 1000, "lidar": points, "event": events},
        camera={"rgb": lens(size), "depth": lens(size), "event": lens(event_size)},
        extrinsics={
            name: np.linalg.inv(FRAMES["rgb"][1]) @ FRAMES[name][1]
            for name in ("depth", "event", "lidar")
        },
        label=label,
    )


def watch(street: World, size: tuple[int, int]) -> dict[str, Any]:
    """x, y, t_us and polarity of the events of the last 50 ms, and the (H, W) of their sensor."""
    eye = RgbCamera(*size, focal_px(size[1]), SEED)
    sensor = EventCamera(*size, seed=SEED, threshold_on=0.35, threshold_off=0.35)
    found = []
    for t_s in AT_S - 0.01 * np.arange(STEPS)[::-1]:
        radiance = eye.radiance(street, pose_of("event", street, t_s), t_s)
        found.append(sensor.step(radiance, round(t_s * 1e6)))
    columns = {"x": "x", "y": "y", "t_us": "t", "polarity": "p"}
    return {
        "size": size,
        **{
            ours: np.concatenate([getattr(events, its) for events in found])
            for ours, its in columns.items()
        },
    }


def pose_of(name: str, street: World, t_s: float) -> NDArray[np.float64]:
    """(4, 4) world_from_sensor."""
    pose: NDArray[np.float64] = street.ego_pose(t_s) @ FRAMES[name][1]
    return pose


def lens(size: tuple[int, int]) -> dict[str, Any]:
    """K of a simulated camera, and its (H, W)."""
    height, width = size
    f = focal_px(width)
    return {"K": [[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]], "size": size}


def main(words: list[str]) -> int:
    """Entry point; the exit code."""
    out = words[0] if words else "predict_arrays.png"
    inputs, camera, extrinsics, label = moment()
    try:
        predictor = robustseg_core.load("street")
        result = predictor.predict(inputs, camera=camera, extrinsics=extrinsics)
        result.plot().savefig(out)
        for names in (tuple(inputs), ("depth", "lidar"), ("lidar",)):
            some = {name: inputs[name] for name in names}
            ids = predictor.predict(some, camera=camera, extrinsics=extrinsics).ids
            print(f"{'+'.join(names):<22} {np.mean(ids == label):.0%} of the pixels are right")
    except RobustsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
