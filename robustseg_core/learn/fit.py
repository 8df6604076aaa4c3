"""`robustseg train`: a run in its folder, or the stages of one, each in a folder of its own.

The loop itself is `learn/loop.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from robustseg_core.config import read_file
from robustseg_core.engines.eager import pick_device, share_cores
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.fabric import fabric
from robustseg_core.learn.journal import DEFAULT, Opener
from robustseg_core.learn.loop import How, Report, train, write_recipe, write_result
from robustseg_core.learn.recipe import Recipe
from robustseg_core.learn.stages import BEST, expect_fitting, placed
from robustseg_core.storage.output_folder import OutputFolder, claimed, replacing

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def fit(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    compiled: bool = False,
    journals: Sequence[Opener] = DEFAULT,
    quiet: bool = False,
    on_progress: Report = lambda step, steps, numbers: None,
    on_stage: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Train as the recipe says; go on if `out` holds an unfinished run of the same recipe.

    Started by `torchrun`, the processes share the work (DDP: NCCL on GPUs, gloo on CPUs). A run
    goes on in another number of them with the batch and the order that it had; what does not change
    the result (`learn/sameness.py`) may differ, too. Stages of a recipe are trained one after the
    other, each in a folder of its name below `out`, which gets what the last one made.

    Args:
        recipe: everything that the result depends on.
        out: gets `best.safetensors` (a checkpoint, float16), `result.json`, `log.csv`,
            `tensorboard/`, `recipe.yaml`, `state.safetensors`, `report.html` and, where there is
            validation data, `validation.npz` (`learn/seen.py`).
        device: auto, cpu or cuda.
        compiled: run the student through `torch.compile`: a slow start, faster steps.
        journals: who is told the numbers, on rank 0.
        quiet: that a run is finished already is no news.
        on_progress: called after every step with (steps done, steps in all, numbers of the newest
            step that was logged or saved), on rank 0.
        on_stage: called with the name of each stage of the recipe before it is trained.

    Returns:
        The content of `result.json`.

    Raises:
        RobustsegError: recipe and data do not fit; another recipe's run is in `out`, or one whose
            batch the processes cannot share; the loss is not finite (the batch is saved, and the
            text says which term), or a weight is not.
    """
    how = How(compiled, tuple(journals), on_progress, quiet)
    fabric = _fabric(recipe, device)
    stages = recipe.in_stages()
    parts = (recipe, *stages.values())
    named = [path for part in parts for path in (*part.weights().values(), part.data.embeddings)]
    inputs = [*recipe.data.train, *recipe.data.val, *(p for p in named if Path(p).is_file())]
    with _held(fabric, out, inputs) as held:
        _expect_stages(out, list(stages))
        if not stages:
            return train(fabric, recipe, out, None if held is None else held.open, how)
        expect_fitting(stages)
        results = {}
        for name, stage in stages.items():
            on_stage(name)
            with _held(fabric, out / name, inputs) as own:
                begin = _beginning(recipe, out, held, own)
                part = _fabric(stage, device)
                told = replace(how, quiet=quiet or name != list(stages)[-1])
                results[name] = train(part, placed(stage, out), out / name, begin, told)
        return {} if held is None else _summary(out, results)


@contextmanager
def _held(fabric: Fabric, out: Path, inputs: Sequence[str]) -> Iterator[OutputFolder | None]:
    """The folder of a run, held by rank 0; None in the others."""
    if fabric.global_rank:
        yield None
        return
    with claimed(out, command="train", inputs=inputs) as held:
        yield held


def _expect_stages(out: Path, names: list[str]) -> None:
    """Nothing, if a run that is in the folder has these stages.

    Raises:
        RobustsegError: it has others.
    """
    path = out / "recipe.yaml"
    if path.exists() and (had := list(read_file(path).get("stages", {}))) != names:
        raise RobustsegError(
            f"{out} holds a run of another recipe (stages were {had}, are {names}); choose "
            "another --out, or go on with the old recipe"
        )


def _beginning(
    recipe: Recipe, out: Path, held: OutputFolder | None, own: OutputFolder | None
) -> Callable[[], None] | None:
    """What is done before a stage writes: the folder of the whole run is opened, then its own."""
    if held is None or own is None:
        return None

    def begin() -> None:
        held.open()
        write_recipe(recipe, out)
        own.open()

    return begin


def _summary(out: Path, results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What the last stage made becomes what the whole run made; the content of `result.json`."""
    *_, name = results
    with replacing(out / BEST) as path:
        shutil.copyfile(out / name / BEST, path)
    seconds = round(sum(result["seconds"] for result in results.values()), 1)
    return write_result(out, {**results[name], "seconds": seconds, "stages": dict(results)})


def _fabric(recipe: Recipe, device: str) -> Fabric:
    """Lightning Fabric for the processes that torchrun started, or for this one alone."""
    try:
        alone = fabric()
    except ImportError:
        raise RobustsegError("lightning is not installed; pip install robustseg[train]") from None
    kind = pick_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    share_cores(kind, processes=local)
    launched: Fabric = alone.Fabric(
        accelerator=kind.type,
        devices=local if world > 1 else 1,
        num_nodes=world // local,
        # A sensor that a batch lacks leaves its own stem without a gradient.
        strategy=alone.strategies.DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
        precision=recipe.optim.precision,
    )
    launched.launch()
    if kind.type == "cuda" and recipe.optim.tf32:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    return launched
