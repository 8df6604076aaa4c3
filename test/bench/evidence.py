"""What cross-sensor evidence finds: faults done to what the sensors of simulated drives show.

    python test/bench/evidence.py [DRIVE.mcap ...] [--out FOLDER]

Without drives, seven are made (tiny preset, varied streets, six weathers). The table is that of
docs/specs/evidence.md; `wrong` counts sensors that were proven wrong and were not broken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from robustseg_core.bag import Bag
from robustseg_core.engines import artifact
from robustseg_core.engines.blank import blank
from robustseg_core.evidence.crosscheck import CrossCheck
from robustseg_core.evidence.sight import Sight, step_of
from robustseg_core.models import checkpoint
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Frame
from support.injuries import farther, mirrored, scaled, turned

BROKEN_S, LIMIT_S, REPLAYED_S = 5.0, 5.0, 2.0
WEATHERS = ("clear", "cloud", "fog", "rain", "night", "night,rain", "clear")

Look = tuple[float, int, dict[str, Sight]]
"""(seconds since the start, stamp of the set, what the sensors show)."""
Injure = Callable[[list[Look], int, str, list[Look]], Sight | None]


def looks_of(path: Path) -> tuple[list[Look], float]:
    """What the sensors of a drive show, set by set, and the degrees across a cell."""
    spec = artifact.load(checkpoint.SHIPPED).spec
    looks: list[Look] = []
    cell_deg = 0.0
    with Bag([path]) as bag:
        robot = robot_for(bag, None, ["health.compare=false"]).model_copy(update={"alpha": 0.0})
        segmenter = Segmenter(robot, spec, blank(spec))
        for label_map in replay(bag, segmenter):
            lengths, cell_deg = segmenter.intake.view.cells(step_of(spec.size))
            sights = {
                name: sight
                for name, frame in label_map.bundle.frames.items()
                if (sight := segmenter.intake.modalities[name].sight(frame, lengths)) is not None
            }
            looks.append(((label_map.made_ns or 0) / SECOND, label_map.stamp_ns, sights))
    return looks, cell_deg


def injuries(cell_deg: float) -> dict[str, Injure]:
    """Name of a fault -> what a sensor shows under it."""

    def done(injure: Callable[[Sight], Sight]) -> Injure:
        return lambda looks, i, name, _: injure(looks[i][2][name])

    def earlier(looks: list[Look], i: int, name: str, _: list[Look]) -> Sight | None:
        since_s = looks[i][0] - REPLAYED_S
        old = next(look for look in looks if look[0] >= since_s)
        shown = old[2].get(name)
        return None if shown is None else replace(shown, stamp_ns=looks[i][2][name].stamp_ns)

    def elsewhere(looks: list[Look], i: int, name: str, other: list[Look]) -> Sight | None:
        shown = other[i % len(other)][2].get(name)
        return None if shown is None else replace(shown, stamp_ns=looks[i][2][name].stamp_ns)

    def stamped(lag_ms: float) -> Injure:
        def injure(looks: list[Look], i: int, name: str, _: list[Look]) -> Sight | None:
            """Of what was shown with such stamps, the synchronizer takes the nearest."""
            wanted_ns = looks[i][2][name].stamp_ns - round(lag_ms * MS)
            near = looks[max(0, i - 8) : i + 8]
            sights = [sights[name] for _, _, sights in near if name in sights]
            best = min(sights, key=lambda sight: abs(sight.stamp_ns - wanted_ns))
            return replace(best, stamp_ns=best.stamp_ns + round(lag_ms * MS))

        return injure

    cells = 6 / cell_deg
    return {
        "yaw 3 degrees": done(turned(0, cells / 2)),
        "yaw 6 degrees": done(turned(0, cells)),
        "yaw -10 degrees": done(turned(0, -cells * 10 / 6)),
        "pitch 6 degrees": done(turned(cells, 0)),
        "pitch -6 degrees": done(turned(-cells, 0)),
        "roll 6 degrees": done(turned(0, 0, 6)),
        "mirrored": done(mirrored),
        "stamps 80 ms late": stamped(80),
        "stamps 80 ms early": stamped(-80),
        "stamps 160 ms late": stamped(160),
        "stamps 320 ms early": stamped(-320),
        "2 s old": earlier,
        "another street": elsewhere,
        "ranges x 2": done(scaled(2)),
        "ranges x 0.5": done(scaled(0.5)),
        "ranges x 1.1": done(scaled(1.1)),
        "ranges + 0.5 m": done(farther(0.5)),
    }


def tried(
    looks: list[Look],
    cell_deg: float,
    name: str = "",
    injure: Injure | None = None,
    other: list[Look] | None = None,
) -> tuple[list[tuple[float, str, str]], int, float]:
    """((seconds since the fault, sensor, fault) of who was proven wrong, looks with a suspicion,
    CPU milliseconds a set)."""
    shown: dict[str, Sight] = {}
    check = CrossCheck(("rgb", "depth", "event", "lidar"), lambda frame: shown[frame.modality])
    proven: list[tuple[float, str, str]] = []
    doubts, spent = 0, 0.0
    for i, (now_s, stamp_ns, sights) in enumerate(looks):
        shown = dict(sights)
        if injure is not None and name in shown and now_s - looks[0][0] >= BROKEN_S:
            broken = injure(looks, i, name, other or [])
            shown = {k: s for k, s in shown.items() if k != name}
            if broken is not None:
                shown[name] = broken
        frames = {k: Frame(k, s.stamp_ns, s.outlines[None]) for k, s in shown.items()}
        begun = time.process_time()
        check.look(frames, stamp_ns, cell_deg)
        spent += time.process_time() - begun
        doubts += bool(check.findings)
        for who, finding in check.findings.items():
            if finding.fatal and who not in [known for _, known, _ in proven]:
                at_s = now_s - looks[0][0] - BROKEN_S
                proven.append((at_s, who, finding.fault.value))
    return proven, doubts, spent / len(looks) * 1000


def main() -> None:
    """Try all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("drives", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, help="folder of the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drives = options.drives or [
            made(Path(folder) / f"{seed}.mcap", seed, weather)
            for seed, weather in enumerate(WEATHERS, 900)
        ]
        seen = [looks_of(path) for path in drives]
    figures: dict[str, dict[str, list[float | str | None]]] = {}
    wrong = 0
    for number, (looks, cell_deg) in enumerate(seen):
        proven, doubts, each_ms = tried(looks, cell_deg)
        wrong += len(proven)
        print(
            f"healthy drive {number}: {len(proven)} proven, {doubts} looks with a suspicion, "
            f"{each_ms:.2f} ms of CPU a set"
        )
    print("| fault | camera | depth | events | LiDAR |\n|---|---|---|---|---|")
    for kind in injuries(1.0):
        cells = []
        for name in ("rgb", "depth", "event", "lidar"):
            if kind.startswith("ranges") and name in ("rgb", "event"):
                cells.append("")
                continue
            found = []
            for number, (looks, cell_deg) in enumerate(seen):
                other = seen[(number + 1) % len(seen)][0]
                proven, _, _ = tried(looks, cell_deg, name, injuries(cell_deg)[kind], other)
                wrong += sum(who != name for _, who, _ in proven)
                found += [at_s for at_s, who, _ in proven if who == name][:1] or [None]
            figures.setdefault(kind, {})[name] = found
            soon = [at_s for at_s in found if at_s is not None and at_s <= LIMIT_S]
            late = sum(at_s is not None for at_s in found) - len(soon)
            cells.append(f"{len(soon)} of {len(found)}" + f" (+{late})" * bool(late))
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)
    print(f"wrong: {wrong}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "evidence.json").write_text(json.dumps(figures, indent=1))


def made(path: Path, seed: int, weather: str) -> Path:
    """A drive of the simulator."""
    words = ["--preset", "tiny", "--streets", "varied", "--seconds", "14", "--seed", str(seed)]
    command = [sys.executable, "-m", "robustseg_core.cli", "sim", str(path), *words]
    subprocess.run([*command, "--condition", weather], check=True)
    return path


if __name__ == "__main__":
    main()
