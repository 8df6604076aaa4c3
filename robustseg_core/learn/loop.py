"""The one training loop, to be read from top to bottom.

It is repeatable: the data, the subsets and every die of a step are functions of (seed, step, rank),
so a run that was killed goes on with the very step that it lost, and N processes see what one
process with N times the batch sees.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from robustseg_core.datasets import Dataset
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import seen, state
from robustseg_core.learn.calibrate import DAMAGE, calibrate, known_pictures
from robustseg_core.learn.embeddings import Embeddings
from robustseg_core.learn.journal import Journal, Journals, Opener
from robustseg_core.learn.loader import Loader
from robustseg_core.learn.prepare import cached_embeddings, networks, optimizer_of, splits
from robustseg_core.learn.recipe import Recipe
from robustseg_core.learn.sameness import Run, run_of
from robustseg_core.learn.schedule import Schedule
from robustseg_core.learn.stages import BEST
from robustseg_core.learn.tasks import Task
from robustseg_core.learn.validate import judge
from robustseg_core.models import checkpoint
from robustseg_core.models.network import Network
from robustseg_core.models.weights import Beginning
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.output_folder import replacing
from robustseg_core.types import Batch
from robustseg_core.version import __version__

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.wrappers import _FabricModule

log = logging.getLogger(__name__)

Report = Callable[[int, int, dict[str, float]], None]
"""Called with steps done, steps in all, and the numbers that were logged last."""


@dataclass(frozen=True, slots=True)
class How:
    """What does not change the result."""

    compiled: bool
    journals: tuple[Opener, ...]
    on_progress: Report
    quiet: bool = False
    """A finished run is no news: others go on after it."""


def write_result(out: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write `result.json` into a run's folder, and return its content."""
    with replacing(out / "result.json") as path:
        path.write_text(json.dumps(result, indent=1) + "\n")
    return result


@dataclass(frozen=True, slots=True)
class _Pupil:
    """What is trained."""

    task: Task
    model: Network
    began: Beginning | None
    """What the model began with; None: random weights."""
    average: Network | None
    """Exponential moving average of the model's weights; None: the recipe wants none."""
    step: _FabricModule
    """All that learns, as Fabric wraps it."""
    optimizer: torch.optim.Optimizer

    @property
    def parts(self) -> dict[str, nn.Module]:
        """name -> module: all that the state of a run holds."""
        found: dict[str, nn.Module] = {"model": self.model}
        if self.average is not None:
            found["average"] = self.average
        found |= {name: module for name, (module, _) in self.task.learners.items()}
        if self.task.solo is not None:
            found["solo"] = self.task.solo
        return found

    @property
    def validated(self) -> Network:
        """What is validated and kept."""
        return self.average if self.average is not None else self.model


class _Step(nn.Module):
    """All that learns in a step, as one module: DDP wants one forward for one backward.

    Args:
        task: what is taught.
        student: maybe compiled.
    """

    def __init__(self, task: Task, student: nn.Module) -> None:
        super().__init__()
        self._task = task
        self.student = student
        self.others = nn.ModuleDict({name: part for name, (part, _) in task.learners.items()})

    def forward(
        self, batch: Batch, rngs: tuple[torch.Generator, torch.Generator], rank: int, world: int
    ) -> dict[str, Tensor]:
        """As `Task.terms`."""
        return self._task.terms(self.student, batch, *rngs, rank, world)


def train(
    fabric: Fabric,
    recipe: Recipe,
    out: Path,
    begin: Callable[[], None] | None,
    how: How,
) -> dict[str, Any]:
    """The loop itself; rank 0 opens its folder by `begin`, before anything is written there."""
    train, val = splits(recipe)
    embeddings = cached_embeddings(recipe, train)
    pupil = _pupil(fabric, recipe, train, embeddings, compiled=how.compiled)
    run = run_of(recipe, train, val, processes=fabric.world_size)
    saved = out / "state.safetensors"
    progress, run = _resumed(fabric, saved, pupil, run)
    loader = Loader(
        train,
        batch=_share(run.batch, fabric.world_size, out),
        augment=recipe.augment,
        corrupt=recipe.corrupt,
        seed=recipe.seed,
        workers=recipe.data.workers,
        cache=recipe.data.cache,
        rank=fabric.global_rank,
        world=fabric.world_size,
        embeddings=embeddings,
    )
    per_epoch = max(1, len(loader) // recipe.optim.accumulate)
    schedule = Schedule(recipe.optim, per_epoch)
    steps = schedule.steps
    judge_every = recipe.validate_.every or per_epoch
    begun = progress.step
    told = [] if pupil.began is None else [f"begins with {pupil.began}"]
    told += pupil.task.notices
    _say(out, recipe, loader, begun, steps, told, quiet=how.quiet)
    if begun == steps and (done_before := _finished(out)):
        return {} if begin is None else done_before
    journal = _begin(recipe, out, begun, how.journals, begin)
    before_s, waited_s, started = progress.seconds, progress.waited, time.perf_counter()

    batches = loader.batches(begun * recipe.optim.accumulate)
    for step in range(begun, steps):
        rate = schedule.rate(step)
        losses = _learn(fabric, recipe, pupil, batches, step=step, rate=rate, out=out)

        done = step + 1
        progress.step = done
        progress.seconds = before_s + time.perf_counter() - started
        progress.waited = waited_s + loader.waited_s
        judge_now = val is not None and (done % judge_every == 0 or done == steps)
        log_now = done % recipe.log_every == 0 or done == steps or judge_now
        save_now = done % recipe.save_every == 0 or done == steps
        if log_now or save_now:
            progress.last = {"lr": rate, "epoch": step / per_epoch, **losses.means(fabric)}
        if judge_now and val is not None:
            _validate(fabric, pupil, val, recipe, progress, out)
            fabric.barrier()
        if journal is not None:
            if log_now:
                journal.add(done, progress.last)
            how.on_progress(done, steps, progress.last)
            if save_now:
                scaler = fabric.strategy.precision.state_dict()
                state.save(saved, pupil.parts, pupil.optimizer, scaler, progress, run)

    result: dict[str, Any] = {}
    if journal is not None:
        journal.close()
        if val is None:
            progress.best_step = steps
            _save_best(out, pupil, recipe, progress)
        else:
            _calibrate(fabric, recipe, train, val, out)
        epochs = round(steps / per_epoch, 2)
        result = _result(recipe, pupil, progress, steps=steps, epochs=epochs, samples=len(train))
        write_result(out, result)
        from robustseg_core.learn import train_report  # matplotlib takes a second to load

        train_report.write(out, result, pupil.model.spec)
    fabric.barrier()
    return result


def _pupil(
    fabric: Fabric,
    recipe: Recipe,
    train: Dataset,
    embeddings: Embeddings | None,
    *,
    compiled: bool,
) -> _Pupil:
    """Networks, task and optimizer, on this process's device."""
    made = networks(recipe, train)
    model, teacher = made.student, made.teacher
    if recipe.optim.sync_batchnorm and fabric.world_size > 1:
        if fabric.device.type != "cuda":
            raise RobustsegError(
                "optim.sync_batchnorm needs GPUs, and this runs on the CPU; leave it out"
            )
        sync = nn.SyncBatchNorm.convert_sync_batchnorm
        model = sync(model)  # type: ignore[no-untyped-call]
        if recipe.feedback is not None:
            teacher = sync(teacher)  # type: ignore[no-untyped-call]
    task = Task(
        recipe,
        train.modalities,
        teacher=teacher,
        robust=made.robust,
        labelled=train.labelled,
        student=model.spec,
        embeddings=embeddings,
    )
    task.to(fabric.device)
    average = copy.deepcopy(model) if recipe.optim.ema else None
    trained = cast(nn.Module, torch.compile(model)) if compiled else model
    optimizer = optimizer_of(model, recipe.optim, task.learners)
    step, optimizer = fabric.setup(_Step(task, trained), optimizer)
    if average is not None:
        average.to(fabric.device).eval()
    return _Pupil(task, model, made.began, average, step, optimizer)


def _resumed(fabric: Fabric, saved: Path, pupil: _Pupil, run: Run) -> tuple[state.Progress, Run]:
    """How far the run in the folder is, and with what batch; its state is put back."""
    if not saved.exists():
        return state.Progress(), run
    progress, scaler, batch = state.load(saved, pupil.parts, pupil.optimizer, run)
    fabric.strategy.precision.load_state_dict(scaler)
    return progress, replace(run, batch=batch)


def _finished(out: Path) -> dict[str, Any] | None:
    """The result of a run whose steps are all done, if nothing of it is missing."""
    try:
        result = read_json(out / "result.json")
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and (out / BEST).exists() else None


def _begin(
    recipe: Recipe,
    out: Path,
    step: int,
    journals: Sequence[Opener],
    begin: Callable[[], None] | None,
) -> Journal | None:
    """Open folder and journals, and write down what is trained; None: another rank does."""
    if begin is None:
        return None
    begin()
    journal = Journals([opened(out, step) for opened in journals])
    write_recipe(recipe, out)
    return journal


def write_recipe(recipe: Recipe, out: Path) -> None:
    """Write `recipe.yaml` into a run's folder: what it can be compared with when it goes on."""
    identity = json.loads(recipe.model_dump_json(by_alias=True))
    with replacing(out / "recipe.yaml") as path:
        path.write_text(yaml.safe_dump(identity, sort_keys=False))


class _Losses:
    """The loss and its terms in the micro-batches of one step, left on the device.

    Reading one number waits for the device, so all of them are read together, and only in steps
    whose numbers somebody wants.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = ["loss", *names]
        self._seen: set[str] = set()
        self._rows: list[Tensor] = []

    def add(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Keep those of one micro-batch; a term that it has nothing for counts as 0."""
        values = {"loss": loss, **terms}
        self._seen |= values.keys()
        nothing = torch.zeros_like(loss)
        row = [values.get(name, nothing).detach().float() for name in self._names]
        self._rows.append(torch.stack(row))

    def finite(self) -> Tensor:
        """(micro-batches,) bool: whether the loss is a number."""
        return torch.stack([row[0] for row in self._rows]).isfinite()

    def means(self, fabric: Fabric) -> dict[str, float]:
        """Means over micro-batches and processes; all processes must ask."""
        table = torch.stack(self._rows)
        fabric.all_reduce(table, reduce_op="mean")  # in place
        return {
            name: sum(value / len(table) for value in column)
            for name, column in zip(self._names, table.T.tolist(), strict=True)
            if name in self._seen
        }

    def told(self, part: int) -> str:
        """The terms of a micro-batch that are no numbers."""
        values = zip(self._names, self._rows[part].tolist(), strict=True)
        return ", ".join(f"{k} = {v}" for k, v in values if k != "loss" and not math.isfinite(v))


def _learn(
    fabric: Fabric,
    recipe: Recipe,
    pupil: _Pupil,
    batches: Iterator[Batch],
    *,
    step: int,
    rate: float,
    out: Path,
) -> _Losses:
    """One step of the optimizer: as many micro-batches as the recipe accumulates.

    Raises:
        RobustsegError: the loss is not finite; the weights are as they were.
    """
    for group in pupil.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    pupil.step.train()
    task = pupil.task
    parts, losses = [], _Losses([*task.names, *task.measures])
    for part in range(recipe.optim.accumulate):
        batch = next(batches)
        parts.append(batch)
        rngs = _rngs(recipe.seed, step, part, fabric.global_rank)
        waiting = part + 1 < recipe.optim.accumulate
        with fabric.no_backward_sync(pupil.step, enabled=waiting):
            with fabric.autocast():
                terms = pupil.step(
                    _to(batch, fabric.device), rngs, fabric.global_rank, fabric.world_size
                )
            loss = torch.stack([value.float() for value in terms.values()]).sum()
            losses.add(loss, {**terms, **task.measured})
            fabric.backward(loss / recipe.optim.accumulate)
    _expect_finite(fabric, losses, parts, out / f"not_finite_{step}.safetensors", step)
    if recipe.optim.clip_norm:
        _clip(fabric, pupil.optimizer, recipe.optim.clip_norm)
    pupil.optimizer.step()
    pupil.optimizer.zero_grad()
    if pupil.average is not None:
        _update_ema(pupil.average, pupil.model, min(recipe.optim.ema, (1 + step) / (10 + step)))
    if task.solo is not None:
        task.solo.settle(lambda table: fabric.all_reduce(table, reduce_op="sum"))  # in place
    return losses


def _clip(fabric: Fabric, optimizer: torch.optim.Optimizer, norm: float) -> None:
    """Clip the gradients of student, teacher and selection, each by its own norm."""
    fabric.strategy.precision.unscale_gradients(getattr(optimizer, "optimizer", optimizer))
    parts: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        parts.setdefault(group["part"], []).extend(group["params"])
    for parameters in parts.values():
        nn.utils.clip_grad_norm_(parameters, norm, error_if_nonfinite=True)


def _validate(
    fabric: Fabric,
    pupil: _Pupil,
    val: Dataset,
    recipe: Recipe,
    progress: state.Progress,
    out: Path,
) -> None:
    """Validate, all processes together, and keep the weights if they are the best so far."""
    rule, workers = recipe.validate_, recipe.data.workers
    missing = recipe.student.missing
    judged = judge(pupil.validated, val, rule, fabric, workers, missing=missing)
    progress.last |= judged.figures
    if progress.best is None or progress.last["val"] > progress.best:
        progress.best, progress.best_step = progress.last["val"], progress.step
        shown = seen.gathered(fabric, judged, progress.step)
        if fabric.global_rank == 0:
            shown.save(out)
            _save_best(out, pupil, recipe, progress)


def _result(
    recipe: Recipe,
    pupil: _Pupil,
    progress: state.Progress,
    *,
    steps: int,
    epochs: float,
    samples: int,
) -> dict[str, Any]:
    """The content of `result.json`."""
    return {
        "system": recipe.system,
        "seed": recipe.seed,
        "steps": steps,
        "epochs": epochs,
        "samples": samples,
        "init": str(pupil.began) if pupil.began is not None else "random weights",
        "parameters": sum(p.numel() for p in pupil.model.parameters()),
        "loss": progress.last.get("loss"),
        "terms": pupil.task.names,
        "left_out": list(pupil.task.left_out),
        "notices": list(pupil.task.notices),
        "best": progress.best,
        "best_step": progress.best_step,
        "rule": recipe.validate_.rule if recipe.data.val else "last step",
        "seconds": round(progress.seconds, 1),
        "waited_share": round(progress.waited / max(1e-9, progress.seconds), 4),
        "version": __version__,
    }


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


def _say(
    out: Path,
    recipe: Recipe,
    loader: Loader,
    step: int,
    steps: int,
    notices: Sequence[str],
    *,
    quiet: bool,
) -> None:
    """Tell where a run that was there goes on, and with what; and what the task has to say.

    Raises:
        RobustsegError: it is beyond its end, so it was another one.
    """
    if step > steps:
        raise RobustsegError(
            f"{out} holds a run of {step} steps, and there are {steps} with this number of "
            "processes; start as many as before, or choose another --out"
        )
    if loader.rank or (quiet and step == steps):
        return
    if step == steps:
        log.warning(
            "%s holds a finished run: all its %d steps are done; choose another --out to "
            "train again",
            out,
            steps,
        )
        return
    for notice in notices:
        log.warning("%s", notice)
    if step and loader.batch != recipe.optim.batch:
        log.warning(
            "the run goes on with the batch that it had, %d samples in each of the %d processes",
            loader.batch,
            loader.world,
        )


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
    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return Batch(
        images={name: move(image) for name, image in batch.images.items()},
        alive=batch.alive,  # decides shapes: on a device, every pass would wait for it
        label=None if batch.label is None else move(batch.label),
        quality=None if batch.quality is None else move(batch.quality),
        intact={name: move(image) for name, image in batch.intact.items()},
        embeddings=None if batch.embeddings is None else move(batch.embeddings),
        text=None if batch.text is None else move(batch.text),
    )


@torch.no_grad()
def _update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of weights; counts and other integers are copied.

    `torch.optim.swa_utils.AveragedModel` gives the same parameters to the bit at one decay
    (`test/core/learn/test_average.py`), at the same cost, but has one decay for all steps (ours
    warms up), and either leaves running means and variances as the last step had them or
    (`use_buffers`) averages counts of batches, too.
    """
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


def _save_best(out: Path, pupil: _Pupil, recipe: Recipe, progress: state.Progress) -> None:
    model, began = pupil.validated, pupil.began
    data = ", ".join(Path(path).name for path in recipe.data.train)
    rule = f"best {recipe.validate_.rule}" if recipe.data.val else "last"
    provenance = (
        f"robustseg {__version__}, {recipe.system or 'own recipe'}, seed {recipe.seed}, on {data}; "
        f"{rule} at step {progress.best_step}"
    )
    if began is not None:
        provenance += f"; began with {began.source}"
    spec = model.spec.model_copy(
        update={"trained": True, "provenance": provenance, "calibration": None, "references": {}}
    )
    checkpoint.save(out / BEST, model, spec, half=True)


def _calibrate(fabric: Fabric, recipe: Recipe, train: Dataset, val: Dataset, out: Path) -> None:
    """Say in the best checkpoint what its confidence means, and which pictures it knows."""
    if not recipe.validate_.calibrate:
        return
    model = checkpoint.load(out / BEST)
    found = calibrate(
        model,
        val,
        damage=DAMAGE.model_copy(update={"faults": recipe.corrupt.faults}),
        samples=recipe.validate_.calibrate,
        batch=recipe.validate_.batch,
        device=fabric.device,
        seed=recipe.seed,
    )
    known = known_pictures(model.spec, train, val)
    spec = model.spec.model_copy(update={"calibration": found, "references": known})
    checkpoint.save(out / BEST, model, spec, half=True)


def _expect_finite(
    fabric: Fabric, losses: _Losses, parts: Sequence[Batch], path: Path, step: int
) -> None:
    """Stop all processes before a loss that is no number gets into the weights.

    This is the one place in a step where the host waits for the device.

    Raises:
        RobustsegError: a loss is not finite; the first such micro-batch of the first such process
            is in `path`.
    """
    finite = losses.finite()
    wrong = torch.zeros(fabric.world_size, device=finite.device)  # micro-batches of each process
    wrong[fabric.global_rank] = (~finite).sum()
    fabric.all_reduce(wrong, reduce_op="sum")  # in place
    if not wrong.any():
        return
    whose, part = int(wrong.nonzero()[0]), int(finite.logical_not().int().argmax())
    if whose == fabric.global_rank:
        batch = parts[part]
        tensors = {f"images.{name}": image for name, image in batch.images.items()}
        tensors["alive"] = batch.alive
        if batch.label is not None:
            tensors["label"] = batch.label
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
    fabric.barrier()  # torchrun ends all when one ends: let the evidence be written
    if whose != fabric.global_rank:
        raise RobustsegError(f"the loss is not finite at step {step}, in process {whose}")
    raise RobustsegError(
        f"the loss is not finite at step {step}: {losses.told(part)}; the batch is in {path}; "
        "lower optim.lr, set optim.clip_norm, or use optim.precision=32-true"
    )
