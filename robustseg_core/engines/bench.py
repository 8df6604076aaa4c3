"""What `robustseg bench` says: the engines' times on this machine, and which of them to take."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from robustseg_core.engines import comparison
from robustseg_core.engines.comparison import Times
from robustseg_core.engines.opening import EAGER, RUNTIMES, candidates
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models.network import Network

WORTH = 1.1
"""An engine is recommended that is this much faster than PyTorch; else PyTorch is."""


@dataclass(frozen=True)
class Bench:
    """Medians of variants taken in turn."""

    weights: str
    size: tuple[int, int]
    threads: int
    rounds: int
    times: Mapping[str, Mapping[int, Times]]
    """engine -> number of sensors alive -> times."""
    missing: tuple[str, ...]
    """Engines that run this network, and are not installed."""

    @classmethod
    def of(
        cls,
        path: Path,
        model: Network,
        *,
        engines: Sequence[str],
        threads: int,
        rounds: int,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Bench:
        """Measure.

        Args:
            path: a checkpoint or an artifact.
            model: the network in it.
            engines: which; empty: all that are installed and run it.
            threads: of each.
            rounds: times that each is asked.
            on_progress: called with (rounds done, in all).

        Raises:
            RobustsegError: no such engine, or one that does not run.
        """
        for name in engines:
            if name not in (EAGER, *RUNTIMES):
                raise RobustsegError(
                    f"engine is {name!r}; {did_you_mean(name, (EAGER, *RUNTIMES))}"
                )
        here = candidates(model)
        variants = {
            name: comparison.command(name, path, threads)
            for name in dict.fromkeys((EAGER, *(engines or here)))
        }
        most = len(model.spec.modalities)
        times = comparison.compare(
            variants,
            sorted({1, most}),
            rounds=rounds,
            threads=threads,
            on_progress=on_progress,
        )
        missing = tuple(name for name in RUNTIMES if name not in here and not engines)
        return cls(path.name, model.spec.size, threads, rounds, times, missing)

    @property
    def best(self) -> str:
        """The engine to take: the fastest with all sensors, if that is worth the trouble."""
        most = max(self.times[EAGER])
        wall = {name: rows[most].account()["wall_ms"] for name, rows in self.times.items()}
        fastest = min(wall, key=wall.__getitem__)
        return fastest if wall[EAGER] >= WORTH * wall[fastest] else EAGER

    def advice(self) -> str:
        """The recommendation, in a sentence."""
        way = {
            EAGER: "take engine=eager: nothing here is faster by a tenth",
        }.get(
            self.best,
            f"take {self.best}: robustseg export {self.weights} --engine {self.best} --out "
            f"{Path(self.weights).stem}.rseg, and set weights to that file",
        )
        lacks = f"; not installed, so not measured: {', '.join(self.missing)}"
        return way + (f"{lacks} (pip install 'robustseg[engines]')" if self.missing else "")

    def rows(self) -> list[tuple[str, int, float, float, float]]:
        """(engine, sensors alive, CPU ms, wall ms, times as fast as PyTorch in wall time)."""
        found = []
        for name, counts in self.times.items():
            for count, times in counts.items():
                told, usual = times.account(), self.times[EAGER][count].account()
                ratio = usual["wall_ms"] / told["wall_ms"]
                found.append((name, count, told["cpu_ms"], told["wall_ms"], ratio))
        return found

    def table(self) -> Table:
        """For people."""
        height, width = self.size
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        made = Table(
            title=f"{self.weights}, {width}x{height}, {threads}, medians of {self.rounds}",
            title_justify="left",
            box=SIMPLE_HEAD,
        )
        made.add_column("engine")
        for head in ("sensors", "CPU, ms", "wall, ms", "times as fast"):
            made.add_column(head, justify="right")
        for name, count, cpu, wall, ratio in self.rows():
            made.add_row(name, str(count), f"{cpu:.1f}", f"{wall:.1f}", f"{ratio:.2f}")
        return made

    def account(self) -> dict[str, Any]:
        """JSON."""
        keys = ("engine", "sensors", "cpu_ms", "wall_ms", "times_as_fast")
        return {
            "weights": self.weights,
            "size": list(self.size),
            "threads": self.threads,
            "rounds": self.rounds,
            "machine": platform.processor() or platform.machine(),
            "engines": [dict(zip(keys, row, strict=True)) for row in self.rows()],
            "recommended": self.best,
            "not_installed": list(self.missing),
        }

    def write(self, folder: Path) -> None:
        """bench.json, bench.md and bench.png."""
        (folder / "bench.json").write_text(json.dumps(self.account(), indent=1) + "\n")
        lines = [
            "| engine | sensors | CPU, ms | wall, ms | times as fast |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {name} | {count} | {cpu:.1f} | {wall:.1f} | {ratio:.2f} |"
            for name, count, cpu, wall, ratio in self.rows()
        ]
        (folder / "bench.md").write_text("\n".join([*lines, "", self.advice(), ""]))
        self._plot(folder / "bench.png")

    def _plot(self, path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        counts = sorted(self.times[EAGER])
        for place, (name, rows) in enumerate(self.times.items()):
            offsets = [k + place / (len(self.times) + 1) for k in range(len(counts))]
            walls = [rows[count].account()["wall_ms"] for count in counts]
            axes.bar(offsets, walls, 1 / (len(self.times) + 1), label=name, align="edge")
        axes.set_xticks([k + 0.4 for k in range(len(counts))], [f"{c} alive" for c in counts])
        axes.set_ylabel("ms a mask (wall)")
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150)
