"""The state of a run on disk: weights, optimizer and step, enough to go on as if nothing happened.

One safetensors file, replaced in one piece; nothing in it is ever executed. There is no random
state in it, because every die of a step is a function of the seed and the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robustseg_core.errors import RobustsegError
from robustseg_core.learn.sameness import Run, batch_of
from robustseg_core.models.checkpoint import expect_finite
from robustseg_core.storage.budget import parse_json
from robustseg_core.storage.output_folder import replacing
from robustseg_core.storage.tensor_file import settle


@dataclass(slots=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    """Optimizer steps done."""
    best: float | None = None
    """Score of the best weights so far, by the recipe's rule."""
    best_step: int = 0
    last: dict[str, float] = field(default_factory=dict)
    """The newest row of the log."""
    seconds: float = 0.0
    """Wall time of all sessions of this run."""
    waited: float = 0.0
    """Seconds of it in which the step waited for data."""


def save(
    path: Path,
    parts: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    scaler: Mapping[str, Any] | None,
    progress: Progress,
    run: Run,
) -> None:
    """Write everything; the file at `path` is the old state or the new one, never half of one.

    Args:
        path: of the file.
        parts: name -> module: the model, and whatever else changes while it learns.
        optimizer: of all of them.
        scaler: state of the precision's loss scaling.
        progress: where the run stands.
        run: which run it is.

    Raises:
        RobustsegError: a value is not finite, or the file cannot be written.
    """
    tensors: dict[str, Tensor] = {
        f"{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()
    }
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    metadata = {
        "progress": json.dumps({k: getattr(progress, k) for k in Progress.__slots__}),
        "scaler": json.dumps(scaler or {}),
        "recipe": run.recipe,
        "identity": run.identity,
        "batch": str(run.batch),
    }
    expect_finite(
        tensors,
        source=f"the run at step {progress.step}",
        way_out=f"{path} is left as it was; lower optim.lr, or set optim.clip_norm",
    )
    try:
        clones = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        with replacing(path) as unfinished:
            save_file(clones, unfinished, metadata=metadata)
            settle(unfinished)
    except (OSError, SafetensorError) as error:
        raise RobustsegError(f"cannot write {path}: {error}; make room") from None


def load(
    path: Path,
    parts: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    run: Run,
) -> tuple[Progress, dict[str, Any], int]:
    """Put a saved state back.

    Returns:
        Where the run stood, the scaler's state, and the batch of all processes together.

    Raises:
        RobustsegError: damaged, a value that is not finite, or the state of another run.
    """
    damaged = "delete it to train from the start"
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            batch = batch_of(_told(metadata, run), run, folder=path.parent)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        expect_finite(tensors, source=str(path), way_out=damaged)
        for name, part in parts.items():
            _put(part, _under(tensors, f"{name}."))
        groups = optimizer.state_dict()["param_groups"]
        entries = _moments(optimizer, _under(tensors, "optimizer."))
        optimizer.load_state_dict({"state": entries, "param_groups": groups})
        progress = TypeAdapter(Progress).validate_json(metadata["progress"])
        scaler = parse_json(metadata["scaler"])
        if progress.step < 0 or not isinstance(scaler, dict):
            raise ValueError(f"it stands at step {progress.step}")
        return progress, scaler, batch
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())[:300]
        raise RobustsegError(f"{path} is damaged ({text}); {damaged}") from None


def _told(metadata: Mapping[str, str], run: Run) -> Run:
    """The run that a state belongs to; one of an earlier version knows its recipe alone."""
    recipe = metadata["recipe"]
    if "identity" in metadata:
        return Run(recipe, metadata["identity"], int(metadata["batch"]))
    same = recipe == run.recipe
    return Run(recipe, run.identity if same else recipe, run.batch)


def _put(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load a state strictly: names, shapes and types."""
    for name, like in model.state_dict().items():
        if tensors[name].dtype != like.dtype:
            raise ValueError(f"{name} is {tensors[name].dtype}, not {like.dtype}")
    model.load_state_dict(tensors)


def _moments(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> dict[int, dict[str, Tensor]]:
    """AdamW's entry of each parameter that has had a gradient."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        like = parameters[int(index)] if int(index) < len(parameters) else None
        shape = None if like is None else torch.Size() if key == "step" else like.shape
        if tensor.shape != shape or (key != "exp_avg" and tensor.min() < 0):
            raise ValueError(f"optimizer.{name} does not fit its parameter")
        entries.setdefault(int(index), {})[key] = tensor
    for number, entry in entries.items():
        if set(entry) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"optimizer.{number} has {sorted(entry)}")
    return entries


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
