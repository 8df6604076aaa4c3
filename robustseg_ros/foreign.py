"""Any segmentation node as a black box: a recording is played to it, faults and all, over DDS.

    python -m robustseg_ros.foreign drive.mcap --node 'python THEIRS' --topics mask:=/labels

For each fault the node is started anew, the recording is played with its own stamps and /clock, and
what comes on the mask topic is kept. Nothing else of the node is looked at. `robustseg robustness
--node` starts this; what the masks are worth is in `robustseg_core.robustness.foreign`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from robustseg_core.bag import Bag
from robustseg_core.cli.robustness import parse_rows
from robustseg_core.cli.terminal import answer, err, guarded
from robustseg_core.cli.told import add_wishes, take_wishes
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.codecs.image import pixels
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.recording.labels import open_truth
from robustseg_core.recording.robot import robot_for
from robustseg_core.robot.topics import calibrations
from robustseg_core.robot.transports import carry_large_messages
from robustseg_core.robustness import foreign
from robustseg_core.robustness.case import Case
from robustseg_core.robustness.foreign import Ear
from robustseg_core.robustness.score import Label, labels
from robustseg_core.storage.output_folder import claimed
from robustseg_core.types import SECOND, Rejection
from robustseg_ros.child import QUIET_S, wait_until
from robustseg_ros.play_node import CLOCK, guess
from robustseg_ros.running import command_line

MASK = "mask"
"""What the node's output is called in `--topics`."""
DEPTH = 100
"""Masks that may wait for this process."""
END_S = 10.0
"""A program may take so long to end."""
_BOOTSTRAP = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
LAUNCH = (".launch.py", ".launch.xml", ".launch.yaml")


def command_of(node: str) -> list[str]:
    """The words that start somebody's node: a launch file, or any command.

    Args:
        node: a path of a launch file, with its arguments; else a command line.

    Raises:
        RobustsegError: nothing, quotes that do not close, no such program or file, or a launch file
            without `ros2 launch`.
    """
    try:
        words = shlex.split(node)
    except ValueError as error:
        raise RobustsegError(f"--node is {node!r}: {error}; quote it as in a shell") from None
    if not words:
        raise RobustsegError("--node is empty; give a launch file, or a command: 'python node.py'")
    if words[0].endswith(LAUNCH):
        if not Path(words[0]).is_file():
            raise RobustsegError(f"--node: there is no {words[0]}; check the path")
        if shutil.which("ros2") is None:
            raise RobustsegError(
                f"--node is {words[0]}, and there is no `ros2 launch` here; source ROS 2's "
                "setup.bash, or give a command instead: --node 'python node.py'"
            )
        return ["ros2", "launch", *words]
    if shutil.which(words[0]) is None:
        raise RobustsegError(f"--node: no program called {words[0]!r}; give a path or a command")
    return words


def mapping(text: str, modalities: Mapping[str, str], known: Sequence[str]) -> dict[str, str]:
    """`mask:=/labels,rgb:=/image` as what it says: `mask`, and topic of the recording -> theirs.

    Args:
        text: pairs; on the left `mask`, a modality or a topic of the recording.
        modalities: modality -> topic of the recording.
        known: all topics of the recording.

    Raises:
        RobustsegError: no pairs, no `mask`, or a name that the recording has not.
    """
    found: dict[str, str] = {}
    for pair in filter(None, (word.strip() for word in text.split(","))):
        left, sign, right = pair.partition(":=")
        if not sign or not right.startswith("/"):
            raise RobustsegError(
                f"--topics has {pair!r}; expected NAME:=/topic, e.g. mask:=/labels,rgb:=/image"
            )
        name = left if left == MASK else modalities.get(left, left)
        if name != MASK and name not in known:
            way_out = did_you_mean(left, [MASK, *modalities, *known])
            raise RobustsegError(f"--topics: the recording has no {left!r}; {way_out}")
        found[name] = right
    if MASK not in found:
        raise RobustsegError("--topics says no mask; add the node's output, e.g. mask:=/labels")
    return found


class Listener(Node):
    """Hears masks, and what time it is in the recording.

    Args:
        mask: topic of the masks: Image, mono8 (or 8UC1) class ids.
        ear: is given them.
        start_ns: of the recording: a mask that comes before /clock came then.
    """

    def __init__(self, mask: str, ear: Ear, start_ns: int) -> None:
        super().__init__("robustseg_foreign")
        self._ear = ear
        self._said: tuple[float, int, bool] = (time.monotonic(), start_ns, False)
        """When /clock was heard, what it said, and whether it goes."""
        self.heard_s = time.monotonic()
        self.strange = ""
        """Why a mask could not be read, the last time."""
        lenient = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, mask, self._hear, lenient)
        self.create_subscription(Clock, CLOCK, self._tick, lenient)

    def now_ns(self) -> int:
        """The recording's time; before it is played, its first moment."""
        at_s, said_ns, goes = self._said
        return said_ns + round((time.monotonic() - at_s) * SECOND) * goes

    def _tick(self, message: Clock) -> None:
        stamp = message.clock
        self._said = (time.monotonic(), stamp.sec * SECOND + stamp.nanosec, True)

    def _hear(self, message: Image) -> None:
        self.heard_s = time.monotonic()
        try:
            ids = pixels(message, 1, np.dtype(np.uint8))[..., 0]
        except Rejection as rejection:
            self.strange = str(rejection)
            return
        self._ear.add(self.now_ns(), stamp_of(message), ids.copy())


class Bench:
    """A drive, a node and the topics between them; each play starts the node anew.

    Args:
        drive: a recording with truth.
        command: starts the node.
        topics: as `mapping` reads them.
        seed: of the faults.
        log: where the programs' output goes.
    """

    def __init__(
        self, drive: Path, command: Sequence[str], topics: Mapping[str, str], seed: int, log: Path
    ) -> None:
        self.truth: list[Label] = labels(drive)
        self._drive, self._command, self._seed, self._log = drive, list(command), seed, log
        self._mask = topics[MASK]
        hidden = open_truth([drive]).topic
        with Bag([drive]) as bag:
            self.start_ns, self.end_s = bag.start_ns, bag.duration_ns / SECOND
            self._played = sorted({t.name for t in bag.topics if t.count} - {hidden})
        self._renamed = {old: new for old, new in topics.items() if old != MASK}

    def play(self, faults: Sequence[str], title: str) -> tuple[Ear, bool]:
        """One play: what was heard, and whether the node ended by itself.

        Raises:
            RobustsegError: the node does not start, or publishes what is no mask; the player fails.
        """
        ear = Ear(self.truth, start_ns=self.start_ns)
        listener = Listener(self._mask, ear, self.start_ns)
        log = self._log / f"{title}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(
                self._command, env=_environment(), stdout=file, stderr=file, start_new_session=True
            )
            player: subprocess.Popen[bytes] | None = None
            try:
                self._await(listener, node, log)
                player = subprocess.Popen(self._player(faults), stdout=file, stderr=file)
                while player.poll() is None or time.monotonic() - listener.heard_s < QUIET_S:
                    rclpy.spin_once(listener, timeout_sec=0.02)
                if player.returncode:
                    raise RobustsegError(f"the player ended with code {player.returncode}; {log}")
                died = node.poll() is not None
            finally:
                _end(player)
                _end(node)
                listener.destroy_node()
        if listener.strange and not ear.heard:
            raise RobustsegError(
                f"{self._mask} carries no masks: {listener.strange}; expected Image, mono8, one "
                "class id a pixel"
            )
        return ear, died

    def _await(self, listener: Listener, node: subprocess.Popen[bytes], log: Path) -> None:
        """Until it publishes masks and listens to something that is played."""
        inputs = [self._renamed.get(topic, topic) for topic in self._played]

        def ready() -> bool:
            return bool(
                listener.count_publishers(self._mask)
                and any(listener.count_subscribers(topic) for topic in inputs)
            )

        late = (
            f"did not publish {self._mask} and listen to one of {', '.join(inputs[:6])}; name its "
            "topics with --topics"
        )
        wait_until(ready, listener, node, late=late, see=f"; see {log}")

    def _player(self, faults: Sequence[str]) -> list[str]:
        words = [sys.executable, "-m", "robustseg_ros.play_node", str(self._drive), "--clock"]
        words += ["--wait", "1", "--seed", str(self._seed), "--only", *self._played]
        for fault in faults:
            words += ["--fault", fault]
        names = [w for pair in self._renamed.items() for w in ("-r", ":=".join(pair))]
        return [*words, "--ros-args", *names] if names else words


def run(
    drive: Path, node: str, topics: str, out: Path, *, rows: Sequence[int] = (), seed: int = 0
) -> dict[str, Any]:
    """The content of `node.json`.

    Args:
        drive: a recording with truth.
        node: how theirs is started (`command_of`).
        topics: `mapping`'s text.
        out: folder of `node.json`, `node.csv`, `node.html` and of what the programs said.
        rows: of the matrix; none: each sensor falls silent.
        seed: of the faults.

    Raises:
        RobustsegError: a word that makes no sense, or a play that fails.
    """
    command = command_of(node)
    with Bag([drive]) as bag:
        robot = robot_for(bag, None, ())
        known = [t.name for t in bag.topics]
        told = mapping(topics, {**guess(bag), **robot.topics}, known)
        end_s = bag.duration_ns / SECOND
    todo = [case for case in foreign.asked(rows) if case.needs_s <= end_s and _has(case, robot)]
    if not todo:
        raise RobustsegError(f"{drive.name} is too short ({end_s:.1f} s), or lacks the sensors")
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench(drive, command, told, seed, out)
    infos = calibrations(robot)
    with _domain():
        err.print(f"playing {len(todo) + 1} times, {bench.end_s:.0f} s each ...", style="dim")
        clean, died = bench.play((), "clean")
        lines = []
        for case in todo:
            faults = [str(spec) for spec in case.specs(infos)]
            ear, ended = bench.play(faults, case.id)
            found = foreign.line(case, faults, ear, clean, end_s)
            lines.append({**found, "died": ended})
            err.print(f"  {case.id}: mask rate {found['mask_rate']:.2f}", style="dim")
    own = clean.figures(*foreign.window(None, end_s))
    summary = {
        "node": node,
        "mask": told[MASK],
        "drive": drive.name,
        "seed": seed,
        "clean": {**own, "faults": [], "sensor": "", "miou_clean": own["miou"], "died": died},
        "cases": lines,
    }
    foreign.write(out, summary)
    return summary


def _has(case: Case, robot: Any) -> bool:
    return case.target == "all" or case.target in robot.topics


class _domain:
    """rclpy on a domain of its own, unless the user chose one: no robot nearby hears the faults."""

    def __enter__(self) -> None:
        os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
        carry_large_messages(os.environ)
        rclpy.init()

    def __exit__(self, *_: object) -> None:
        rclpy.try_shutdown()


def _environment() -> dict[str, str]:
    """Of their process: without what this virtual environment's rclpy has put into ours."""
    found = dict(os.environ)
    found.pop(_BOOTSTRAP, None)
    folders = found.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    kept = [folder for folder in folders if folder and not folder.startswith(sys.prefix)]
    found["LD_LIBRARY_PATH"] = os.pathsep.join(kept)
    return found


def _end(process: subprocess.Popen[bytes] | None) -> None:
    """Ctrl-C, and then less friendly; a launch file's nodes are of its process group."""
    if process is None:
        return
    own = os.getpgid(process.pid) != os.getpgid(0) if process.poll() is None else False
    tell: Callable[[int], None] = (
        (lambda number: os.killpg(process.pid, number)) if own else process.send_signal
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            tell(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)


def main(args: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = command_line("foreign", __doc__)
    parser.add_argument("bag", type=Path, metavar="BAG")
    parser.add_argument("--node", required=True, help="launch file, or a command")
    parser.add_argument("--topics", required=True, help="mask:=/labels,rgb:=/image")
    parser.add_argument("--out", type=Path, default=Path("out/node"))
    parser.add_argument("--rows", default="", help="of the fault matrix; default 1")
    parser.add_argument("--seed", type=int, default=0, help="of the faults; default 0")
    add_wishes(parser)
    words = remove_ros_args(["foreign", *(sys.argv[1:] if args is None else args)])[1:]
    told = parser.parse_args(words)
    take_wishes(told)

    def work() -> None:
        rows = parse_rows(told.rows)
        with claimed(told.out, command="robustness --node", inputs=[told.bag]) as held:
            held.open()
            answer(run(told.bag, told.node, told.topics, told.out, rows=rows, seed=told.seed))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
