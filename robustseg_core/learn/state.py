"""The state of a run on disk: weights, optimizer and step, enough to go on as if nothing happened.

One safetensors file, replaced in one piece; nothing in it is ever executed. There is no random
state in it, because every die of a step is a function of the seed and the step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robustseg_core.budget import parse_json
from robustseg_core.errors import RobustsegError


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


def save(
    path: Path,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    scaler: Mapping[str, Any] | None,
    progress: Progress,
    recipe: str,
) -> None:
    """Write everything; the file at `path` is the old state or the new one, never half of one."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    metadata = {
        "progress": json.dumps({k: getattr(progress, k) for k in Progress.__slots__}),
        "scaler": json.dumps(scaler or {}),
        "recipe": recipe,
    }
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        clones = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        save_file(clones, unfinished, metadata=metadata)
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise RobustsegError(f"cannot write {path}: {error}; make room") from None


def load(
    path: Path,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    recipe: str,
) -> tuple[Progress, dict[str, Any]]:
    """Put a saved state back; returns where the run stood, and the scaler's state.

    Raises:
        RobustsegError: damaged, or the state of another recipe.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["recipe"] != recipe:
            what = _difference(metadata["recipe"], recipe)
            raise RobustsegError(
                f"{path.parent} holds a run of another recipe ({what}); choose another --out, or "
                "go on with the old recipe"
            )
        model.load_state_dict(_under(tensors, "model."))
        if average is not None:
            average.load_state_dict(_under(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return Progress(**parse_json(metadata["progress"])), parse_json(metadata["scaler"])
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise RobustsegError(
            f"{path} is damaged ({error}); delete it to train from the start"
        ) from None


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _difference(old: str, new: str) -> str:
    """The first key in which two recipes (JSON) differ."""
    before, after = _flat(parse_json(old)), _flat(parse_json(new))
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return f"{keys[0]} was {before.get(keys[0])!r}, is {after.get(keys[0])!r}" if keys else "same"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value
        for name, branch in tree.items()
        for key, value in _flat(branch, f"{prefix}.{name}" if prefix else name).items()
    }
