"""What the live node costs beside the network, against the node that one writes first.

Load: 1280x720 rgb8 and 640x480 16UC1 at 30 Hz, 100 000 points at 10 Hz, a million events a second
in 1000 packets. Both nodes make the network's inputs and publish a blank mask; there is no network.
The naive one is all-or-nothing matching of whole messages (the rule of message_filters'
ApproximateTimeSynchronizer, queue 10, slop 50 ms), copies of images as cv_bridge makes them, clouds
by their fields, and every packet decoded when it comes.

They take turns beside one load, and thread CPU is counted, so the ratios hold on a busy machine, as
long as it can carry the load: `BENCH_SHARE=0.4` sends 0.4 of all rates.
`python test/bench/bench_live.py [seconds]`; `--load` and `--node KIND` are its processes.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.executors import ExternalShutdownException  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)

from robustseg_core.bag.typestore import EVENT_PACKET, typestore  # noqa: E402
from robustseg_core.robot.transports import carry_large_messages  # noqa: E402
from robustseg_core.types import SECOND  # noqa: E402
from robustseg_ros import optional  # noqa: E402

SECONDS, ROUNDS, WARM_S = 8.0, 3, 4.0
SHARE = float(os.environ.get("BENCH_SHARE", "1"))
HZ = {"rgb": 30 * SHARE, "depth": 30 * SHARE, "lidar": 10 * SHARE, "event": 1000 * SHARE}
TOPICS = {name: f"/{name}" for name in HZ}
IMAGE, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"
TYPES = {"rgb": IMAGE, "depth": IMAGE, "lidar": CLOUD, "event": EVENT_PACKET}
SIZE = (320, 512)
MASKS = "/robustseg/label_mask"
EVENTS_A_PACKET = 1000
CLOCK_MS = 16_777
"""The sensor's clock has 24 bits of microseconds: after so many packets it begins anew."""
NODES = ("robustseg", "naive")


# -- the load ----------------------------------------------------------------------------------


def _messages(name: str) -> list[bytes]:
    """Serialized messages of one sensor, to be sent in turn."""
    from bench_health import cloud, metres, scene

    from support import makers

    random = np.random.default_rng(3)
    if name == "rgb":
        wide = scene(720, 1280)
        made = [makers.image(np.roll(wide, 13 * k, axis=1), "rgb8") for k in range(6)]
    elif name == "depth":
        relief = metres(480, 640)
        made = [makers.image(np.roll(relief, 5 * k, axis=1), "16UC1") for k in range(6)]
    elif name == "lidar":
        made = [cloud(100_000) for _ in range(4)]
    else:
        made = [_packet(k, random) for k in range(CLOCK_MS)]
    return [bytes(typestore().serialize_cdr(each, TYPES[name])) for each in made]


def _packet(k: int, random: np.random.Generator) -> Any:
    """A millisecond of an edge that moves, and noise."""
    from robustseg_core.codecs.events.evt3 import encode_evt3
    from support import makers

    count = EVENTS_A_PACKET
    t_us = np.sort(random.integers(0, 1000, count)) + 1000 * k
    x = np.clip((k // 4 % 560) + random.normal(40, 30, count), 0, 639).astype(int)
    y = random.integers(0, 480, count)
    return makers.events(encode_evt3(x, y, random.integers(0, 2, count), t_us), seq=k)


def _restamped(raw: bytearray, stamp_ns: int) -> None:
    raw[4:12] = (stamp_ns // SECOND).to_bytes(4, "little") + (stamp_ns % SECOND).to_bytes(
        4, "little"
    )


def _place_of_seq() -> int:
    """Where the packets' number lies in their serialized form."""
    from support import makers

    words = np.zeros(2, np.uint16)
    pair = [makers.events(words, seq=n) for n in (0, 255)]
    one, two = (bytes(typestore().serialize_cdr(each, EVENT_PACKET)) for each in pair)
    return next(k for k in range(len(one)) if one[k] != two[k])


def load() -> None:
    """The sensors' process: everything on time, as far as this machine can."""
    from support.makers import camera_info, transform

    carry_large_messages(os.environ)
    pools = {name: [bytearray(raw) for raw in _messages(name)] for name in HZ}
    seq_at = _place_of_seq()
    rclpy.init()
    node = Node("load")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    said = {
        "/camera_info": ("sensor_msgs/msg/CameraInfo", camera_info(720, 1280, fx=700.0)),
        "/tf_static": (
            "tf2_msgs/msg/TFMessage",
            transform("camera", "lidar", quaternion=(0.5, -0.5, 0.5, 0.5)),
        ),
    }
    for topic, (kind, sent) in said.items():
        optional.publisher(node, kind, topic, latched).publish(sent)
    deep = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
    publishers = {
        name: optional.publisher(node, TYPES[name], TOPICS[name], deep if name == "event" else 5)
        for name in HZ
    }
    due = {name: time.monotonic() for name in HZ}
    sent = dict.fromkeys(HZ, 0)
    late = 0
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    print("ready", flush=True)
    while not stopped:
        now = time.monotonic()
        for name, at in due.items():
            if at > now:
                continue
            pool = pools[name]
            raw = pool[sent[name] % len(pool)]
            _restamped(raw, time.time_ns())
            if name == "event":
                raw[seq_at : seq_at + 8] = sent[name].to_bytes(8, "little")
            publishers[name].publish(bytes(raw))
            sent[name] += 1
            due[name] += 1 / HZ[name]
            if now - due[name] > 0.5:
                due[name], late = now, late + 1
        time.sleep(max(0.0, min(due.values()) - time.monotonic()))
    print(json.dumps({**sent, "leaps": late}), flush=True)
    rclpy.shutdown()


# -- the nodes ---------------------------------------------------------------------------------


class Meter:
    """Counts masks, and times the callbacks of sensors in CPU of their thread, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.masks = 0
        self.callbacks: list[float] = []
        self.sets: list[str] = []

    def watch(self) -> None:
        """Time the callback of every subscription that is made from now on."""
        create = Node.create_subscription

        def timed(node: Node, kind: Any, topic: str, callback: Any, *rest: Any, **more: Any) -> Any:
            def called(*arguments: Any) -> None:
                cpu = time.thread_time()
                callback(*arguments)
                if self.on:
                    self.callbacks.append(1e3 * (time.thread_time() - cpu))

            try:
                inspect.signature(callback).bind(0)
                taking: Any = lambda message: called(message)  # noqa: E731
            except TypeError:
                taking = lambda message, info: called(message, info)  # noqa: E731
            return create(node, kind, topic, taking, *rest, **more)

        Node.create_subscription = timed  # type: ignore[method-assign]

    def mask(self, used: Any) -> None:
        if self.on:
            self.masks += 1
            self.sets.append("".join(sorted(name[0] for name in used)))


class Approximate:
    """All or nothing: a set when every stream has a message within the slop of this one."""

    def __init__(self, names: Any, size: int, slop_s: float, callback: Any) -> None:
        self._queues: dict[str, dict[float, Any]] = {name: {} for name in names}
        self._size, self._slop_s, self._callback = size, slop_s, callback

    def add(self, name: str, message: Any) -> None:
        stamp = message.header.stamp
        at = stamp.sec + stamp.nanosec / 1e9
        queue = self._queues[name]
        queue[at] = message
        while len(queue) > self._size:
            del queue[min(queue)]
        near = {}
        for other, waiting in self._queues.items():
            if not waiting or abs((best := min(waiting, key=lambda t: abs(t - at))) - at) > (
                self._slop_s
            ):
                return
            near[other] = best
        self._callback(*(self._queues[other].pop(t) for other, t in near.items()))


def cloud_picture(message: Any) -> np.ndarray:
    """(3, H, W): points by their fields, finite ones, projected, far ones painted first."""
    kinds = {2: "u1", 4: "u2", 6: "u4", 7: "f4", 8: "f8"}
    kind = np.dtype(
        {
            "names": [f.name for f in message.fields],
            "formats": [kinds[f.datatype] for f in message.fields],
            "offsets": [f.offset for f in message.fields],
            "itemsize": message.point_step,
        }
    )
    table = np.frombuffer(bytes(message.data), kind)
    points = np.stack([table[axis] for axis in "xyz"], axis=1)
    keep = np.isfinite(points).all(axis=1)
    points, intensity = points[keep], table["intensity"][keep]
    right, down, far = -points[:, 1], -points[:, 2], points[:, 0]
    ahead = far > 0.1
    right, down, far, intensity = (a[ahead] for a in (right, down, far, intensity))
    u = ((700 * right / far + 640) * SIZE[1] / 1280).astype(int)
    v = ((700 * down / far + 360) * SIZE[0] / 720).astype(int)
    inside = (u >= 0) & (u < SIZE[1]) & (v >= 0) & (v < SIZE[0])
    order = np.argsort(-far[inside])
    picture = np.zeros((3, *SIZE), np.float32)
    for channel, value in enumerate((far, intensity, down)):
        picture[channel, v[inside][order], u[inside][order]] = value[inside][order]
    return picture


def event_picture(packets: list[Any]) -> np.ndarray:
    """(2, H, W): counts of ON and OFF events."""
    picture = np.zeros((2, *SIZE), np.float32)
    if packets:
        x, y, p = (np.concatenate([getattr(e, n) for e in packets]) for n in "xyp")
        u, v = x.astype(int) * SIZE[1] // 640, y.astype(int) * SIZE[0] // 480
        np.add.at(picture, (p.astype(int), v, u), 1)
    return picture


def naive(meter: Meter) -> Node:
    """What one writes first."""
    import cv2

    from robustseg_core.codecs.events.evt3 import Evt3Decoder
    from robustseg_core.output import messages
    from robustseg_ros.convert import to_message

    node = Node("naive")
    decoder = Evt3Decoder(640, 480)
    recent: deque[Any] = deque(maxlen=50)
    kind = optional.message_class(IMAGE)
    publisher = node.create_publisher(kind, MASKS, 10)

    def matched(rgb: Any, depth: Any, cloud: Any) -> None:
        pixels = np.frombuffer(rgb.data, np.uint8).reshape(rgb.height, rgb.width, 3).copy()
        image = cv2.resize(pixels, SIZE[::-1], interpolation=cv2.INTER_AREA)
        inputs = [(image.astype(np.float32) / 255 - 0.45).transpose(2, 0, 1).copy()]
        metres = np.frombuffer(depth.data, np.uint16).reshape(depth.height, depth.width)
        metres = metres.copy().astype(np.float32) / 1000
        inputs.append(cv2.resize(metres, SIZE[::-1], interpolation=cv2.INTER_NEAREST))
        inputs.append(cloud_picture(cloud))
        inputs.append(event_picture(list(recent)))
        mask = np.zeros((720, 1280), np.uint8)
        head = messages.header(time.time_ns(), "camera")
        fields = {"header": head, "height": 720, "width": 1280, "encoding": "mono8", "step": 1280}
        publisher.publish(to_message(kind, fields | {"data": mask.reshape(-1)}))
        meter.mask(HZ)

    matcher = Approximate(("rgb", "depth", "lidar"), 10, 0.05, matched)
    for name in ("rgb", "depth", "lidar"):
        take = partial(matcher.add, name)
        optional.subscribe(node, TYPES[name], TOPICS[name], take, qos_profile_sensor_data)

    def packet(message: Any) -> None:
        recent.append(decoder.decode(message.events))

    deep = QoSProfile(depth=400, reliability=ReliabilityPolicy.BEST_EFFORT)
    optional.subscribe(node, EVENT_PACKET, TOPICS["event"], packet, deep)
    return node


def ours(meter: Meter) -> Node:
    """The node itself, with a blank engine."""
    from robustseg_core.engines.blank import blank
    from robustseg_core.models import checkpoint
    from robustseg_core.rig import Rig
    from robustseg_ros.publishers import Publishers
    from robustseg_ros.segment_node import SegmentNode

    spec = checkpoint.default_spec(tuple(HZ), size=SIZE)
    Rig.from_config = lambda config: Rig(config, spec, blank(spec))
    publish = Publishers.publish

    def counted(self: Any, label_map: Any, *rest: Any) -> None:
        publish(self, label_map, *rest)
        meter.mask(label_map.used)

    Publishers.publish = counted
    words = [f"streams.{name}.topic:={topic}" for name, topic in TOPICS.items()]
    rclpy.init(args=["--ros-args", *(w for word in words for w in ("-p", word))])
    return SegmentNode()


def serve(which: str, seconds: float) -> None:
    """One node's process: warm up, count, say the figures."""
    from robustseg_ros.running import spin

    carry_large_messages(os.environ)
    meter = Meter()
    meter.watch()
    found: dict[str, Any] = {}

    def measure(node: Any) -> None:
        end = time.monotonic() + 60
        meter.on = True
        while meter.masks < 20 and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(WARM_S)
        meter.on = False
        meter.masks, meter.callbacks, meter.sets = 0, [], []
        meter.on = True
        cpu, start, threads = time.process_time(), time.monotonic(), _threads()
        time.sleep(seconds)
        meter.on = False
        took_s = time.monotonic() - start
        spent = 1e3 * (time.process_time() - cpu)
        taken = np.array(meter.callbacks or [0.0])
        found.update(
            cpu_ms_a_second=spent / took_s,
            masks_a_second=meter.masks / took_s,
            cpu_ms_a_mask=spent / max(meter.masks, 1),
            callbacks_a_second=len(taken) / took_s,
            callback_p50_ms=float(np.quantile(taken, 0.5)),
            callback_p99_ms=float(np.quantile(taken, 0.99)),
            threads={
                name: round((ms - threads.get(name, 0)) / took_s)
                for name, ms in _threads().items()
                if ms - threads.get(name, 0) > 5 * took_s
            },
            sets=dict(Counter(meter.sets)),
        )
        segmenter = getattr(node, "_segmenter", None)
        if segmenter is not None:
            health = segmenter.health(node._ear.heard_ns())
            found["received"] = {name: each.received for name, each in health.items()}
            found["rejected"] = {
                name: {f.value: n for f, n in each.rejected.items()}
                for name, each in health.items()
            }
            found["states"] = {name: each.state.value for name, each in health.items()}
            found["overtaken"] = segmenter.intake.overtaken
            found["told"] = {name: each.reason for name, each in health.items()}
        print(json.dumps(found), flush=True)
        os.kill(os.getpid(), signal.SIGINT)

    if which == "naive":
        rclpy.init()
        node = naive(meter)
        work: Callable[[], None] = lambda: spin(node)  # noqa: E731
    else:
        node = ours(meter)
        work = node.work
    threading.Thread(target=measure, args=[node], daemon=True).start()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        work()
    # A process that only vanishes leaves shared memory behind, and the next one is not discovered.
    node.destroy_node()
    rclpy.try_shutdown()
    os._exit(0)


def _threads() -> dict[str, float]:
    """CPU milliseconds of each thread of this process, by name."""
    spent: Counter[str] = Counter()
    tick = 1e3 / os.sysconf("SC_CLK_TCK")
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            row = (task / "stat").read_text().rpartition(")")[2].split()
            spent[names.get(int(task.name), "middleware")] += tick * (int(row[11]) + int(row[12]))
    return dict(spent)


# -- both in turn --------------------------------------------------------------------------------


def measured(rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Figures of each node, by round."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(1 + os.getpid() % 100)}
    carry_large_messages(environment)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in NODES}
    here = str(Path(__file__).resolve())
    with tempfile.TemporaryFile() as log:

        def start(*words: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, here, *words]
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)

        sensors = start("--load")
        try:
            sensors.stdout.readline()
            for turn in range(rounds):
                for name in NODES[:: 1 if turn % 2 else -1]:
                    node = start("--node", name, str(seconds))
                    said = node.communicate(timeout=120)[0].splitlines()
                    rows = [row for row in said if row.startswith(b"{")]
                    if not rows:
                        log.seek(0)
                        raise RuntimeError(f"{name} said nothing: {log.read()[-3000:].decode()}")
                    found[name].append(json.loads(rows[-1]))
        finally:
            sensors.terminate()
            sensors.wait()
    return found


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, float]:
    """Figure -> value: CPU milliseconds, and ratios of what was measured in turn."""
    found = measured(rounds, seconds)
    figures: dict[str, float] = {}
    for name, rows in found.items():
        for what in ("cpu_ms_a_second", "masks_a_second", "cpu_ms_a_mask"):
            figures[f"live, {name}, {what}"] = median(row[what] for row in rows)
    figures["live, callback p50, CPU ms"] = median(r["callback_p50_ms"] for r in found["robustseg"])
    figures["live, callback p99, CPU ms"] = median(r["callback_p99_ms"] for r in found["robustseg"])
    pairs = list(zip(found["naive"], found["robustseg"], strict=True))
    figures["live, naive over ours, CPU a mask"] = median(
        a["cpu_ms_a_mask"] / b["cpu_ms_a_mask"] for a, b in pairs
    )
    return figures


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["--load"]:
        load()
    elif words[:1] == ["--node"]:
        serve(words[1], float(words[2]))
    else:
        for name, rows in measured(1, float(words[0]) if words else SECONDS).items():
            print(name, json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
