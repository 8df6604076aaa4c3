"""The one training loop, to be read from top to bottom.

It is repeatable: the data, the subsets and every die of a step are functions of (seed, step, rank),
so a run that was killed goes on with the very step that it lost, and N processes see what one
process with N times the batch sees.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from robustseg_core import __version__
from robustseg_core.engines.eager import pick_device, share_cores
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import state
from robustseg_core.learn.journal import Journal
from robustseg_core.learn.loader import Loader
from robustseg_core.learn.prepare import frozen_teacher, network, optimizer_of, splits
from robustseg_core.learn.recipe import OptimRecipe, Recipe
from robustseg_core.learn.sameness import run_of
from robustseg_core.learn.tasks import Task
from robustseg_core.learn.validate import score
from robustseg_core.models import checkpoint
from robustseg_core.models.anymodal import AnyModalSegmenter
from robustseg_core.storage.output_folder import OutputFolder, claimed, replacing
from robustseg_core.types import Batch

log = logging.getLogger(__name__)

Report = Callable[[int, int, dict[str, float]], None]


def fit(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    on_progress: Report = lambda step, steps, numbers: None,
) -> dict[str, Any]:
    """Train as the recipe says; go on if `out` holds an unfinished run of the same recipe.

    Started by `torchrun`, the processes share the work (DDP: NCCL on GPUs, gloo on CPUs). A run
    goes on in another number of them with the batch and the order that it had; what does not change
    the result (`learn/sameness.py`) may differ, too.

    Args:
        recipe: everything that the result depends on.
        out: gets `best.safetensors` (a checkpoint, float16), `result.json`, `log.csv`,
            `tensorboard/`, `recipe.yaml` and `state.safetensors`.
        device: auto, cpu or cuda.
        on_progress: called with (steps done, steps in all, newest numbers), on rank 0.

    Returns:
        The content of `result.json`.

    Raises:
        RobustsegError: recipe and data do not fit; another recipe's run is in `out`, or one whose
            batch the processes cannot share; the loss is not finite (the batch is saved, and the
            text says which term), or a weight is not.
    """
    fabric = _fabric(recipe, device)
    inputs = [*recipe.data.train, *recipe.data.val, *filter(None, [recipe.teacher])]
    first = fabric.global_rank == 0
    with claimed(out, command="train", inputs=inputs) if first else nullcontext() as held:
        return _train(fabric, recipe, out, held, on_progress)


def _train(
    fabric: Any, recipe: Recipe, out: Path, held: OutputFolder | None, on_progress: Report
) -> dict[str, Any]:
    """The loop itself, in a folder that rank 0 holds."""
    first = held is not None
    train, val = splits(recipe)
    teacher = frozen_teacher(recipe, train)
    model = network(recipe, train)
    task = Task(recipe, train.modalities, teacher=teacher, labelled=train.labelled)
    task.to(fabric.device)
    average = copy.deepcopy(model) if recipe.optim.ema else None
    student, optimizer = fabric.setup(model, optimizer_of(model, recipe.optim))
    if average is not None:
        average.to(fabric.device).eval()

    identity = recipe.model_dump_json(by_alias=True)
    saved = out / "state.safetensors"
    run = run_of(recipe, train, val, processes=fabric.world_size)
    progress = state.Progress()
    if saved.exists():
        progress, scaler, whole = state.load(saved, model, average, optimizer, run)
        fabric.strategy.precision.load_state_dict(scaler)
        run = replace(run, batch=whole)
    loader = Loader(
        train, batch=_share(run.batch, fabric.world_size, out),
        augment=recipe.augment, corrupt=recipe.corrupt,
        seed=recipe.seed, workers=recipe.data.workers, cache=recipe.data.cache,
        rank=fabric.global_rank, world=fabric.world_size,
    )  # fmt: skip
    per_epoch = max(1, len(loader) // recipe.optim.accumulate)
    steps = recipe.optim.steps or recipe.optim.epochs * per_epoch
    judge_every = recipe.validate_.every or per_epoch
    _say(out, recipe, loader, progress.step, steps)
    if held is not None:
        held.open()
    journal = Journal(out, progress.step) if first else None
    if first:
        with replacing(out / "recipe.yaml") as path:
            path.write_text(yaml.safe_dump(json.loads(identity), sort_keys=False))
    before_s, waited_s, started = progress.seconds, progress.waited, time.perf_counter()

    batches = loader.batches(progress.step * recipe.optim.accumulate)
    for step in range(progress.step, steps):
        rate = learning_rate(step, steps, recipe.optim)
        for group in optimizer.param_groups:
            group["lr"] = rate
        student.train()
        numbers = {"lr": rate, "epoch": step / per_epoch}
        for part in range(recipe.optim.accumulate):
            batch = _to(next(batches), fabric.device)
            shared_rng, rank_rng = _rngs(recipe.seed, step, part, fabric.global_rank)
            waiting = part + 1 < recipe.optim.accumulate
            with fabric.no_backward_sync(student, enabled=waiting):
                with fabric.autocast():
                    terms = task.terms(student, batch, shared_rng, rank_rng, fabric.global_rank,
                                       fabric.world_size)  # fmt: skip
                loss = torch.stack([value.float() for value in terms.values()]).sum()
                if not torch.isfinite(loss):
                    _abort_non_finite(out, step, batch, terms)
                fabric.backward(loss / recipe.optim.accumulate)
            for name, value in {"loss": loss, **terms}.items():
                share = fabric.all_reduce(value.detach(), reduce_op="mean")
                numbers[name] = numbers.get(name, 0.0) + float(share) / recipe.optim.accumulate
        if recipe.optim.clip_norm:
            fabric.clip_gradients(student, optimizer, max_norm=recipe.optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            _update_ema(average, model, min(recipe.optim.ema, (1 + step) / (10 + step)))

        done = step + 1
        progress.step, progress.last = done, numbers
        progress.seconds = before_s + time.perf_counter() - started
        progress.waited = waited_s + loader.waited_s
        judged = average if average is not None else model
        if val is not None and (done % judge_every == 0 or done == steps):
            if first:
                numbers |= score(judged, val, recipe.validate_, fabric.device)
                if progress.best is None or numbers["val"] > progress.best:
                    progress.best, progress.best_step = numbers["val"], done
                    _save_best(out, judged, recipe, progress)
            fabric.barrier()
        if first and journal is not None:
            if done % recipe.log_every == 0 or done == steps or "val" in numbers:
                journal.add(done, numbers)
            on_progress(done, steps, numbers)
            if done % recipe.save_every == 0 or done == steps:
                scaler = fabric.strategy.precision.state_dict()
                state.save(saved, model, average, optimizer, scaler, progress, run)

    result: dict[str, Any] = {}
    if first and journal is not None:
        journal.close()
        if val is None:
            progress.best_step = steps
            _save_best(out, average if average is not None else model, recipe, progress)
        result = {
            "system": recipe.system,
            "seed": recipe.seed,
            "steps": steps,
            "epochs": round(steps / per_epoch, 2),
            "samples": len(train),
            "parameters": sum(p.numel() for p in model.parameters()),
            "loss": progress.last.get("loss"),
            "terms": task.names,
            "left_out": list(task.left_out),
            "best": progress.best,
            "best_step": progress.best_step,
            "rule": recipe.validate_.rule if val is not None else "last step",
            "seconds": round(progress.seconds, 1),
            "waited_share": round(progress.waited / max(1e-9, progress.seconds), 4),
            "version": __version__,
        }
        with replacing(out / "result.json") as path:
            path.write_text(json.dumps(result, indent=1) + "\n")
    fabric.barrier()
    return result


def learning_rate(step: int, steps: int, optim: OptimRecipe) -> float:
    """Linear warm-up, then polynomial decay (docs/specs/network.md), for step 0, 1, ...

    The decay runs over one epoch's worth more than there is in the published code; here it ends
    just above zero.
    """
    warm = round(optim.warmup * steps)
    if step < warm:
        return optim.lr * (optim.warmup_from + (1 - optim.warmup_from) * step / warm)
    return optim.lr * (1 - step / (steps + 1)) ** optim.power


def _fabric(recipe: Recipe, device: str) -> Any:
    """Lightning Fabric for the processes that torchrun started, or for this one alone."""
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies import DDPStrategy
    except ImportError:
        raise RobustsegError("lightning is not installed; pip install robustseg[train]") from None
    kind = pick_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    share_cores(kind, processes=local)
    fabric = Fabric(
        accelerator=kind.type,
        devices=local if world > 1 else 1,
        num_nodes=world // local,
        # A sensor that a batch lacks leaves its own stem without a gradient.
        strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
        precision=recipe.optim.precision,
    )
    fabric.launch()
    return fabric


def _share(batch: int, processes: int, out: Path) -> int:
    """Samples of each process, when all together see `batch`.

    Raises:
        RobustsegError: it does not divide.
    """
    if batch % processes:
        raise RobustsegError(
            f"{out} holds a run with a batch of {batch}, which {processes} processes cannot share "
            "evenly; start a number of processes that divides it, or choose another --out"
        )
    return batch // processes


def _say(out: Path, recipe: Recipe, loader: Loader, step: int, steps: int) -> None:
    """Tell where a run that was there goes on, and with what.

    Raises:
        RobustsegError: it is beyond its end, so it was another one.
    """
    if step > steps:
        raise RobustsegError(
            f"{out} holds a run of {step} steps, and there are {steps} with this number of "
            "processes; start as many as before, or choose another --out"
        )
    if loader.rank:
        return
    if step == steps:
        log.warning("%s holds a finished run: all its %d steps are done; choose another --out to "
                    "train again", out, steps)  # fmt: skip
    elif step and loader.batch != recipe.optim.batch:
        log.warning("the run goes on with the batch that it had, %d samples in each of the %d "
                    "processes", loader.batch, loader.world)  # fmt: skip


def _rngs(seed: int, step: int, part: int, rank: int) -> tuple[torch.Generator, torch.Generator]:
    """(the same on all ranks, this rank's own); the network's dropout gets its own, too."""
    words = np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)
    own = np.random.SeedSequence([seed, step, part, rank]).generate_state(2, np.uint64)
    torch.manual_seed(int(own[0] >> 1))
    return (
        torch.Generator().manual_seed(int(words[0] >> 1)),
        torch.Generator().manual_seed(int(own[1] >> 1)),
    )


def _to(batch: Batch, device: torch.device) -> Batch:
    move = {"device": device, "non_blocking": True}
    images = {name: image.to(**move) for name, image in batch.images.items()}
    label = None if batch.label is None else batch.label.to(**move)
    return Batch(images, batch.alive.to(**move), label)


@torch.no_grad()
def _update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of weights; counts and other integers are copied."""
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


def _save_best(
    out: Path, model: AnyModalSegmenter, recipe: Recipe, progress: state.Progress
) -> None:
    data = ", ".join(Path(path).name for path in recipe.data.train)
    rule = f"best {recipe.validate_.rule}" if recipe.data.val else "last"
    provenance = (
        f"robustseg {__version__}, {recipe.system or 'own recipe'}, seed {recipe.seed}, on {data}; "
        f"{rule} at step {progress.best_step}"
    )
    spec = model.spec.model_copy(update={"trained": True, "provenance": provenance})
    checkpoint.save(out / "best.safetensors", model, spec, half=True)


def _abort_non_finite(out: Path, step: int, batch: Batch, terms: dict[str, Tensor]) -> None:
    """A loss that is not a number: keep the evidence, and say where it comes from."""
    path = out / f"not_finite_{step}.safetensors"
    tensors = {f"images.{name}": image for name, image in batch.images.items()}
    tensors["alive"] = batch.alive
    if batch.label is not None:
        tensors["label"] = batch.label
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
    bad = [f"{name} = {float(v.detach())}" for name, v in terms.items() if not torch.isfinite(v)]
    raise RobustsegError(
        f"the loss is not finite at step {step}: {', '.join(bad)}; the batch is in {path}; lower "
        "optim.lr, set optim.clip_norm, or use optim.precision=32-true"
    )
