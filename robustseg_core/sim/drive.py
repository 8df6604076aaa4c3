"""A drive through a simulated street, written as the bag that the robot would have recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import BagWriter
from robustseg_core.bag.typestore import EVENT_PACKET
from robustseg_core.codecs.fields import nanoseconds
from robustseg_core.codecs.message_types import CAMERA_INFO, CLOUD, COMPRESSED_IMAGE, IMAGE
from robustseg_core.codecs.tf_message import TF_MESSAGE, Edge
from robustseg_core.errors import RobustsegError
from robustseg_core.output.messages import header, to_rosbags, transforms
from robustseg_core.robot.topics import TF_STATIC
from robustseg_core.sim import generator
from robustseg_core.sim.camera_sensor import RgbCamera
from robustseg_core.sim.depth_sensor import DepthCamera
from robustseg_core.sim.event_sensor import EventCamera
from robustseg_core.sim.lidar_sensor import Lidar, to_message
from robustseg_core.sim.rig import FRAMES, TOPICS, Rig
from robustseg_core.sim.style import PLAIN, Style
from robustseg_core.sim.world import World
from robustseg_core.types import MS, SECOND

EPOCH_NS = 1_700_000_000 * SECOND
"""Stamps count from here, so that a drive is the same bytes whenever it is made."""
STREAMS = ("rgb", "depth", "event", "lidar")
"""In one thread: open3d uses all cores for its rays already, and a second thread of ours made a
drive slower."""
CONTRAST = 0.35
"""Event threshold: a robust setting of a real sensor; finer ones mostly see the asphalt's grain."""
APART_S = 1.0
"""A view takes this much of a drive at least, so that views are of different places."""
SLICE_S = 0.2
"""Simulated at a stretch, between two looks at the log."""
LONGEST_S = 600
"""The street grows with the drive, and its triangles with the street: 300 s take 1 GB."""
LATENCY_NS = {"rgb": 4 * MS, "depth": 6 * MS, "event": MS, "lidar": 3 * MS, "label": 5 * MS}
"""From the stamp to the log, per stream; a LiDAR sweep is logged when it is complete."""
WATCHED_S = 0.06
"""How long before a view's camera frame its event camera looks: the default window, and a bit."""
DEPTH_LAG_S, SWEEP_LAG_S = (0.0, 0.04), (0.105, 0.14)
"""How long before a view's camera frame its depth frame is stamped, and its LiDAR sweep begins: as
in a continuous recording, where the newest of each is as old as its own rate makes it."""
EVERY_S = 0.15
"""From one view to the next on the bag's clock, which stands still while nothing is recorded: so
short that no silence is suspicious."""

Logged = tuple[str, str, Any, int]
"""Topic, type, message, log time."""


@dataclass
class Statistics:
    """What a drive holds, to see at a glance whether it is sane."""

    frames: int = 0
    sweeps: int = 0
    points: int = 0
    events_on: int = 0
    events_off: int = 0
    depth_valid: float = 0.0
    """Sum over the depth images of the share of valid pixels."""
    depth_images: int = 0
    brightness: float = 0.0
    """Sum over the frames of the mean gray level."""
    class_pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    def to_json(self, seconds: float, classes: tuple[str, ...]) -> dict[str, Any]:
        """Rates, means and shares."""
        pixels = max(1, int(self.class_pixels[: len(classes)].sum()))
        events = self.events_on + self.events_off
        return {
            "events_per_second": round(events / seconds),
            "on_share": round(self.events_on / max(1, events), 4),
            "returns_per_sweep": round(self.points / max(1, self.sweeps)),
            "depth_valid_share": round(self.depth_valid / max(1, self.depth_images), 4),
            "mean_gray": round(self.brightness / max(1, self.frames), 2),
            "class_shares": {
                name: round(int(self.class_pixels[k]) / pixels, 5)
                for k, name in enumerate(classes)
                if self.class_pixels[k]
            },
        }


class Drive:
    """A world, a rig, and the messages that the rig's sensors send while it is driven through.

    Args:
        seed: of the street, its traffic and all noise.
        rig: the robot.
        seconds: how long the drive is.
        conditions: of `weather.CONDITIONS`.
        views: how many moments of the drive are recorded, each just long enough for one set of all
            sensors with its label; None records all of it.
        style: of the town.

    Raises:
        RobustsegError: no time to drive, or for so many views, or an unknown condition.
    """

    def __init__(
        self,
        *,
        seed: int,
        rig: Rig,
        seconds: float,
        conditions: frozenset[str],
        views: int | None = None,
        style: Style = PLAIN,
    ) -> None:
        if not 0 < seconds <= LONGEST_S:
            raise RobustsegError(
                f"seconds is {seconds:g}; give more than 0, at most {LONGEST_S}, or several drives"
            )
        if views is not None and not 0 < views <= seconds / APART_S:
            raise RobustsegError(
                f"views is {views} in {seconds:g} s; give 1 or more, at most one for each "
                f"{APART_S:g} s, so seconds={max(1, views) * APART_S:g} for so many"
            )
        self.seconds = seconds
        self.rig = rig
        self.views_s = None if views is None else moments(seed, seconds, views)
        """When the camera frames of the views are taken; None: all of the drive is recorded."""
        self._seed = seed
        self.world = World(
            seed,
            conditions=conditions,
            length_m=street_m(seconds),
            lane_m=rig.lane_m,
            style=style,
        )
        self.statistics = Statistics()
        self._rgb = RgbCamera(
            rig.height, rig.width, rig.focal_px("rgb"), seed, photometry=rig.photometry
        )
        self._depth = DepthCamera(
            rig.height, rig.width, rig.focal_px("depth"), seed, range_m=rig.depth_range_m
        )
        self._eye = RgbCamera(rig.event_height, rig.event_width, rig.focal_px("event"), seed)
        self._events = EventCamera(
            rig.event_height,
            rig.event_width,
            seed=seed,
            threshold_on=CONTRAST,
            threshold_off=CONTRAST,
        )
        self._told_event_info = False
        self._skipped_s = 0.0
        """For how long nothing was recorded until now."""
        self._lidar = Lidar(
            rings=rig.rings,
            columns=rig.columns,
            rate_hz=rig.lidar_hz,
            slices=rig.slices,
            seed=seed,
        )

    def write(
        self, writer: BagWriter, on_progress: Callable[[float], None] = lambda t_s: None
    ) -> None:
        """Drive, and write every message in the order in which a robot would have logged it."""
        frames = self.transforms()
        writer.write(TF_STATIC, TF_MESSAGE, frames, EPOCH_NS, latched=True)
        waiting: list[Logged] = []
        for start_s, end_s, seen in self._stretches():
            on_progress(start_s)
            waiting += seen()
            waiting.sort(key=lambda logged: logged[3])
            ready_ns = EPOCH_NS + round(end_s * SECOND)
            while waiting and waiting[0][3] < ready_ns:
                writer.write(*waiting.pop(0))
        for logged in waiting:
            writer.write(*logged)

    def transforms(self) -> Any:
        """tf2_msgs/TFMessage: the pose of each sensor on base_link."""
        edges = []
        for name, (frame_id, _) in FRAMES.items():
            pose = self.rig.poses[name]
            numbers = (*pose[:3, 3].tolist(), *_quaternion(pose[:3, :3]))
            edges.append(Edge("base_link", frame_id, EPOCH_NS, numbers))
        return to_rosbags(TF_MESSAGE, transforms(edges))

    @property
    def watched_s(self) -> float:
        """For how long the event camera looks, all in all."""
        return self.seconds if self.views_s is None else len(self.views_s) * WATCHED_S

    def _stretches(self) -> Iterator[tuple[float, float, Callable[[], list[Logged]]]]:
        """(start, end, what is seen) of the drive's pieces of `SLICE_S`, or of its views."""
        if self.views_s is not None:
            for k in range(len(self.views_s)):
                yield k * EVERY_S, (k + 1) * EVERY_S, partial(self.view, k)
            return
        for k in range(math.ceil(self.seconds / SLICE_S)):
            start_s, end_s = k * SLICE_S, min((k + 1) * SLICE_S, self.seconds)
            yield start_s, end_s, partial(self.between, start_s, end_s)

    def view(self, number: int) -> list[Logged]:
        """One set of all sensors: a LiDAR sweep, a depth frame and events before a camera frame.

        Exposure is settled, and nothing is remembered of the view before. Nobody believes a sensor
        by one message: the first view's come once before, the picture twice, without a label.
        """
        assert self.views_s is not None
        t_s = self.views_s[number]
        self._skipped_s = t_s - (number + 3) * EVERY_S
        rng = generator(self._seed, "view", t_s)
        self._rgb.reset()
        self._events.reset()
        looks = math.ceil(WATCHED_S * self.rig.event_hz - 1e-9)
        moments_s = [
            (t_s - float(rng.uniform(*SWEEP_LAG_S)), "lidar"),
            (t_s - float(rng.uniform(*DEPTH_LAG_S)), "depth"),
            *((t_s - k / self.rig.event_hz, "event") for k in range(looks, -1, -1)),
            (t_s, "rgb"),
        ]
        seen = [logged for moment_s, name in moments_s for logged in self._observe(name, moment_s)]
        if number == 0:
            once = [TOPICS[name] for name in ("lidar", "depth", "depth_info", "rgb", "rgb_info")]
            early = [_earlier(logged, EVERY_S) for logged in seen if logged[0] in once]
            seen += early + [_earlier(logged, EVERY_S) for logged in early[-2:]]
        return seen

    def _stamp_ns(self, t_s: float) -> int:
        """The bag's clock at a time of the street."""
        return EPOCH_NS + round((t_s - self._skipped_s) * SECOND)

    def between(
        self, start_s: float, end_s: float, streams: Sequence[str] = STREAMS
    ) -> list[Logged]:
        """What these streams see from `start_s` (included) to `end_s` (excluded).

        Sensors have a memory (exposure, events): ask for one stretch after the other.
        """
        rates = {
            "rgb": self.rig.rgb_hz,
            "depth": self.rig.depth_hz,
            "event": self.rig.event_hz,
            "lidar": self.rig.lidar_hz,
        }
        moments = [
            (k / rates[name], name)
            for name in streams
            for k in range(_first(start_s, rates[name]), _first(end_s, rates[name]))
        ]
        return [logged for t_s, name in sorted(moments) for logged in self._observe(name, t_s)]

    def _observe(self, stream: str, t_s: float) -> Iterator[Logged]:
        stamp_ns = self._stamp_ns(t_s)
        log_ns = stamp_ns + LATENCY_NS[stream]
        frame_id, base_from_sensor = FRAMES[stream][0], self.rig.poses[stream]
        if stream == "lidar":
            points = self._lidar.sweep(self.world, base_from_sensor, t_s)
            self.statistics.sweeps += 1
            self.statistics.points += len(points)
            complete_ns = log_ns + round(self._lidar.period_s * SECOND)
            yield TOPICS["lidar"], CLOUD, to_message(points, stamp_ns, frame_id), complete_ns
            return
        pose = self.world.ego_pose(t_s) @ base_from_sensor
        if stream == "event":
            yield from self._watch(pose, t_s, frame_id)
            return
        if stream == "rgb":
            rgb, label = self._rgb.render(self.world, pose, t_s)
            yield TOPICS["rgb"], COMPRESSED_IMAGE, _jpeg(rgb, stamp_ns, frame_id), log_ns
            label_ns = stamp_ns + LATENCY_NS["label"]
            yield TOPICS["label"], IMAGE, _mono8(label, stamp_ns, frame_id), label_ns
            self.statistics.frames += 1
            self.statistics.brightness += float(rgb.mean())
            self.statistics.class_pixels += np.bincount(label.ravel(), minlength=256)
        else:
            depth_mm = self._depth.render(self.world, pose, t_s)
            depth = _depth_png(depth_mm, stamp_ns, frame_id)
            yield TOPICS["depth"], COMPRESSED_IMAGE, depth, log_ns
            self.statistics.depth_images += 1
            self.statistics.depth_valid += float((depth_mm > 0).mean())
        info = self._camera_info(stream, stamp_ns)
        yield TOPICS[f"{stream}_info"], CAMERA_INFO, info, log_ns

    def _watch(self, pose: NDArray[np.float64], t_s: float, frame_id: str) -> Iterator[Logged]:
        """One radiance sample: the packets of what changed since the last one."""
        if not self._told_event_info:
            self._told_event_info = True
            start_ns = self._stamp_ns(t_s)
            yield TOPICS["event_info"], CAMERA_INFO, self._camera_info("event", start_ns), start_ns
        radiance = self._eye.radiance(self.world, pose, t_s)
        events = self._events.step(radiance, round((t_s - self._skipped_s) * 1e6))
        self.statistics.events_on += int(events.p.sum())
        self.statistics.events_off += int((~events.p).sum())
        log_ns = self._stamp_ns(t_s) + LATENCY_NS["event"]
        packets = self._events.packets(
            events, frame_id=frame_id, zero_ns=EPOCH_NS, longest_ms=1000 / self.rig.event_hz
        )
        for packet in packets:
            yield TOPICS["event"], EVENT_PACKET, packet, log_ns

    def _camera_info(self, camera: str, stamp_ns: int) -> Any:
        rig, f = self.rig, self.rig.focal_px(camera)
        height, width = rig.height, rig.width
        if camera == "event":
            height, width = rig.event_height, rig.event_width
        cx, cy = (width - 1) / 2, (height - 1) / 2
        fields = {
            "header": header(stamp_ns, FRAMES[camera][0]),
            "height": height,
            "width": width,
            "distortion_model": "plumb_bob",
            "d": np.zeros(5),
            "k": np.array([f, 0, cx, 0, f, cy, 0, 0, 1]),
            "r": np.eye(3).ravel(),
            "p": np.array([f, 0, cx, 0, 0, f, cy, 0, 0, 0, 1, 0]),
        }
        return to_rosbags(CAMERA_INFO, fields)


def moments(seed: int, seconds: float, views: int) -> list[float]:
    """Times of the camera frames of `views` views, spread over a drive; whole milliseconds."""
    places = np.arange(views) + generator(seed, "views").uniform(0.2, 0.8, views)
    return [round(float(place), 3) for place in places * (seconds / views)]


def street_m(seconds: float) -> float:
    """How long a street is needed so that the robot does not reach its end: 12 m/s and more."""
    return max(400.0, 12.0 * seconds)


def _earlier(logged: Logged, by_s: float) -> Logged:
    """The same message, measured and logged earlier."""
    topic, kind, message, log_ns = logged
    by_ns = round(by_s * SECOND)
    stamp = message.header.stamp
    stamp_ns = nanoseconds(stamp) - by_ns
    told = replace(
        message.header, stamp=replace(stamp, sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    )
    return topic, kind, replace(message, header=told), log_ns - by_ns


def _first(t_s: float, rate_hz: float) -> int:
    """Number of the first sample at `t_s` or later."""
    return math.ceil(t_s * rate_hz - 1e-9)


def _jpeg(rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Any:
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    fields = {"format": "rgb8; jpeg compressed bgr8", "data": data.reshape(-1)}
    return to_rosbags(COMPRESSED_IMAGE, {"header": header(stamp_ns, frame_id), **fields})


def _depth_png(depth_mm: NDArray[np.uint16], stamp_ns: int, frame_id: str) -> Any:
    """compressed_depth_image_transport's form: 12 bytes that 16UC1 leaves empty, then PNG."""
    png = cv2.imencode(".png", depth_mm, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].reshape(-1)
    data = np.concatenate([np.zeros(12, np.uint8), png])
    fields = {"format": "16UC1; compressedDepth png", "data": data}
    return to_rosbags(COMPRESSED_IMAGE, {"header": header(stamp_ns, frame_id), **fields})


def _mono8(ids: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Any:
    height, width = ids.shape
    fields = {
        "header": header(stamp_ns, frame_id),
        "height": height,
        "width": width,
        "encoding": "mono8",
        "step": width,
        "data": np.ascontiguousarray(ids).reshape(-1),
    }
    return to_rosbags(IMAGE, fields)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """x y z w of a rotation matrix, by its axis and angle (OpenCV's Rodrigues)."""
    vector = cv2.Rodrigues(np.ascontiguousarray(rotation))[0].ravel()
    angle = float(np.linalg.norm(vector))
    x, y, z = (vector / angle * math.sin(angle / 2)).tolist() if angle else (0.0, 0.0, 0.0)
    return x, y, z, math.cos(angle / 2)
