"""`make bench`: every bench_*.py beside this file, its figures, and the targets that they meet.

Figures are medians of variants taken in turn: ratios hold on a busy machine, milliseconds do not.
Writes out/bench.json.
"""

from __future__ import annotations

import importlib.util
import json
import operator
import platform
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
OUT = Path("out/bench.json")
FORMATS = ("evt2", "evt21", "mono", "libcaer", "libcaer_cmp", "event_array", "cloud x y t p")
"""Binary formats of events, beside evt3."""
TARGETS = {
    "image_publish_over_cheapest": (operator.le, 1.3),
    "image_receive_over_cheapest": (operator.le, 1.3),
    "judge one message of each, ms": (operator.le, 1.0),
    "cloud to image, times faster": (operator.ge, 20),
    "evt3 single, M events/s": (operator.ge, 30),
    **{f"{name}, M events/s": (operator.ge, 30) for name in FORMATS},
    "labels_one_pass_speedup": (operator.ge, 3),
    "register_depth_speedup": (operator.ge, 3),
    "eager b0, 1 alive, times published": (operator.ge, 8),
    "eager b0, 4 alive, times published": (operator.ge, 4),
    "head_768_speedup": (operator.ge, 5),
    "tiny_encoder_one_of_four": (operator.lt, 0.45),
    "b0_encoder_one_of_four": (operator.lt, 0.45),
    "m_segformer b0, head 768, 256x256, 15 subsets over full set": (operator.le, 1.6),
    "m_segformer b2, head 768, 256x256, 15 subsets over full set": (operator.le, 1.6),
    "hpdm_loop_speedup": (operator.ge, 10),
    "unimodal_loop_speedup": (operator.ge, 10),
    "crossmodal_loop_speedup": (operator.ge, 10),
    "distillers_share_of_step": (operator.lt, 0.15),
    "product student, 512x320: run's rate over the engine's": (operator.ge, 0.9),
    "8 bags, 1 process over 2, time": (operator.ge, 1.7),
    "training, share of time waiting for data": (operator.lt, 0.10),
    "live, naive over ours, CPU a mask": (operator.ge, 3),
    "live, callback p99, CPU ms": (operator.lt, 0.3),
}
SIGNS = {operator.le: "<=", operator.ge: ">=", operator.lt: "<"}


def figures(file: Path) -> dict[str, float]:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run()


def main() -> None:
    console = Console()
    everything: dict[str, float] = {}
    for file in sorted(HERE.glob("bench_*.py")):
        console.print(f"{file.name} ...", style="dim")
        everything |= figures(file)
    table = Table(box=SIMPLE_HEAD)
    for name, side in (("figure", "left"), ("value", "right"), ("target", "right"), ("", "left")):
        table.add_column(name, justify=side)
    for name, value in everything.items():
        goal, mark = "", ""
        if name in TARGETS:
            compare, limit = TARGETS[name]
            goal = f"{SIGNS[compare]} {limit:g}"
            mark = "met" if compare(value, limit) else "[red]missed[/]"
        table.add_row(name, f"{value:.4g}", goal, mark)
    console.print(table)
    OUT.parent.mkdir(exist_ok=True)
    machine = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    OUT.write_text(json.dumps({**machine, "figures": everything}, indent=1) + "\n")
    if missing := set(TARGETS) - set(everything):
        raise SystemExit(f"no benchmark measured {sorted(missing)}")


if __name__ == "__main__":
    main()
