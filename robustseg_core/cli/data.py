"""The commands that make training data: `robustseg extract`, `label`, `embed`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from robustseg_core.cli.early import expect_params, expect_recordings, expect_weights
from robustseg_core.cli.options import (
    ALL_CORES,
    MOST,
    Bags,
    DataKind,
    DataOptions,
    Jobs,
    NetworkDevice,
    Overrides,
    Params,
    RayAddress,
)
from robustseg_core.cli.terminal import answer, err, progress_bar

commands = typer.Typer()


@commands.command()
def extract(
    bags: Bags,
    out: Annotated[Path, typer.Option(help="Folder of the shards, one folder per recording.")],
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Of the samples; both divide by 32.")
    ] = "256x192",
    labels: Annotated[
        str,
        typer.Option(
            help="auto, required, none, a topic, or a folder that `robustseg label` made (or of "
            "PNGs named by stamp)."
        ),
    ] = "auto",
    every: Annotated[int, typer.Option(min=1, max=MOST, help="Keep every n-th set.")] = 1,
    modality: Annotated[
        list[str] | None, typer.Option(help="Sensors to keep (repeatable); default: all.")
    ] = None,
    class_map: Annotated[
        Path | None, typer.Option(help="YAML: id in the labels -> id to learn, and names.")
    ] = None,
    encoding: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SENSOR.KEY=VALUE",
            help="How a sensor becomes an image, e.g. event.form=voxel_grid (repeatable).",
        ),
    ] = None,
    params: Params = None,
    jobs: Jobs = ALL_CORES,
    ray: RayAddress = "",
    *,
    overwrite: Annotated[
        bool, typer.Option(help="Replace what was extracted with other options.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Turn recordings into training data: what the node would have seen, as WebDataset shards.

    [dim]Example:[/] robustseg extract drives/*.mcap --out shards
    """
    expect_params(params)
    expect_recordings(bags, each=True)
    from robustseg_core import config
    from robustseg_core.extraction.extract import Extraction
    from robustseg_core.extraction.extract import extract as run
    from robustseg_core.types import parse_size

    with progress_bar("%") as progress:
        task = progress.add_task("extracting", total=100)
        done = run(
            bags,
            out,
            Extraction(
                params=params,
                overrides=tuple(overrides or ()),
                labels=labels,
                class_map=class_map,
                every=every,
                size=parse_size(size),
                modalities=tuple(modality or ()),
                encodings=config.override({}, encoding or ()),
            ),
            jobs=jobs,
            ray=ray,
            overwrite=overwrite,
            on_progress=lambda share, samples: progress.update(
                task, completed=round(100 * share), description=f"{samples} samples"
            ),
        )
    parts = f"{done['labelled']} labelled, {done['complete']} with all sensors"
    _tell(done, f"{done['samples']} samples ({parts}), {done['bytes'] / 1e6:.1f} MB", out)


@commands.command()
def label(
    bags: Bags,
    weights: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="A checkpoint of ours (.safetensors), which sees all its sensors; or one that "
            "sees the camera: the folder or hub id of a `transformers` segmentation checkpoint, or "
            "an .onnx file.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the masks; for `extract --labels`.")],
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Pixels that are less sure stay unlabelled.")
    ] = 0.7,
    every: Annotated[int, typer.Option(min=1, max=MOST, help="Label every n-th set.")] = 1,
    classes: Annotated[
        Path | None, typer.Option(help="YAML list of names, of an .onnx file that tells none.")
    ] = None,
    params: Params = None,
    jobs: Jobs = 1,
    ray: RayAddress = "",
    *,
    overwrite: Annotated[bool, typer.Option(help="Replace masks made otherwise.")] = False,
    overrides: Overrides = None,
) -> None:
    """Label recordings with a trained network: masks, and how sure it was.

    [dim]Example:[/] robustseg label drive.mcap --weights runs/teacher/best.safetensors --out masks
    """
    expect_params(params)
    expect_recordings(bags, each=True)
    expect_weights(weights)
    from robustseg_core.extraction.label import label_bags
    from robustseg_core.extraction.teachers import TeacherSource

    ours = weights.endswith(".safetensors") and classes is None
    teacher = Path(weights) if ours else TeacherSource(weights, classes=classes)
    with progress_bar("%") as progress:
        task = progress.add_task("labelling", total=100)
        done = label_bags(
            bags,
            teacher,
            out,
            params=params,
            overrides=overrides or (),
            confidence_threshold=confidence,
            every=every,
            jobs=jobs,
            ray=ray,
            overwrite=overwrite,
            on_progress=lambda share, masks: progress.update(
                task, completed=round(100 * share), description=f"{masks} masks"
            ),
        )
    share = 100 * done["labelled_share"]
    _tell(done, f"{done['samples']} masks, {share:.0f} % of their pixels labelled", out)


@commands.command()
def embed(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="What will be trained on (data.train): folders of shards, or the root of a data "
            "set (--kind).",
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(metavar="PATH", help="Folder of a CLIP checkpoint, as `transformers` saves."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The embeddings (.safetensors).")],
    kind: DataKind = "shards",
    size: Annotated[
        str,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="data.size of the recipe; default: that of the published figures, as in the data "
            "set's recipe, or else the samples' own.",
        ),
    ] = "",
    modality: Annotated[
        list[str] | None, typer.Option(help="Sensors to embed (repeatable); default: all.")
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(metavar="FILE", help='JSON: {"SAMPLE": "what it shows"}.')
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MOST, help="Samples at once.")] = 32,
    device: NetworkDevice = "auto",
    options: DataOptions = None,
) -> None:
    """Cache what a vision-language model makes of training data, for `train any2seg`.

    [dim]Example:[/] robustseg embed shards/study_train_* --model clip-vit-large-patch14 --out
    embeddings.safetensors
    """
    from robustseg_core import config, datasets
    from robustseg_core.learn import embeddings
    from robustseg_core.learn.embed import embed as run
    from robustseg_core.learn.embed import read_captions
    from robustseg_core.types import parse_size

    told = None if captions is None else read_captions(captions)
    collection = datasets.load(kind)
    dataset = collection(
        data,
        "train",
        size=parse_size(size) if size else collection.protocol_size,
        modalities=modality or None,
        options=config.override({}, options or ()),
    )
    with progress_bar("samples") as progress:
        task = progress.add_task("embedding", total=len(dataset))
        made = run(
            dataset,
            model,
            captions=told,
            batch=batch,
            device=device,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    embeddings.save(out, made)
    answer(
        {
            "samples": len(made.ids),
            "modalities": made.modalities,
            "classes": made.classes,
            "width": made.width,
            "out": out,
        }
    )
    captioned = "no captions" if made.text is None else f"{made.text.any(1).sum()} captions"
    err.say(
        f"{len(made.ids)} samples of {', '.join(made.modalities)}, {captioned}, "
        f"{len(made.classes)} class names: {made.width} numbers each"
    )
    err.say(f"  {out}")


def _tell(done: Mapping[str, Any], sum_up: str, out: Path) -> None:
    """What was made of all recordings, after what there is to be said of each."""
    answer(done)
    for row in done["recordings"]:
        for notice in row["notices"]:
            err.notice(f"{row['name']}: {notice}")
    err.say(sum_up)
    err.say(f"  {out}")
