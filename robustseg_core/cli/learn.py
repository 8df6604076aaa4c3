"""The commands that learn and score: `robustseg train`, `calibrate`, `eval`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from robustseg_core.cli.early import expect_weights
from robustseg_core.cli.guard import wishes
from robustseg_core.cli.options import (
    ALL_CORES,
    MOST,
    MOST_JOBS,
    MOST_SEEDS,
    DataKind,
    DataOptions,
    NetworkDevice,
    Overrides,
    RayAddress,
)
from robustseg_core.cli.terminal import answer, err, progress_bar, put
from robustseg_core.errors import RobustsegError
from robustseg_core.text import visible

if TYPE_CHECKING:
    from robustseg_core.evaluation.many import Plan
    from robustseg_core.evaluation.results import Results
    from robustseg_core.jobs import Workers

commands = typer.Typer()
RESULTS = Path("out/eval")
"""Of `eval`, if nobody says where."""


@commands.command()
def train(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE... [KEY=VALUE...]",
            help="Laid over one another: a system (teacher, anyseg, ...), then its data (sim, "
            "deliver, ...), as `robustseg list` names both; or files. KEY=VALUE as with --set.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one goes on.")],
    teacher: Annotated[
        Path | None, typer.Option(help="Checkpoint of the teacher, for what distills.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="File of `robustseg embed`, for what learns from language.")
    ] = None,
    device: NetworkDevice = "auto",
    *,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="torch.compile: a start of minutes, then faster steps."),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Train a teacher, or a student that works with any subset of the sensors.

    On several processes: torchrun --nproc_per_node 4 -m robustseg_core.cli train ...

    `prediction` weighs 50 / classes, unless distill.prediction.weight is set.

    [dim]Example:[/] robustseg train anyseg sim --teacher runs/teacher/best.safetensors --out
    runs/anyseg
    """
    from robustseg_core import config
    from robustseg_core.learn.shipped import expect_files

    layers = [word for word in recipes if "=" not in word or Path(word).is_file()]
    words = [word for word in recipes if word not in layers] + (overrides or [])
    words += [f"teacher={config.scalar(str(teacher))}"] if teacher else []
    words += [f"data.embeddings={config.scalar(str(embeddings))}"] if embeddings else []
    expect_files(layers, words)
    from robustseg_core.learn.fit import fit
    from robustseg_core.learn.recipe import load_recipe

    recipe = load_recipe(layers, words)
    system = visible(recipe.system or "training")
    with progress_bar("steps") as progress:
        task, title = progress.add_task(system, total=None), system

        def enter(stage: str) -> None:
            nonlocal title
            title = f"{system}, {stage}"

        def show(done: int, steps: int, numbers: dict[str, float]) -> None:
            text = f"{title}: loss {numbers['loss']:.3f}" if numbers else title
            progress.update(task, completed=done, total=steps, description=text)

        result = fit(
            recipe, out, device=device, compiled=compiled, on_progress=show, on_stage=enter
        )
    if not result:  # another rank's
        return
    answer(result)
    stages = result.get("stages", {"": result})
    for stage, made in stages.items():
        best = "" if made["best"] is None else f", mIoU {100 * made['best']:.1f} %"
        err.say(
            f"{stage + ': ' if stage else ''}{made['steps']} steps in {made['seconds']:.0f} s; "
            f"{made['rule']}: step {made['best_step']}{best}"
        )
        if made["left_out"]:
            names = ", ".join(made["left_out"])
            err.notice(f"left out, because there are no labels: {names}")
    reports = [str(Path(stage) / "report.html") for stage in stages]
    logs = [str(Path(stage) / "log.csv") for stage in stages]
    for name in ("best.safetensors", "result.json", *reports, *logs):
        err.say(f"  {out / name}")


@commands.command()
def calibrate(
    weights: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="It stays as it is.")],
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="Labelled folders of shards, or the root of a data set (--kind), of many scenes "
            "that the weights did not learn from.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The new checkpoint (.safetensors).")],
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of wrong pixels that is promised not to be exceeded (repeatable); default: "
            "0.05, 0.1 and 0.2."
        ),
    ] = None,
    faults: Annotated[
        str,
        typer.Option(
            metavar="all|none|NAME,NAME",
            help="What breaks the sensors of every second view, to learn how sure a damaged "
            "picture leaves the network.",
        ),
    ] = "all",
    kind: DataKind = "shards",
    split: Annotated[str, typer.Option(metavar="train|val|test", help="Which part of it.")] = "val",
    size: Annotated[
        str,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Of the samples, and so of the new checkpoint's input; default: as with "
            "`robustseg eval`.",
        ),
    ] = "",
    samples: Annotated[int, typer.Option(min=0, max=MOST, help="Evenly spread; 0: all.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=MOST, help="Samples at once.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEEDS, help="Of pixels and faults.")] = 0,
    device: NetworkDevice = "auto",
    options: DataOptions = None,
) -> None:
    """Make a checkpoint's confidence true for the sensors alive; `train` does so by itself.

    [dim]Example:[/] robustseg calibrate student.safetensors shards/val_* --out true.safetensors
    """
    from robustseg_core import config, datasets
    from robustseg_core.engines.eager import pick_device, share_cores
    from robustseg_core.engines.weights import weights_file
    from robustseg_core.learn.calibrate import ALPHAS, DAMAGE, calibrate_file
    from robustseg_core.models import checkpoint
    from robustseg_core.models.calibration import temperature_at
    from robustseg_core.types import SURE, parse_size

    damage = None
    if faults != "none":
        damage = config.parse(type(DAMAGE), {**DAMAGE.model_dump(), "faults": faults})
    weights = weights_file(weights)
    spec = checkpoint.spec_of(weights)
    collection = datasets.load(kind)
    dataset = collection(
        data,
        split,
        size=parse_size(size) if size else collection.protocol_size,
        modalities=spec.modalities if kind != "shards" else None,
        options=config.override({}, options or ()),
    )
    share_cores(pick_device(device))
    with progress_bar("samples") as progress:
        task = progress.add_task("calibrating", total=None)
        made = calibrate_file(
            weights,
            dataset,
            out,
            alphas=alpha or ALPHAS,
            damage=damage,
            samples=samples,
            batch=batch,
            seed=seed,
            device=device,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    found = made.calibration
    assert found is not None
    answer({"calibration": found.model_dump(mode="json"), "out": out})
    table = Table(title=f"On {visible(found.data)}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("alive")
    table.add_column("temperature", justify="right")
    table.add_column("at quality 0.5", justify="right")
    for alphas in found.alphas:
        table.add_column(f"no promise, {alphas:g}", justify="right")
    for name, trust in found.subsets.items():
        mute = [sum(least == SURE for least in row) for row in trust.well]
        cells = [f"{trust.temperature:.2f}", f"{temperature_at(trust, 0.5):.2f}"]
        table.add_row(name, *cells, *(f"{n} of {len(made.classes)}" for n in mute))
    err.print(table)
    err.say(f"  {out}")


def _evaluated(plan: Plan, workers: Workers | None) -> tuple[Results, int]:
    """The results, and how many recordings were there before; None: in one pass that keeps none."""
    from robustseg_core import evaluation
    from robustseg_core.engines.eager import pick_device, share_cores
    from robustseg_core.evaluation.many import evaluate_each

    with progress_bar("recordings" if workers else "samples") as progress:
        task = progress.add_task("evaluating", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        if workers is not None:
            return evaluate_each(plan, workers, on_done=show)
        dataset = plan.data.open()
        share_cores(pick_device(plan.how.device))
        how = asdict(plan.how)
        return evaluation.evaluate(plan.weights, dataset, **how, on_progress=show), 0


@commands.command("eval")
def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT DATA...",
            help="Weights (a file, or `street`), and folders of shards or the root of a data set. "
            "With --compare: "
            "results of earlier evaluations.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; default: out/eval. With --compare: a new file for what "
            "would be printed."
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="A data set (shards, deliver, ...), as `robustseg list` names them; default: that "
            "of an imported checkpoint, with its split, size, --missing and options, or shards."
        ),
    ] = "",
    split: Annotated[str, typer.Option(metavar="train|val|test", help="Default: test.")] = "",
    size: Annotated[
        str,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Of the samples; default: that of the data set's published figures (1024x1024 for "
            "deliver, muses, mcubes), or else their own.",
        ),
    ] = "",
    protocol: Annotated[
        list[str] | None,
        typer.Option(metavar="subsets|emm|rmm|nm", help="Repeatable; default: all."),
    ] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="skip|zero",
            help="Only protocols that represent missing sensors so (subsets; emm, rmm; "
            "repeatable); default: both, or as an imported checkpoint's tables do.",
        ),
    ] = None,
    absent: Annotated[
        str,
        typer.Option(
            metavar="zero|skip",
            help="Classes in neither truth nor masks: `zero` counts them as 0, `skip` leaves them "
            "out of the mean.",
        ),
    ] = "zero",
    batch: Annotated[int, typer.Option(min=1, max=MOST, help="Samples at once.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEEDS, help="Of RMM and NM.")] = 0,
    device: NetworkDevice = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_JOBS,
            help="Recordings that are evaluated at once, each a task of its own; what is done is "
            "kept in OUT, and not done again. The figures are the same.",
        ),
    ] = None,
    ray: RayAddress = "",
    options: DataOptions = None,
    *,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --jobs or --ray: do again what was done before.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option(help="Evaluate though the data lacks a sensor of the network.")
    ] = False,
    compare: Annotated[
        bool, typer.Option(help="Compare results.json files with the first of them.")
    ] = False,
) -> None:
    """Say what a network is worth when sensors are missing, damaged or noisy.

    [dim]Example:[/] robustseg eval runs/anyseg/best.safetensors shards/test --out out/anyseg

    [dim]Example:[/] robustseg eval anyseg.safetensors data/DELIVER

    [dim]Example:[/] robustseg eval --compare out/teacher/results.json out/anyseg/results.json
    """
    if len(paths) > 1 and not compare:
        expect_weights(paths[0])
    from robustseg_core import config, evaluation
    from robustseg_core.types import parse_size

    if compare:
        found = evaluation.compare(paths)
        wishes.out = out
        if not answer([asdict(comparison) for comparison in found]):
            put("".join(f"{comparison.markdown()}\n" for comparison in found))
        return
    out = out or RESULTS
    from robustseg_core import datasets
    from robustseg_core.engines.weights import weights_file
    from robustseg_core.evaluation.confidence import of_subsets, prior_miou, sureness
    from robustseg_core.evaluation.figures import KEY, figures
    from robustseg_core.evaluation.many import Data, Plan
    from robustseg_core.evaluation.run import How
    from robustseg_core.jobs import Workers
    from robustseg_core.models import checkpoint
    from robustseg_core.storage.output_folder import META, staged

    if len(paths) < 2:
        raise RobustsegError(f"got {paths[0]} alone; give a checkpoint and then data")
    weights = weights_file(paths[0])
    spec = checkpoint.spec_of(weights)
    known = spec.data if spec.data is not None and kind in ("", spec.data.kind) else None
    name = kind or (known.kind if known else "shards")
    told = config.override(dict(known.options) if known else {}, options or ())
    data = Data(
        name,
        tuple(paths[1:]),
        split or (known.split if known else "test"),
        parse_size(size) if size else (spec.size if known else datasets.load(name).protocol_size),
        spec.modalities if known else None,
        json.dumps(told),
    )
    usual = (known.missing,) if known and not protocol else evaluation.MISSING
    how = How(
        protocols=tuple(protocol or evaluation.PROTOCOLS),
        missing=tuple(missing or usual),
        absent=absent,
        batch=batch,
        seed=seed,
        device=device,
        allow_missing=allow_missing,
    )
    with staged(out, command="eval", inputs=paths) as folder:
        plan = Plan(weights, data, how, out / META / "parts", fresh=fresh)
        workers = Workers(jobs or ALL_CORES, ray) if jobs or ray else None
        results, kept = _evaluated(plan, workers)
        evaluation.write(results, folder)
    table = Table(title=results.about.caption(), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("figure")
    table.add_column("mIoU, %", justify="right")
    values = figures(results)
    answer(
        {
            "about": results.about.model_dump(mode="json"),
            "miou": values,
            "position_prior": prior_miou(results),
            "out": out,
        }
    )
    for name in (name for name in KEY if name in values):
        table.add_row(name, f"{100 * values[name]:.2f}")
    table.add_row("position prior (no sensor)", f"{100 * prior_miou(results):.2f}")
    err.print(table)
    if kept:
        err.say(f"{kept} of the recordings were done before")
    if own := of_subsets(sureness(results)):
        said = "calibrated" if results.about.calibrated else "not calibrated"
        errors = [100 * row.error for row in own]
        err.say(
            f"confidence ({said}): expected calibration error {errors[-1]:.1f} % with all sensors, "
            f"{max(errors):.1f} % with the worst subset"
        )
    for name in ("report.html", "table.md", "results.json", "counts.npz"):
        err.say(f"  {out / name}")
