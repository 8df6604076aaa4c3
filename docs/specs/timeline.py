"""Draws docs/specs/synchronizer.svg: what the real synchronizer and health monitor do.

    python docs/specs/timeline.py [SVG]

A camera (30 Hz), a depth camera (15 Hz) and a LiDAR (10 Hz) are heard for two seconds; the camera
falls silent on the way. Nothing is drawn that the code did not do.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustseg_core.config import HealthConfig, StreamConfig, SyncConfig
from robustseg_core.health.monitor import HealthMonitor
from robustseg_core.sync.stamps import Stamped
from robustseg_core.sync.synchronizer import Match, Synchronizer
from robustseg_core.types import MS, SECOND

OUT = Path(__file__).with_name("synchronizer.svg")
RATES_HZ = {"rgb": 30.0, "depth": 15.0, "lidar": 10.0}
LATENCY_NS = {"rgb": 8 * MS, "depth": 14 * MS, "lidar": 30 * MS}
SILENT_NS, END_NS = 1300 * MS, 2100 * MS
SHOWN_MS = (1180, 1800)
COLORS = {"rgb": "#1f6feb", "depth": "#2e8b57", "lidar": "#b8651b", None: "#8a8f98"}


@dataclass(frozen=True)
class Left:
    """A set that left, and when."""

    at_ns: int
    match: Match[None]


def messages() -> list[Stamped[None]]:
    """In the order of their arrival."""
    found = []
    for name, rate_hz in RATES_HZ.items():
        for k in range(int(END_NS / SECOND * rate_hz)):
            stamp_ns = round(k * SECOND / rate_hz) + SECOND
            if name == "rgb" and stamp_ns - SECOND > SILENT_NS:
                break
            arrival_ns = stamp_ns - SECOND + LATENCY_NS[name]
            found.append(Stamped(name, stamp_ns, arrival_ns, None))
    return sorted(found, key=lambda message: message.arrival_ns)


def drive(arrivals: list[Stamped[None]]) -> tuple[list[Left], int]:
    """(the sets, when the camera was declared dead)."""
    streams = {name: StreamConfig(topic=f"/{name}") for name in RATES_HZ}
    health = HealthMonitor(HealthConfig(), streams)
    synchronizer: Synchronizer[None] = Synchronizer(SyncConfig(), streams)
    left: list[Left] = []
    dead_ns = 0

    def poll(now_ns: int) -> None:
        nonlocal dead_ns
        usable = health.usable(now_ns)
        if now_ns > SILENT_NS and "rgb" not in usable and not dead_ns:
            dead_ns = now_ns
        if match := synchronizer.poll(now_ns, usable):
            left.append(Left(now_ns, match))

    now_ns = 0
    for message in arrivals:
        # Health is asked every 5 ms, as a node's timer does; sets leave when they are due.
        while (tick_ns := now_ns + 5 * MS) < message.arrival_ns:
            wake_ns = synchronizer.wake_ns(now_ns, health.usable(now_ns))
            now_ns = min(tick_ns, wake_ns) if wake_ns is not None else tick_ns
            poll(now_ns)
        now_ns = message.arrival_ns
        health.arrived(message.modality, now_ns)
        health.accept(message.modality, now_ns, stamp_ns=message.stamp_ns)
        synchronizer.push(message)
        poll(now_ns)
    return left, dead_ns


def draw(arrivals: list[Stamped[None]], left: list[Left], dead_ns: int) -> Figure:
    """One row per sensor by arrival, and one of the sets, by when they leave."""
    rows = {name: len(RATES_HZ) - k for k, name in enumerate(RATES_HZ)}
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for message in arrivals:
        at_ms = message.arrival_ns / MS
        color = COLORS[message.modality]
        axes.plot(at_ms, rows[message.modality], "o", color=color, markersize=6, zorder=3)
    for one in left:
        at_ms, opener = one.at_ns / MS, one.match.opened_by
        axes.plot(at_ms, 0, "s" if opener else "D", color=COLORS[opener], markersize=8, zorder=4)
        for name, items in one.match.items.items():
            ends = ([items[-1].arrival_ns / MS, at_ms], [rows[name], 0])
            axes.plot(*ends, color=COLORS[name], alpha=0.35, linewidth=1, zorder=1)
    last_ms = max(m.arrival_ns for m in arrivals if m.modality == "rgb") / MS
    axes.axvspan(last_ms, SHOWN_MS[1], ymin=0.72, color="#d73a49", alpha=0.08, linewidth=0)
    _note(axes, last_ms, 3.42, "last image")
    _note(axes, dead_ns / MS, 3.42, "DEAD: depth opens sets")
    axes.set_yticks([*rows.values(), 0], [*(f"{n}, {r:g} Hz" for n, r in RATES_HZ.items()), "sets"])
    axes.set_xlim(*SHOWN_MS)
    axes.set_ylim(-0.5, 3.8)
    axes.set_xlabel("arrival, ms")
    names = {"rgb": "opened by rgb", None: "tick: nobody opened it", "depth": "opened by depth"}
    for opener, text in names.items():
        marker = "s" if opener else "D"
        axes.plot([], [], marker, color=COLORS[opener], label=text)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _note(axes: Axes, at_ms: float, height: float, text: str) -> None:
    axes.axvline(at_ms, color="#8a8f98", linewidth=0.8, linestyle=":", zorder=0)
    axes.text(at_ms + 4, height, text, fontsize=9)


def main(words: list[str]) -> int:
    """Entry point; the exit code."""
    matplotlib.rcParams["svg.hashsalt"] = "robustseg"  # the same bytes whenever it is drawn
    arrivals = messages()
    figure = draw(arrivals, *drive(arrivals))
    figure.savefig(Path(words[0]) if words else OUT, format="svg", metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
