"""Minutes of driving over genuine DDS: what breaks, grows or slows in a node that is left running?

    python test/fuzz/live_soak.py --minutes 10 --seed 0

The node is a process of its own, with its shipped network. Four synthetic drivers speak from this
one; a random fault of the catalog befalls a random sensor about every 20 seconds, and as often a
driver dies and is born again (`--faults event:event_flood@15+5 ...` in place of both). Exit code 1:
a promise was broken, and which one is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TEST = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TEST), str(TEST.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's threads spin while they wait

import drives  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from fuzz.live_drivers import Drivers  # noqa: E402
from fuzz.soak import latency, slope_per_hour  # noqa: E402
from robustseg_core.output.messages import read_status  # noqa: E402
from robustseg_core.output.reasons import faults  # noqa: E402
from robustseg_core.robot.transports import carry_large_messages  # noqa: E402
from robustseg_core.types import SECOND  # noqa: E402
from support.live_sensors import parameter_file  # noqa: E402

PATIENCE_S = 90.0
SAMPLE_S = 5.0
PROMISES = {
    "masks_of_camera_rate": (0.9, 2.0),
    "internal_errors": (0, 0),
    "masks_back_without_jump": (0, 0),
    "threads_gained": (-99, 2),
    "files_gained": (-99, 2),
    "subscriptions_gained": (0, 0),
    "rss_mb_gained": (-999, 30),
    "rss_mb_left_by_floods": (-999, 130),
    "latency_ratio": (0, 1.5),
    "exit_code": (0, 0),
}
"""Figure -> the least and the most that is allowed.

The allocator keeps what the largest flood of events needed: memory is counted without floods, and
of them. Libraries start a thread or two when they first need them; leaks come with every fault or
death. Where all others are dead, a sensor whose clock leaps is the clock: masks follow it, with a
reset. Latency is compared where nothing is broken: to wait for one that is late takes its time.
"""


class Probe:
    """The node under test, as a process, and what the system says of it."""

    def __init__(self, folder: Path, domain: int) -> None:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
        words = ["-m", "robustseg_ros.segment_node", "--ros-args", "--params-file"]
        self._log = folder / "node.log"
        with self._log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *words, str(parameter_file(folder))],
                env=environment,
                stdout=file,
                stderr=file,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def holds(self) -> dict[str, float]:
        """Threads, open files, resident megabytes."""
        process = Path("/proc") / str(self.process.pid)
        status = dict(row.split(":", 1) for row in (process / "status").read_text().splitlines())
        return {
            "rss_mb": round(int(status["VmRSS"].split()[0]) / 1024, 1),
            "threads": len(os.listdir(process / "task")),
            "files": len(os.listdir(process / "fd")),
        }

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Ear:
    """What comes out, and how long after the input that it belongs to."""

    def __init__(self, node: Node, drivers: Drivers) -> None:
        self.masks = self.back = self.internal = self.diagnoses = 0
        self.longest_gap_s = self.longest_own_ms = 0.0
        """Without a mask; and what the node says a mask took."""
        self.latency_ns: list[int] = []
        self.calm_ns: list[int] = []
        """The same, of masks that were made while nothing was broken."""
        self.used: Counter[str] = Counter()
        self._last: tuple[int, int] | None = None
        """Stamp of the newest mask, and when it came."""
        self._drivers = drivers
        node.create_subscription(DiagnosticArray, "/robustseg/status", self._status, 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosis, 10)
        node.create_subscription(Image, "/robustseg/label_mask", lambda message: None, 10)
        node.create_subscription(Image, "/robustseg/overlay", lambda message: None, 10)

    def start(self) -> None:
        """Forget the warm-up."""
        self.masks = self.back = self.internal = 0
        self.longest_gap_s = self.longest_own_ms = 0.0
        self.latency_ns.clear()
        self.calm_ns.clear()
        self.used.clear()

    def _status(self, message: DiagnosticArray) -> None:
        now_ns, row = time.monotonic_ns(), read_status(message)
        if self._last is not None:
            self.back += row["stamp_ns"] <= self._last[0]
            self.longest_gap_s = max(self.longest_gap_s, (now_ns - self._last[1]) / SECOND)
        self._last = row["stamp_ns"], now_ns
        self.masks += 1
        self.longest_own_ms = max(self.longest_own_ms, row["latency_ms"].get("total", 0.0))
        self.used.update(row["used"])
        self.internal += any("internal" in found for found in faults(row["reasons"]).values())
        if sent_ns := self._drivers.sent_ns.get(row["stamp_ns"]):
            self.latency_ns.append(now_ns - sent_ns)
            if self._drivers.calm():
                self.calm_ns.append(now_ns - sent_ns)

    def _diagnosis(self, message: DiagnosticArray) -> None:
        self.diagnoses += 1
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            found = int(values.get("rejected_internal", 0)) + ("exceptions" in status.message)
            self.internal = max(self.internal, found)


class Soak:
    """One run: our node and its own on a domain of their own."""

    def __init__(self, seconds: float, seed: int, folder: Path, faults: Sequence[str] = ()) -> None:
        domain = 1 + os.getpid() * 11 % 100
        carry_large_messages(os.environ)
        rclpy.init(domain_id=domain)
        self._node, self._executor = Node("soak"), SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._seconds, self._seed = seconds, seed
        self._drivers = Drivers(self._node, seconds, seed, faults)
        self._ear = Ear(self._node, self._drivers)
        self._probe = Probe(folder, domain)
        self.samples: list[dict[str, float]] = []

    def run(self, say: Callable[[str], Any]) -> dict[str, Any]:
        """All of it; a summary that JSON can hold. `say` gets the table, row by row."""
        try:
            self._drive(say)
        finally:
            code = self._probe.end()
            self._executor.shutdown()
            self._node.destroy_node()
            rclpy.shutdown()
        return self._summary(code)

    def _drive(self, say: Callable[[str], Any]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not self._ear.diagnoses:
            self._executor.spin_once(timeout_sec=0.1)
            self._check(time.monotonic() < end_s, "it did not come up")
        self._drivers.begin()
        while self._drivers.now_ns() < 0:
            self._turn()
        self._ear.start()
        say(" | ".join(("   s", "rss_mb", "threads", "files", "subs", "masks", "latency_ms")))
        while (at_s := self._drivers.now_ns() / SECOND) < self._seconds:
            if len(self.samples) * SAMPLE_S <= at_s:
                self._check(self._probe.process.poll() is None, "it died")
                self._sample(at_s)
                say(" | ".join(f"{value:g}" for value in self.samples[-1].values()))
            self._turn()

    def _turn(self) -> None:
        self._drivers.speak()
        self._executor.spin_once(timeout_sec=max(0.0, self._drivers.due_s()))

    def _sample(self, at_s: float) -> None:
        topics = [*drives.TOPICS.values(), "/camera_info", "/tf_static", "/tf"]
        ours = [
            one
            for topic in topics
            for one in self._node.get_subscriptions_info_by_topic(topic)
            if one.node_name == "robustseg"
        ]
        newest = self._ear.latency_ns[-100:]
        self.samples.append(
            {
                "at_s": round(at_s, 1),
                **self._probe.holds(),
                "subscriptions": len(ours),
                "masks": self._ear.masks,
                "latency_ms": round(float(np.median(newest)) / 1e6, 1) if newest else 0.0,
            }
        )

    def _check(self, fine: bool, problem: str) -> None:
        if not fine:
            raise SystemExit(f"{problem}; the node's last words:\n{self._probe.output[-4000:]}")

    def _summary(self, code: int) -> dict[str, Any]:
        ear, drivers, samples = self._ear, self._drivers, self.samples
        tenth = max(1, len(samples) // 10)
        first, last = (
            {key: float(np.median([one[key] for one in part])) for key in samples[0]}
            for part in (samples[:tenth], samples[-tenth:])
        )
        taken, jumps = latency(ear.calm_ns), self._probe.output.count("one reset")
        percentiles = np.percentile(ear.latency_ns, [50, 95, 100]) / 1e6
        rss = [(one["at_s"], one["rss_mb"]) for one in samples]
        floods_mb = left_by(drivers.floods, rss)
        return {
            "minutes": round(self._seconds / 60, 2),
            "seed": self._seed,
            "messages": drivers.messages,
            "masks": ear.masks,
            "masks_of_camera_rate": round(ear.masks / self._seconds / drives.RATES["rgb"], 3),
            "faults": len(drivers.faults),
            "driver_deaths": len(drivers.deaths),
            "used": dict(ear.used),
            "longest_gap_s": round(ear.longest_gap_s, 3),
            "longest_own_ms": round(ear.longest_own_ms, 1),
            "internal_errors": ear.internal + self._probe.output.count("Traceback"),
            "clock_jumps": jumps,
            "masks_back_in_time": ear.back,
            "masks_back_without_jump": max(0, ear.back - jumps),
            "latency_ms": dict(zip(("p50", "p95", "most"), percentiles.round(1), strict=True)),
            "calm_latency_ms": taken,
            "latency_ratio": taken["ratio"],
            "rss_mb_left_by_floods": round(floods_mb, 1),
            "rss_slope_mb_per_hour": round(slope_per_hour(rss), 2),
            "held": {
                key: [first[key], last[key]]
                for key in ("rss_mb", "threads", "files", "subscriptions")
            },
            **{
                f"{key}_gained": round(last[key] - first[key], 1)
                for key in ("threads", "files", "subscriptions")
            },
            "rss_mb_gained": round(last["rss_mb"] - first["rss_mb"] - floods_mb, 1),
            "exit_code": code,
            "publisher_slips": drivers.slips,
            "samples": samples,
        }


def left_by(spans: list[tuple[float, float]], rss: list[tuple[float, float]]) -> float:
    """Megabytes that were added from right before to right after these spans.

    Args:
        spans: (begin, end) in seconds.
        rss: (seconds, megabytes), one after the other.
    """
    left = 0.0
    for begin_s, end_s in spans:
        before = [mb for at_s, mb in rss if at_s <= begin_s] or [rss[0][1]]
        after = [mb for at_s, mb in rss if at_s >= end_s + 1] or [rss[-1][1]]
        left += after[0] - before[-1]
    return left


def broken(summary: dict[str, Any]) -> list[str]:
    """The promises that were not kept, one sentence each."""
    return [
        f"{name} is {summary[name]:g}, allowed {least:g} to {most:g}"
        for name, (least, most) in PROMISES.items()
        if not least <= summary[name] <= most
    ]


def main() -> int:
    """Run, print, judge; the exit code."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--minutes", type=float, default=10.0)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--faults", nargs="+", default=[], help="instead of random ones and deaths")
    words.add_argument("--out", type=Path, help="write the summary there, too")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(given.minutes * 60, given.seed, Path(folder), given.faults)
        summary = soak.run(lambda row: print(row, flush=True))
    problems = summary["broken"] = broken(summary)
    if given.out:
        given.out.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({k: v for k, v in summary.items() if k != "samples"}, indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
