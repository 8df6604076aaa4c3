"""Where do the content limits lie? One ROC curve per check, over clean and faulted drives.

    python training/health_roc.py            # simulates five short drives, one per condition
    python training/health_roc.py *.mcap     # takes these

Writes docs/results/health_roc.json and docs/health_roc.png. Every statistic is shown in units of
its default limit, so the default is at 1; the fault begins after `CALM_S` seconds of a clean drive.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from robustseg_core import modalities
from robustseg_core.bag import Bag
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.faults import parse_fault
from robustseg_core.recording.inject import DisturbedBag, guessed_topics
from robustseg_core.sim.produce import Recipe, simulate
from robustseg_core.sim.weather import CONDITIONS
from robustseg_core.types import SECOND

CALM_S, SECONDS, FIRST_SEED = 2.5, 5.0, 4100
DICE = np.random.default_rng(0)


def _nearer(cloud: Any) -> Any:
    dusty = cloud.xyz.copy()
    dusty[::2] *= 0.5 / np.linalg.norm(dusty[::2], axis=1, keepdims=True)
    return replace(cloud, xyz=dusty)


def _events(packet: Any, **fields: Any) -> Any:
    return replace(packet, events=replace(packet.events, **fields))


# (modality, check) -> a fault of the injector, or what is done to decoded data where it has none.
CASES: dict[tuple[str, str], str | Callable[[Any], Any]] = {
    ("rgb", "black_std"): "black",
    ("rgb", "saturated_share"): "saturated",
    ("rgb", "flat_std"): "flat",
    ("rgb", "dead_share"): "covered(share=0.96)",
    ("rgb", "covered_share"): "covered(share=0.3)",
    ("rgb", "covered_always_share"): "covered(share=0.6)",
    ("rgb", "sharpness_ratio"): "blurred(sigma=2)",
    ("rgb", "noise_gray"): "gaussian_noise",
    ("rgb", "impulse_share"): "salt_pepper(share=0.02)",
    ("rgb", "unrelated"): lambda image: DICE.integers(0, 256, image.shape, np.uint8),
    ("rgb", "color_shift"): lambda image: image * np.array([0, 1, 0], np.uint8),
    ("depth", "valid_share"): "invalid_depth",
    ("depth", "usual_ratio"): "holes(share=0.8)",
    ("depth", "holes_ratio"): "holes(share=0.3)",
    ("depth", "farthest_m"): "depth_unit",
    ("depth", "unit_ratio"): lambda metres: metres / np.float32(310),
    ("depth", "unrelated_share"): lambda m: DICE.uniform(0.1, 65, m.shape).astype(np.float32),
    ("lidar", "empty_ratio"): "empty_cloud",
    ("lidar", "impossible_share"): "garbage",
    ("lidar", "sparse_ratio"): "sparse_cloud(share=0.6)",
    ("lidar", "ring_share"): "rings(share=0.5)",
    ("lidar", "sector_ratio"): "sector(start_deg=10,width_deg=30)",
    ("lidar", "near_share"): _nearer,
    ("lidar", "noise_m"): "jitter",
    ("event", "unknown_share"): "undecodable(share=0.05)",
    ("event", "outside_share"): lambda p: _events(p, outside=len(p.events.t) // 8),
    ("event", "flood_rate"): "event_flood",
    ("event", "lost_share"): "sequence_gap",
    ("event", "gap_share"): "truncated(share=0.75)",
    ("event", "hot_share"): "hot_pixels",
    ("event", "polarity_share"): lambda p: _events(p, p=p.events.p | 1),
    ("event", "clock_ratio"): lambda p: _events(p, t=p.events.t % 1000),
}


def badness(path: Path, name: str, case: str | Callable[[Any], Any] | None) -> Iterator[dict]:
    """Check -> badness (of all checks), of every message of a modality after the calm."""
    modality = modalities.load(name)()
    judge = modality.checks
    with Bag(path) as bag:
        topics = guessed_topics(bag)
        texts = [f"{name}:{case}@{CALM_S}"] if isinstance(case, str) else []
        faulty = DisturbedBag(bag, [parse_fault(text) for text in texts], topics=topics)
        for recorded in faulty.messages({topics[name]}):
            message = recorded.message()
            data = modality.decode(message, stamp_of(message))
            late = recorded.time_ns - bag.start_ns > CALM_S * SECOND
            if late and callable(case):
                data = case(data)
            found: dict[str, float] = defaultdict(float)
            for measured in judge.measure(data):
                found[measured.limit] = max(found[measured.limit], measured.badness)
                if measured.fatal and measured.badness > 1:
                    break
            if late:
                yield found


def curve(clean: list[float], faulted: list[float]) -> dict[str, Any]:
    """Rates at the default limit and at others, and the area under the ROC curve."""
    good, bad = np.array(clean), np.array(faulted)
    area = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    return {
        "clean": len(good),
        "faulted": len(bad),
        "false_positive_rate": float((good > 1).mean()),
        "true_positive_rate": float((bad > 1).mean()),
        "area": float(area),
        "limit_fpr_tpr": [  # other limits, as multiples of the default
            [m, round(float((good > m).mean()), 4), round(float((bad > m).mean()), 4)]
            for m in (0.25, 0.5, 0.75, 1, 1.33, 2, 4)
        ],
        "worst_clean": float(good.max()),
        "best_tenth_of_faulted": float(np.minimum(np.quantile(bad, 0.1, method="lower"), 1e6)),
    }


def draw(curves: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Per check: clean and faulted statistics beside the limit, on one logarithmic axis."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 0.27 * len(curves) + 1.2))
    for row, sides in enumerate(curves.values()):
        for values, color, lift in zip(sides, ("tab:blue", "tab:red"), (0.17, -0.17), strict=True):
            x = np.clip(values, 1e-3, 1e3)
            axis.plot(x, np.full(len(x), row - lift), "|", color=color, alpha=0.35, markersize=6)
    axis.axvline(1, color="black", linewidth=1)
    axis.set(xscale="log", xlim=(8e-4, 1.2e3), yticks=range(len(curves)), yticklabels=list(curves))
    axis.invert_yaxis()
    axis.set_xlabel("statistic / default limit: blue clean, red faulted; right of 1 is an alarm")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Simulate if need be, measure, write."""
    paths = [Path(word) for word in sys.argv[1:]]
    if not paths:
        for number, condition in enumerate(CONDITIONS):
            paths.append(Path(f"out/health_roc/{condition}.mcap"))
            simulate(paths[-1], Recipe(FIRST_SEED + number, SECONDS, (condition,), "tiny"))
    names = sorted({name for name, _ in CASES})
    clean = {name: [row for path in paths for row in badness(path, name, None)] for name in names}
    curves, results = {}, {}
    for (name, check), case in CASES.items():
        rows = [row for path in paths for row in badness(path, name, case)]
        sides = [row[check] for row in clean[name]], [row[check] for row in rows]
        label = f"{name}.{check}"
        curves[label] = sides
        fault = case if isinstance(case, str) else "made from decoded data"
        limit = getattr(modalities.limits_of(name)(), check)
        results[label] = {"limit": limit, "fault": fault, **curve(*sides)}
        print(label, {k: round(v, 4) for k, v in results[label].items() if isinstance(v, float)})
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in results.items())
    Path("docs/results/health_roc.json").write_text(f"{{\n{lines}\n}}\n")
    draw(curves, Path("docs/health_roc.png"))


if __name__ == "__main__":
    main()
