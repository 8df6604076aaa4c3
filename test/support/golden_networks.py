"""The published networks with weights by formula, through our import, beside their figures."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from robustseg_core.models.checkpoint import make_spec, untrained
from robustseg_core.models.network import Network
from robustseg_core.models.resize import resize_logits
from robustseg_core.models.subsets import subsets
from robustseg_core.models.weights import import_weights
from robustseg_core.types import Prediction
from support.golden import Shape, fill, golden, picture, sha256_of_fill
from support.parity import Row

SENSORS = ("rgb", "depth", "event", "lidar")
CLASSES = 25
MARGIN = 1e-4
"""Where the two best logits are closer than this, rounding decides the class."""
_BEYOND = (
    r"\.(extra_|FRMs\.|FFMs\.)",
    r"score_predictor|\.ln_[12]\.",
    r"\.score_nets\.2\.|\.ln_2\.",
    r"(?!)",
)
"""Names that CMNeXt with 0, 1, 2 or 3 others does not have, of those with 3."""


@dataclass(frozen=True)
class Compared:
    """One recorded figure, or many, beside ours."""

    official: float
    ours: float
    difference: float
    """The greatest."""


@dataclass(frozen=True)
class Figures:
    """What one forward of the published network gave."""

    logits: NDArray[np.float32]
    """(K, h, w), every `step`-th of the 1/4-size logits."""
    step: int
    labels: NDArray[np.uint8] | None
    """(H', W'), every `label_step`-th of the full-size classes."""
    label_step: int
    norm: float | None
    """Of all logits at 1/4 size."""


def official(architecture: str, backbone: str, others: int = 3) -> dict[str, NDArray[Any]]:
    """Official name -> weights of the formula, of a network for RGB and so many others.

    Raises:
        AssertionError: the formula gives other weights than the recorded ones.
    """
    if architecture == "cmnext":
        facts = golden("cmnext").facts
        key = backbone.upper()
        digest = facts[f"{key}/{others}aux"]["sha256_of_fill"]
        names: Mapping[str, str] = facts[f"{key}/3aux"]["tensors"]
        lacking = re.compile(_BEYOND[others])
        shapes = {name: _shape(s) for name, s in names.items() if not lacking.search(name)}
        weights = fill(shapes, 60000)
    else:
        facts = golden("m_segformer").facts[backbone]
        digest = facts["sha256_of_fill"]
        weights = fill({name: _shape(s) for name, s in facts["tensors"].items()}, 50000)
    assert sha256_of_fill(weights) == digest
    return weights


def imported(architecture: str, backbone: str, width: int, others: int = 3) -> Network:
    """The network with the weights of the formula, under their official names, imported."""
    weights = official(architecture, backbone, others)
    spec = make_spec(
        {
            "modalities": SENSORS[: others + 1],
            "classes": [f"class {k}" for k in range(CLASSES)],
            "palette": [(k, k, k) for k in range(CLASSES)],
            "architecture": architecture,
            "options": {"legacy_scramble": True} if architecture == "cmnext" else {},
            "backbone": backbone,
            "head_width": width,
        },
        source="network of the published code",
    )
    model = untrained(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "official.safetensors"
        save_file(weights, path)
        report = import_weights(path, model, head="need")
    assert report.head == "imported" and set(report.unused) <= {"classifier.weight"}
    return model


def ask(model: Network, images: Mapping[str, Tensor], given: Sequence[str]) -> Prediction:
    """Only these sensors are there."""
    alive = torch.tensor([[name in given for name in model.spec.modalities]])
    batch = len(next(iter(images.values())))
    with torch.inference_mode():
        seen: Prediction = model(
            {name: images[name] for name in given}, alive.expand(batch, -1).contiguous()
        )
    return seen


def compared(figures: Figures, logits: Tensor, size: tuple[int, int]) -> Compared:
    """Logits (1, K, h, w) beside recorded ones: the greatest distance, and the first of each.

    Raises:
        AssertionError: a class differs where rounding does not decide, or the norm does.
    """
    ours = logits[0, :, :: figures.step, :: figures.step].numpy()
    if figures.norm is not None:
        assert abs(float(logits.double().norm()) / figures.norm - 1) < 1e-5
    if figures.labels is not None:
        best, ids = resize_logits(logits, size)[0].topk(2, 0)
        sure = (best[0] - best[1] > MARGIN)[:: figures.label_step, :: figures.label_step].numpy()
        found = ids[0, :: figures.label_step, :: figures.label_step].numpy()
        assert sure.mean() > 0.99 and (found == figures.labels)[sure].all()
    return near(figures.logits, ours)


def near(official: NDArray[Any], ours: NDArray[Any]) -> Compared:
    """Two arrays of one shape; the numbers told are those of the largest element."""
    assert official.shape == ours.shape
    worst = float(np.abs(official.astype(float) - ours).max())
    place = int(np.abs(official).argmax())
    return Compared(float(official.flat[place]), float(ours.flat[place]), worst)


def coarse(x: Tensor, every: int) -> NDArray[Any]:
    """(1, C, h, w) to (C', 3..7, 4): every n-th channel, every (side/4)-th position."""
    height, width = x.shape[2:]
    found: NDArray[Any] = x[0, ::every, :: max(1, height // 4), :: max(1, width // 4)].numpy()
    return found


def m_segformer(backbone: str) -> Iterator[tuple[str, Compared]]:
    """What of it, and the figures: 15 subsets with skip and zero, features, a rectangle."""
    arrays, facts = golden("m_segformer").arrays, golden("m_segformer").facts[backbone]
    model = imported("m_segformer", backbone, 768)
    images = {n: torch.from_numpy(picture(700 + 10 * m, (1, 3, 128, 128))) for m, n in _columns()}
    for missing in ("skip", "zero"):
        for subset in subsets(SENSORS):
            key = f"{backbone}/{missing}/{'+'.join(subset)}"
            if missing == "zero" and subset == SENSORS:
                continue  # nothing is missing: see skip
            shown = {n: x if n in subset else torch.zeros_like(x) for n, x in images.items()}
            seen = ask(model, shown, subset if missing == "skip" else SENSORS)
            record = Figures(
                arrays[f"{key}/logits4"],
                8,
                arrays[f"{key}/argmax"],
                4,
                facts["logits"][f"{missing} {'+'.join(subset)}"]["l2"],
            )
            yield f"logits, {missing}", compared(record, seen.logits, (128, 128))
    whole = ask(model, images, SENSORS)
    for stage, packed in enumerate(whole.features):
        for column, name in _columns():
            record_of = arrays[f"{backbone}/feature/{name}/{stage + 1}"]
            yield "features", near(record_of, coarse(packed[column : column + 1], 8))
    images = {n: torch.from_numpy(picture(900 + 10 * m, (2, 3, 64, 96))) for m, n in _columns()}
    logits = ask(model, images, SENSORS).logits[:, :, ::4, ::4].numpy()
    yield "logits, two of 64x96", near(arrays[f"{backbone}/rect/logits4"], logits)


def cmnext(backbone: str, width: int, others: int) -> Iterator[tuple[str, Compared]]:
    """What of it, and the figures: logits and the four maps that the head gets.

    Ours in float64: what is left is the published code's own rounding, which is not small at B2.
    """
    key = f"{backbone.upper()}/{others}aux"
    arrays, facts = golden("cmnext").arrays, golden("cmnext").facts[key]
    model = imported("cmnext", backbone, width, others).double()
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]
    given = SENSORS[: others + 1]
    shape = (1, 3, 96, 128)
    images = {n: torch.from_numpy(picture(1100 + 10 * m, shape)).double() for m, n in _columns()}
    seen = ask(model, images, given)
    record = Figures(arrays[f"{key}/logits4"], 4, arrays[f"{key}/argmax"], 2, facts["logits"]["l2"])
    yield "logits", compared(record, seen.logits, (96, 128))
    for stage, (fused, told) in enumerate(zip(seen.fused, facts["stages"], strict=True)):
        assert abs(float(fused.double().norm()) / told["l2"] - 1) < 1e-5
        yield "maps of the head", near(arrays[f"{key}/fused_{stage + 1}"], coarse(fused, 4))


def gathered(
    what: str, found: Iterable[tuple[str, Compared]], allowed: Mapping[str, float]
) -> Iterator[Row]:
    """One row for each kind of figure: the first numbers, the greatest difference."""
    kinds: dict[str, list[Compared]] = {}
    for kind, each in found:
        kinds.setdefault(kind, []).append(each)
    for kind, every in kinds.items():
        worst = max(each.difference for each in every)
        yield Row(f"{what}: {kind}", every[0].official, every[0].ours, worst, allowed[kind])


def _columns() -> list[tuple[int, str]]:
    return list(enumerate(SENSORS))


def _shape(sides: str) -> Shape:
    return tuple(map(int, sides.split()))
