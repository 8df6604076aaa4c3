"""A checkpoint for an engine: its graphs, and the proof that they say what the checkpoint says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from robustseg_core.engines import _graphs, artifact
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.opening import RUNTIMES, open_engine
from robustseg_core.engines.parity import LEAST, Parity, noise
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models import checkpoint
from robustseg_core.recording.bundles import bundles
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


def export(
    weights: Path,
    out: Path,
    *,
    engine: str,
    size: tuple[int, int] | None = None,
    drive: Drive | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write `out`, which a robot's `weights` may name, and compare it with PyTorch.

    Args:
        weights: a checkpoint.
        out: ends in .rseg.
        engine: openvino or onnxruntime.
        size: (H, W) of the network's input, if not the checkpoint's.
        drive: what they are compared on.
        on_progress: called with (bundles compared, in all).

    Returns:
        The parity report: subset -> frames, share of equal labels, largest difference of
        confidence in levels of 255.

    Raises:
        RobustsegError: the checkpoint, the drive or the engine cannot be used, or its labels are
            too different; then nothing is written.
    """
    if engine not in RUNTIMES:
        raise RobustsegError(f"engine is {engine!r}; {did_you_mean(engine, RUNTIMES)}")
    if out.suffix != artifact.SUFFIX:
        raise RobustsegError(f"out is {out}; give a name that ends in {artifact.SUFFIX}")
    drive = drive or Drive()
    model = checkpoint.load(weights, size=size)
    folded = _graphs.expect_packed(model, engine).folded()
    graphs = _graphs.graphs(folded)
    reference = open_engine(Exported(model), device="cpu", engine="eager")
    tried = open_engine(Exported(folded, engine, graphs), device="cpu", engine=engine)
    parity = Parity(model.spec, reference, tried)
    for done, bundle in enumerate(_compared(drive, model.spec)):
        parity.add(bundle)
        on_progress(done + 1, drive.frames if drive.path else NOISE)
    if not parity.rows:
        raise RobustsegError(f"{drive.path} gives no set of sensors to compare on; take another")
    name, row = parity.worst
    if row.share < LEAST["fp32"]:
        raise RobustsegError(
            f"{engine} gives {100 * row.share:.2f} % of the labels of PyTorch with {name}, at "
            f"least {100 * LEAST['fp32']:g} % are expected; nothing was written; use another engine"
        )
    account = parity.account()
    on = drive.path.name if drive.path else "random numbers"
    artifact.write(
        out,
        folded,
        graphs,
        engine=engine,
        precision="fp32",
        parity={"on": on, "subsets": account},
    )
    return account


def _compared(drive: Drive, spec: ModelSpec) -> Iterable[Bundle]:
    if drive.path is None:
        return noise(spec, NOISE)
    every = bundles(drive.path, spec, params=drive.params, overrides=drive.overrides)
    return islice(every, 0, drive.frames * drive.every, drive.every)
