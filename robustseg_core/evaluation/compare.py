"""Two systems on the same scenes: the difference of their scores, with a confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.bootstrap import FEW, RESAMPLES, SHARE, draws, interval, without_one
from robustseg_core.evaluation.figures import KEY, figures
from robustseg_core.evaluation.results import Results, load
from robustseg_core.text import visible

_SAME = (
    "dataset",
    "split",
    "size",
    "label_size",
    "samples",
    "modalities",
    "protocols",
    "missing",
    "rates",
    "absent",
    "seed",
    "samples_sha256",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two systems, as fractions."""

    figure: str
    first: float
    second: float
    low: float | None
    """Ends of the interval of `second - first`; None with fewer than two scenes."""
    high: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system beside the one that all are compared with."""

    first: str
    second: str
    scenes: int
    resamples: int
    caption: str
    rows: tuple[Difference, ...]

    def markdown(self) -> str:
        """A table, in percent points."""
        first, second = (visible(name).replace("|", "/") for name in (self.first, self.second))
        lines = [
            f"### {second} against {first}",
            "",
            f"| figure | {first} | {second} | difference | {SHARE:g} % interval |",
            "|---|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            span = "too few scenes"
            if row.low is not None and row.high is not None:
                span = f"[{100 * row.low:+.2f}, {100 * row.high:+.2f}]"
                span += "" if row.clear else " holds 0"
            lines.append(
                f"| {row.figure} | {100 * row.first:.2f} | {100 * row.second:.2f} "
                f"| {100 * (row.second - row.first):+.2f} | {span} |"
            )
        doubt = f"; with fewer than {FEW} scenes, intervals are too narrow"
        lines += [
            "",
            f"Paired bootstrap over {self.scenes} scenes, {self.resamples} resamples"
            f"{doubt if 1 < self.scenes < FEW else ''}. {visible(self.caption)}",
        ]
        return "\n".join(lines) + "\n"


def compare(
    paths: Sequence[Path | str], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Each of the other results against the first, on the same draws of scenes.

    Args:
        paths: two or more, as `results.load` takes them.
        resamples: draws of scenes.
        seed: of the draws.

    Raises:
        RobustsegError: fewer than two, one cannot be read, or two are not of the same data and
            protocols.
    """
    if len(paths) < 2:
        raise RobustsegError(f"got {len(paths)} results; a comparison needs two or more")
    names = [str(path) for path in paths]
    first, *others = [load(path) for path in paths]
    return [
        compare_results(first, other, names=(names[0], name), resamples=resamples, seed=seed)
        for name, other in zip(names[1:], others, strict=True)
    ]


def compare_results(
    first: Results,
    second: Results,
    *,
    names: tuple[str, str] = ("first", "second"),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """As `compare`, of results in memory.

    Raises:
        RobustsegError: they are not of the same data and protocols; says what differs.
    """
    _expect_same(first, second, names)
    here, there = figures(first), figures(second)
    a = draws(first, resamples=resamples, seed=seed)
    b = draws(second, resamples=resamples, seed=seed)
    left, right = without_one(first), without_one(second)
    rows = []
    for name in (name for name in KEY if name in here):
        low = high = None
        if a:
            change, drawn = there[name] - here[name], b[name] - a[name]
            low, high = interval(drawn, change, right[name] - left[name])
        rows.append(Difference(name, here[name], there[name], low, high))
    scenes = len({group.scene for group in first.groups})
    about = first.about
    caption = (
        f"{about.dataset} {about.split}, {about.samples} samples, input "
        f"{about.size[0]}x{about.size[1]}, absent classes: {about.absent}, noise seed {about.seed}."
    )
    return Comparison(*names, scenes, resamples, caption, tuple(rows))


def _expect_same(first: Results, second: Results, names: tuple[str, str]) -> None:
    for field in _SAME:
        a, b = getattr(first.about, field), getattr(second.about, field)
        if a != b:
            what = "sample ids" if field == "samples_sha256" else field
            raise RobustsegError(
                f"{names[0]} and {names[1]} differ in {what} ({_few(a)}; {_few(b)}); only "
                "evaluations of the same data with the same protocols can be compared"
            )
    if first.classes != second.classes:
        raise RobustsegError(
            f"{names[0]} has {len(first.classes)} classes and {names[1]} {len(second.classes)}, or "
            "they are named or ordered differently; evaluate both with one class list"
        )
    same = first.groups == second.groups and np.array_equal(
        first.counts.sum(-1), second.counts.sum(-1)
    )
    if not same:
        raise RobustsegError(
            f"{names[0]} and {names[1]} have the same samples with other labels or tags; "
            "evaluate both again on today's data"
        )


def _few(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:16]}..."
