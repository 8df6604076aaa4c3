"""A checkpoint for an engine: its graphs, and the proof that they say what the checkpoint says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import metrics
from robustseg_core.engines import Engine, _graphs, artifact
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.opening import open_engine, staged
from robustseg_core.engines.parity import Parity, noise
from robustseg_core.engines.precision import (
    FP16,
    FP32,
    INT8,
    LEAST,
    Samples,
    expect_known,
    halved,
    quantized,
)
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.network import PackedNetwork
from robustseg_core.recording.bundles import bundles
from robustseg_core.recording.labels import Truth, open_truth
from robustseg_core.storage.output_folder import expect_free
from robustseg_core.types import Bundle, ModelSpec

NOISE = 8
"""Bundles of random numbers that engines are compared on where there is no drive."""


@dataclass(frozen=True)
class Drive:
    """What engines are compared on."""

    path: Path | None = None
    """A recording; None: random numbers."""
    frames: int = 50
    every: int = 3
    params: Path | None = None
    overrides: tuple[str, ...] = ()


@dataclass
class Cost:
    """What less than float32 costs and brings, with all sensors of each set."""

    truth: NDArray[np.int64]
    """(2, K, K + 1) counts against the recording's truth: of PyTorch, of the graphs."""
    cpu_s: list[tuple[float, float]] = field(default_factory=list)
    """Of each set, by the graphs in float32 and by these ones, on the same engine."""

    def account(self) -> dict[str, Any]:
        """JSON: times as fast in CPU time, and both mIoUs where there is truth."""
        said: dict[str, Any] = {}
        if self.cpu_s:
            said["times_as_fast"] = float(np.median([a / b for a, b in self.cpu_s]))
        if self.truth.any():
            before, after = (metrics.mean_iou(counts) for counts in self.truth)
            said |= {"miou_fp32": before, "miou": after}
        return said


@dataclass(frozen=True)
class Report:
    """What an export has shown."""

    subsets: dict[str, dict[str, Any]]
    """Subset -> frames, share of equal labels, largest difference of confidence in levels of
    255."""
    cost: dict[str, Any]
    """As `Cost.account`; empty for float32."""


def export(
    weights: Path,
    out: Path,
    *,
    engine: str,
    precision: str = FP32,
    size: tuple[int, int] | None = None,
    drive: Drive | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write `out`, which a robot's `weights` may name, and compare it with PyTorch.

    Args:
        weights: a checkpoint.
        out: ends in .rseg; an export that is there is replaced, nothing else.
        engine: openvino or onnxruntime.
        precision: fp32, fp16, or int8, which is calibrated on sets of the drive that lie between
            those that are compared.
        size: (H, W) of the network's input, if not the checkpoint's.
        drive: what they are compared on.
        on_progress: called with (bundles compared, in all).

    Raises:
        RobustsegError: the checkpoint, the drive, the engine or the precision cannot be used, or
            its labels are too different; then nothing is written.
    """
    drive = drive or Drive()
    _expect_possible(out, engine, precision, drive)
    model = checkpoint.load(weights, size=size)
    folded = _graphs.expect_packed(model, engine).folded()
    full = _graphs.graphs(folded)
    graphs = _in(precision, full, lambda: _samples(folded, full, engine, drive))
    reference = open_engine(Exported(model), device="cpu", engine="eager")
    made = Exported(folded, engine, graphs, precision=precision)
    tried = open_engine(made, device="cpu", engine=engine)
    as_float: Engine | None = None
    if precision != FP32:
        as_float = open_engine(Exported(folded, engine, full), device="cpu", engine=engine)
    parity = Parity(model.spec, reference, tried)
    classes = len(model.spec.classes)
    cost = Cost(np.zeros((2, classes, classes + 1), np.int64))
    with open_truth([drive.path]) if drive.path and as_float else nullcontext() as truth:
        for done, bundle in enumerate(_compared(drive, model.spec)):
            if as_float is not None:  # first: what was encoded is kept
                _weigh(cost, bundle, truth, reference, as_float, tried)
            parity.add(bundle)
            on_progress(done + 1, drive.frames if drive.path else NOISE)
    if not parity.rows:
        raise RobustsegError(f"{drive.path} gives no set of sensors to compare on; take another")
    name, row = parity.worst
    if row.share < LEAST[precision]:
        raise RobustsegError(
            f"{engine} in {precision} gives {100 * row.share:.2f} % of the labels of PyTorch with "
            f"{name}, at least {100 * LEAST[precision]:g} % are expected; nothing was written; "
            f"use {'another engine' if precision == FP32 else 'a higher precision'}"
        )
    report = Report(parity.account(), cost.account())
    on = drive.path.name if drive.path else "random numbers"
    artifact.write(
        out,
        folded,
        graphs,
        engine=engine,
        precision=precision,
        parity={"on": on, "subsets": report.subsets, **report.cost},
    )
    return report


def _expect_possible(out: Path, engine: str, precision: str, drive: Drive) -> None:
    staged(engine)
    expect_known(precision)
    if out.suffix != artifact.SUFFIX:
        raise RobustsegError(f"out is {out}; give a name that ends in {artifact.SUFFIX}")
    if os.path.lexists(out) and (out.is_symlink() or not artifact.is_artifact(out)):
        raise RobustsegError(
            f"{out} is there already, and no export; move it away, or choose another name"
        )
    if not os.path.lexists(out):
        expect_free(out)  # there is a folder for it: known now, not when all is done
    if precision == INT8 and drive.path is None:
        raise RobustsegError("precision=int8 is calibrated on a drive; give one with --drive BAG")
    if precision == INT8 and drive.every < 2:
        raise RobustsegError(
            f"every is {drive.every}, and int8 is calibrated on sets between those that are "
            "compared; give --every 2 or more"
        )


def _in(
    precision: str, graphs: dict[str, bytes], samples: Callable[[], Samples]
) -> dict[str, bytes]:
    """Graphs of float32 in another precision."""
    if precision == FP16:
        return halved(graphs)
    return quantized(graphs, samples().inputs) if precision == INT8 else graphs


def _samples(model: PackedNetwork, graphs: dict[str, bytes], engine: str, drive: Drive) -> Samples:
    """What the graphs are given on sets of a drive, with all sensors and with each alone."""
    samples = Samples()
    runs = staged(engine)(model, graphs, observer=samples)
    for bundle in _sets(drive, model.spec, drive.every // 2):
        for names in [list(bundle.frames), *([name] for name in bundle.frames)]:
            runs(Bundle(bundle.stamp_ns, {name: bundle.frames[name] for name in names}))
    if not samples.inputs:
        raise RobustsegError(f"{drive.path} gives no set of sensors to calibrate on; take another")
    return samples


def _weigh(cost: Cost, bundle: Bundle, truth: Truth | None, *engines: Engine) -> None:
    """Note what PyTorch, the graphs in float32 and these graphs say of a set, and how long."""
    labels, spent = [], []
    for engine in engines:
        began = time.process_time()
        labels.append(engine(bundle)[0])
        spent.append(time.process_time() - began)
    cost.cpu_s.append((spent[1], spent[2]))
    known = truth.at(bundle.stamp_ns) if truth is not None else None
    if known is not None:
        for place, ids in enumerate((labels[0], labels[2])):
            cost.truth[place] += metrics.confusion(
                known, metrics.at_size(ids, known.shape), len(cost.truth[place])
            )


def _compared(drive: Drive, spec: ModelSpec) -> Iterable[Bundle]:
    if drive.path is None:
        return noise(spec, NOISE)
    return _sets(drive, spec, 0)


def _sets(drive: Drive, spec: ModelSpec, first: int) -> Iterable[Bundle]:
    assert drive.path is not None
    every = bundles(drive.path, spec, params=drive.params, overrides=drive.overrides)
    return islice(every, first, first + drive.frames * drive.every, drive.every)
