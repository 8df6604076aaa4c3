"""`robustseg demo`: a recording through the real node, over real DDS, while sensors are killed.

Three processes, as on a robot: a player (the sensors), the node, and this one, which listens to the
node's topics, keeps what arrives and writes the report. Nothing is taken from the node's inside;
what its sensors showed it, for the film, is read once more of the recording.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from robustseg_core import config, modalities
from robustseg_core.bag import Bag, BagWriter
from robustseg_core.cli.options import FAULT, KILL, PARAMS, faults_of
from robustseg_core.cli.terminal import answer, err, guarded, literal
from robustseg_core.cli.told import add_wishes, take_wishes
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.codecs.tf_message import TF_MESSAGE
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import FaultSpec
from robustseg_core.output import messages, report
from robustseg_core.output.reasons import PauseLog
from robustseg_core.output.recorder import Recorder, masks_line, score_line, silence_notices, totals
from robustseg_core.output.timeline import Timeline
from robustseg_core.output.topics import of_a_mask
from robustseg_core.output.transforms import TransformLog
from robustseg_core.recording.doubted import Meanwhile, pictures_at
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.labels import Score, open_truth
from robustseg_core.recording.run import BLACK_BOX
from robustseg_core.recording.survey import survey
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import TF, TF_STATIC
from robustseg_core.robot.transports import carry_large_messages
from robustseg_core.segmenter import Segmenter
from robustseg_core.storage.output_folder import staged
from robustseg_core.text import visible
from robustseg_core.types import LabelMap, ModelSpec, Reasons
from robustseg_core.version import note_occasion, occasion
from robustseg_ros import optional
from robustseg_ros.assembly import MADE_OF, assemble
from robustseg_ros.child import QUIET_S, wait_until
from robustseg_ros.running import command_line

DEPTH = 100
"""Messages that may wait for this process, per topic."""
SHOWN = ("label_mask", "confidence", "overlay", "status")
"""Of a mask, what is looked into."""
REMADE = ("label_color",)
"""Made again of the ids; all the others are kept as they came."""
REFERENCE = modalities.ranked()[0]
"""The camera."""


class Listener(Node):
    """Collects what belongs to one mask by its stamp, and the last word of /diagnostics.

    Args:
        keep: is given the parts of a mask by name as soon as those that every mask has are there;
            others may join them later.
        large: whether to listen to what takes much room, too.
        transforms: is told what is said on /tf_static and /tf.
        options: of the node.
    """

    def __init__(
        self,
        keep: Callable[[dict[str, Any]], None],
        *,
        large: bool = False,
        transforms: TransformLog | None = None,
        **options: Any,
    ) -> None:
        super().__init__("robustseg_demo", **options)
        self._keep = keep
        self._all: dict[int, dict[str, Any]] = {}
        """Stamp -> parts of a mask."""
        self._masks = 0
        self.pauses = PauseLog()
        """What the node said of its sensors once a second, by the masks that had come."""
        self.health: DiagnosticArray | None = None
        self.heard_s = time.monotonic()
        outputs = {n: o for n, o in of_a_mask().items() if n not in REMADE}
        outputs = {n: o for n, o in outputs.items() if large or not o.large}
        self._sure = [name for name, output in outputs.items() if output.sure]
        for name, output in outputs.items():
            topic, hears = f"/{messages.NODE}/{name}", self._collect(name)
            sealed = name not in SHOWN
            optional.subscribe(self, output.type, topic, hears, DEPTH, sealed=sealed)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)
        if transforms is not None:
            latched = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            for topic, profile in ((TF_STATIC, latched), (TF, QoSProfile(depth=DEPTH))):
                hears = partial(transforms.hear, moving=topic == TF)
                optional.subscribe(self, TF_MESSAGE, topic, hears, profile, sealed=True)

    def _collect(self, name: str) -> Callable[[Any], None]:
        def collect(message: Any) -> None:
            self.heard_s = time.monotonic()
            stamp_ns = stamp_of(message)
            parts = self._all.setdefault(stamp_ns, {})
            if name in parts:  # the recording has begun anew
                parts = self._all[stamp_ns] = {}
            parts[name] = message
            if name in MADE_OF and parts.keys() >= MADE_OF:
                self._masks += 1
                self._keep(parts)

        return collect

    def _diagnose(self, message: DiagnosticArray) -> None:
        if any(messages.part_of(status.name)[0] == messages.NODE for status in message.status):
            self.health = message
            self.pauses.add(self._masks, messages.read_health(message))

    def missing(self) -> dict[str, int]:
        """Topic -> masks that arrived without it, if there are such."""
        lost = {name: sum(name not in p for p in self._all.values()) for name in self._sure}
        return {name: count for name, count in lost.items() if count}


def run_demo(
    bag_path: Path,
    out: Path,
    *,
    faults: Sequence[FaultSpec] = (),
    params: Path | None = None,
) -> dict[str, Any]:
    """Play, listen, write; returns the content of `result.json`.

    Raises:
        RobustsegError: no such recording, nothing recognized in it, or the node did not start.
    """
    inputs = [bag_path, *([params] if params else [])]
    with staged(out, command="demo", inputs=inputs) as folder:
        return _run_demo(bag_path, folder, faults, params)


def _run_demo(
    bag_path: Path,
    out: Path,
    faults: Sequence[FaultSpec],
    params: Path | None,
) -> dict[str, Any]:
    """`run_demo` into a fresh folder."""
    with Bag([bag_path]) as bag:
        start_ns, timeline = bag.start_ns, Timeline(bag.spans)
        robot_yaml = params or _guess(bag, out)
    robot = config.load(RobotConfig, robot_yaml)
    spec, points = Segmenter.from_config(robot).spec, robot.points
    heard: list[dict[str, Any]] = []
    masks: list[tuple[LabelMap, np.ndarray]] = []
    box = f"black_box.folder:={config.scalar(str((out / BLACK_BOX).absolute()))}"
    node = _start("segment_node", "--ros-args", "--params-file", str(robot_yaml), "-p", box)
    player: subprocess.Popen[bytes] | None = None
    rclpy.init()
    try:
        transforms = TransformLog()
        with (
            BagWriter(out / "mcap", compress=True) as mcap,
            Recorder(
                out,
                spec,
                bag=mcap,
                start_ns=start_ns,
                timeline=timeline,
                points=points,
                transforms=transforms,
            ) as recorder,
        ):
            listener = Listener(heard.append, large=points.recorded, transforms=transforms)
            err.print("waiting for the node ...", style="dim")
            wait_until(
                lambda: listener.count_publishers("/robustseg/label_mask") > 0,
                listener,
                node,
                late="published nothing; start it by hand with `robustseg live --params "
                "robot.yaml` and read what it says",
            )
            words = [w for fault in faults for w in ("--fault", str(fault))]
            player = _start("play_node", str(bag_path), *words)
            listener.pauses = PauseLog()  # the run begins
            err.print("playing ...", style="dim")
            while player.poll() is None or time.monotonic() - listener.heard_s < QUIET_S:
                rclpy.spin_once(listener, timeout_sec=0.05)
                if node.poll() is not None:
                    raise RobustsegError(f"the node ended with exit code {node.returncode}")
            if player.returncode:
                raise RobustsegError(f"the player ended with exit code {player.returncode}")
            with open_truth([bag_path]) as truth:
                score = Score(truth, len(spec.classes))
                shed = _shed(heard, bag_path, robot, spec)
                with Bag([bag_path]) as bag:
                    said = FaultyBag(bag, faults, topics=robot.topics) if faults else bag
                    meanwhile = Meanwhile(said, robot, spec)
                    for parts in heard:
                        masks.append(assemble(parts, spec, shed))
                        label_map, overlay = masks[-1]
                        at_ns = recorder.place_ns(label_map)
                        raw = {n: part.raw for n, part in parts.items() if n not in SHOWN}
                        miou = score.add(label_map, at_ns)
                        told, seen = meanwhile.at(label_map)
                        recorder.add(told, overlay, at_ns, miou, raw, seen)
                score.finish()
        why = _why(listener, recorder, masks)
        sums = totals(recorder.rows, timeline.duration_s, labels=score.coverage, why=why)
        result = recorder.write_result(
            bags=[visible(bag_path.name)],
            kills=[fault.kill for fault in faults if fault.kill],
            faults=[str(fault) for fault in faults],
            notices=[*_notices(listener, bag_path), *silence_notices(sums)],
            rejected=_rejected(listener.health),
            totals=sums | {"messages": _received(listener.health)},
            **score.account(),
        )
    finally:
        for process in (player, node):
            _stop(process)
        rclpy.try_shutdown()
    title = f"robustseg demo: {bag_path.name} through the live node over DDS"
    moments = recorder.moments
    report.write(out, result, title=title, spec=spec, moments=moments, broken=faults)
    return result


def _guess(bag: Bag, out: Path) -> Path:
    """The robot that the recording looks like, written beside the results."""
    path = out / "robot.yaml"
    path.write_text(survey(bag).robot_yaml(), encoding="utf-8")
    return path


def _start(program: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", f"robustseg_ros.{program}", *words])


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _shed(
    heard: Sequence[dict[str, Any]], bag_path: Path, robot: RobotConfig, spec: ModelSpec
) -> dict[int, np.ndarray]:
    """Stamp -> the recorded picture of the camera, of masks made of it whose overlay was given up.

    `REFERENCE` opens the sets while it is alive, so that they have its stamp.
    """
    topic = robot.topics.get(REFERENCE)
    if topic is None:
        return {}
    bare = [messages.read_status(p["status"]) for p in heard if "overlay" not in p]
    stamps = {row["stamp_ns"] for row in bare if REFERENCE in row["used"]}
    with Bag([bag_path]) as bag:
        return dict(pictures_at(bag, topic, REFERENCE, stamps, spec))


def _why(
    listener: Listener, recorder: Recorder, masks: Sequence[tuple[LabelMap, np.ndarray]]
) -> dict[float, Reasons]:
    """Beginning of a pause between masks -> what was wrong with each sensor.

    Of one that passed between two diagnostics, what the mask after it says.
    """
    times_s = [row["at_s"] for row in recorder.rows]
    after = zip((0.0, *times_s), (label_map.reasons for label_map, _ in masks), strict=False)
    return {**dict(after), **listener.pauses.why(times_s)}


def _received(health: DiagnosticArray | None) -> dict[str, int]:
    """Messages that the node received, by modality, as /diagnostics last counted them."""
    return {
        messages.part_of(status.name)[1]: int(pair.value)
        for status in (health.status if health else ())
        for pair in status.values
        if pair.key == "received"
    }


def _rejected(health: DiagnosticArray | None) -> dict[str, dict[str, int]]:
    """Rejected messages by modality and fault, as /diagnostics last counted them."""
    found: dict[str, dict[str, int]] = {}
    for status in health.status if health else ():
        faults = {
            pair.key.removeprefix("rejected_"): int(pair.value)
            for pair in status.values
            if pair.key.startswith("rejected_")
        }
        if faults:
            found[messages.part_of(status.name)[1]] = faults
    return found


def _notices(listener: Listener, bag_path: Path) -> list[str]:
    missing = listener.missing()
    told = [
        f"{count} masks arrived without their {name}: the node was overloaded and gave it up"
        if name not in MADE_OF
        else f"{count} masks arrived without their {name} and are not shown"
        for name, count in missing.items()
    ]
    if set(missing).difference(MADE_OF):
        told.append(
            "this computer is slower than the drive is played: it may have passed pictures over, "
            "and a label without a mask counts as missed; "
            f"`robustseg run {visible(str(bag_path))}` takes the time that it needs"
        )
    return told


def show(result: dict[str, Any], out: Path) -> None:
    """The table at the end of the demo."""
    table = Table(title=f"{masks_line(result)}, over DDS", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("second", justify="right")
    table.add_column("masks are made of")
    table.add_column("what is wrong, why not the others", overflow="fold")
    for row in report.changes(result):
        reasons = (literal(f"{name}: {text}") for name, text in row["reasons"].items())
        used = ", ".join(row["used"]) or report.NO_MASK
        table.add_row(f"{row['at_s']:.2f}", used, Text("\n").join(reasons))
    err.print(table)
    if line := score_line(result):
        err.say(line)
    for notice in result["notices"]:
        err.notice(notice)
    for name in ("report.html", "overlay.webm", "mcap/", "result.json"):
        err.say(f"  {out / name}")
    for path in sorted((out / BLACK_BOX).glob("*.mcap")):
        err.say(f"  {path} (robustseg explain {path})")


def main() -> None:
    """Entry point of `python -m robustseg_ros.demo`."""
    parser = command_line("demo", __doc__)
    parser.add_argument("bag", type=Path, help="the recording")
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument(PARAMS.flag, type=Path, metavar=PARAMS.metavar, help=PARAMS.help)
    KILL.add_to(parser)
    FAULT.add_to(parser)
    add_wishes(parser)
    words = parser.parse_args()
    take_wishes(words)
    # A domain of its own: nobody else's graph is heard or disturbed.
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    carry_large_messages(os.environ)

    def demo() -> None:
        if not occasion()["command"]:
            said = ["python", "-m", "robustseg_ros.demo", *sys.argv[1:]]
            note_occasion(said, datetime.now().astimezone())
        domain = os.environ["ROS_DOMAIN_ID"]
        watch = f"ROS_DOMAIN_ID={domain} robustseg view --live"
        err.say(f"ROS_DOMAIN_ID is {domain}; to watch, in another terminal: {watch}")
        faults = faults_of(words.kill, words.fault)
        result = run_demo(words.bag, words.out, faults=faults, params=words.params)
        show(result, words.out)
        answer(result)

    sys.exit(guarded(demo))


if __name__ == "__main__":
    main()
