"""The recorded lessons of `test/data/golden/losses.*`, and our distillers at them.

What the published code drew by chance was recorded, and is put in place of our own random numbers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from robustseg_core import distill
from robustseg_core.distill import Distiller, Lesson
from robustseg_core.distill._rows import Rows, table
from robustseg_core.distill.hpdm import Hpdm
from robustseg_core.distill.rrm import Rrm
from robustseg_core.learn.losses import ohem_cross_entropy
from robustseg_core.learn.recipe import known_recipes, load_recipe
from robustseg_core.learn.tasks import Task
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import IGNORE, Batch, Prediction
from support.golden import Golden, bell, golden

Array = NDArray[Any]
CASES = ("c0", "c1", "c2", "c3")
STAGES = 4
COPIES = 10
DIRECTIONS = 90000
"""Seed of the first direction that gradients were projected on."""
LEGACY_HPDM = {"legacy_double_norm": True, "legacy_absent": True}
TERMS: dict[str, tuple[str, dict[str, Any]]] = {
    "mad": ("prediction", {"legacy_mean": True, "legacy_ignored": True}),
    "umd": ("unimodal", {"axis": "height", "legacy_mean": True, "legacy_ignored": True}),
    "cmd": ("crossmodal", {"legacy_code": True}),
    "hpdm_same": ("hpdm", {"pairing": "same", **LEGACY_HPDM}),
    "hpdm_random": ("hpdm", {"pairing": "legacy_random", **LEGACY_HPDM}),
    "ifv_modalities": ("ifv", {"maps": "all", "legacy_width_axis": True}),
    "ifv_fused": ("ifv", {"maps": "fused", "legacy_width_axis": True}),
    "rrm": (
        "rrm",
        {
            "stage_weights": (1.0, 1.0, 1.0, 1.0),
            "legacy_noise": True,
            "legacy_spread": True,
            "legacy_height": True,
            "legacy_scale": True,
        },
    ),
}
"""Name of a recorded term -> the distiller and its options."""
PUSHES = ("all", "half", "few")
"""How many pixels are hard in the three recorded cross-entropies."""


@cache
def recorded() -> Golden:
    """Read once."""
    return golden("losses")


def facts(case: str) -> dict[str, Any]:
    """Sizes, values and gradients of a case."""
    return recorded().facts[case]


def terms_of(case: str) -> list[str]:
    """Recorded terms of a case, cross-entropies too."""
    return list(facts(case)["values"])


@cache
def inputs(case: str) -> tuple[list[Array], list[Array], list[Array]]:
    """Features of student and teacher by stage (sensors, B, C, h, w), and the logits of both."""
    about = facts(case)
    B, M, K, seed, index = (about[k] for k in ("B", "M", "K", "seed", "index"))
    teacher = [
        bell(seed + s, (M, B, C, about["H"] >> s + 2, about["W"] >> s + 2)).astype(np.float32)
        for s, C in enumerate(about["dims"])
    ]
    student = [
        (x[index] + 0.7 * bell(seed + 10 + s, x[index].shape)).astype(np.float32)
        for s, x in enumerate(teacher)
    ]
    size = (B, K, about["H"] // 4, about["W"] // 4)
    logits = [(1.5 * bell(seed + 30 + i, size)).astype(np.float32) for i in range(2)]
    return student, teacher, logits


def lesson(case: str, dtype: torch.dtype = torch.float64) -> Lesson:
    """The inputs of a case; the student's are leaves."""
    about = facts(case)
    B, M = about["B"], about["M"]
    student, teacher, logits = inputs(case)

    def seen(columns: list[int], maps: list[Array], logits: Array) -> Prediction:
        rows = [torch.tensor(x, dtype=dtype).flatten(0, 1).requires_grad_() for x in maps]
        modality = torch.tensor(columns).repeat_interleave(B)
        sample = torch.arange(B).repeat(len(columns))
        said = torch.tensor(logits, dtype=dtype, requires_grad=True)
        return Prediction(said, rows, sample, modality)

    label = torch.from_numpy(recorded().arrays[f"{case}/label"].astype(np.int64))
    return Lesson(
        student=seen(about["index"], student, logits[0]),
        teacher=seen(list(range(M)), teacher, logits[1]),
        batch=B,
        modalities=M,
        classes=about["K"],
        label=label,
        generator=torch.Generator(),
    )


class ToldHpdm(Hpdm):
    """HPDM whose pairs were drawn by the published code."""

    def __init__(self, options: dict[str, Any], case: str) -> None:
        super().__init__(options)
        self.name = "hpdm"
        self._slots = iter(recorded().arrays[f"{case}/hpdm_random_student_slot"].transpose(1, 0, 2))

    def partners(self, lesson: Lesson) -> tuple[Rows, Rows]:
        """Of the next stage; the record has (B, M): the student's slot of each teacher's."""
        slot = torch.from_numpy(next(self._slots))
        own = slot[lesson.teacher.sample, lesson.teacher.modality]
        return table(lesson.student, lesson)[lesson.teacher.sample, own], slice(None)


class ToldRrm(Rrm):
    """RRM with the noise that the published code was given."""

    def __init__(self, options: dict[str, Any], case: str) -> None:
        super().__init__(options)
        self.name = "rrm"
        about = facts(case)
        self._kept = len(about["index"])
        self._seed = about["seed"] + 100
        self._stage = 0

    def unit_noise(
        self, lesson: Lesson, slot: Tensor, shape: tuple[int, ...], like: Tensor
    ) -> Iterator[Tensor]:
        """Draws were counted by sample, stage, sensor, and the student's before the teacher's."""
        n, copies, C, h, w = shape
        stage, self._stage = self._stage, self._stage + 1
        for side in range(2):
            rows = []
            for row in range(n):
                kept, sample = divmod(row, lesson.batch)
                count = 2 * ((sample * STAGES + stage) * self._kept + kept) + side
                drawn = np.round(32 * bell(self._seed + count, (copies * C, h * w))) / 32
                rows.append(drawn.reshape(C, copies, h, w).swapaxes(0, 1))
            yield torch.from_numpy(np.stack(rows)).to(like)


TOLD: dict[str, Callable[[dict[str, Any], str], Distiller]] = {"rrm": ToldRrm}


def told(name: str, options: dict[str, Any], case: str) -> Distiller:
    """A distiller with the record's random numbers instead of its own."""
    if name == "hpdm" and options.get("pairing") == "legacy_random":
        return ToldHpdm(options, case)
    return TOLD[name](options, case) if name in TOLD else distill.load(name)(options)


def term(case: str, name: str, lesson: Lesson) -> Tensor:
    """Our value of a recorded term, unweighted."""
    if name.startswith("ohem_"):
        return cross_entropy(lesson, facts(case)["push"][name.removeprefix("ohem_")])
    return told(*TERMS[name], case)(lesson)


def cross_entropy(lesson: Lesson, push: float) -> Tensor:
    """On enlarged logits, the true class of each known pixel raised by `push`."""
    label = lesson.label
    assert label is not None
    logits = resize_logits(lesson.student.logits, label.shape[1:])
    known = label != IGNORE
    hot = F.one_hot(label.where(known, 0), lesson.classes) * known[..., None]
    return ohem_cross_entropy(logits + push * hot.permute(0, 3, 1, 2), label)


@dataclass(frozen=True)
class Measured:
    """A number of theirs and of ours, and the greatest difference where it stands for more."""

    official: float
    ours: float
    difference: float
    """Relative; of a gradient, to its norm over all stages."""


def measured(case: str, name: str, dtype: torch.dtype = torch.float64) -> tuple[Measured, Measured]:
    """Value and gradient of a term; of the gradient the norm, and what it is along directions."""
    own = lesson(case, dtype)
    term_of = term(case, name, own)
    term_of.backward()
    told, value = facts(case)["values"][name], float(term_of.detach())
    record = facts(case)["gradients"]
    if name == "mad" or name.startswith("ohem_"):
        parts = [(own.student.logits.grad, record[name])]
    else:
        kept = len(facts(case)["index"])
        parts = [
            (x.grad.unflatten(0, (kept, own.batch)), record[f"{name}_{s + 1}"])
            for s, x in enumerate(own.student.features)
        ]
    norms, apart = [], []
    for grad, said in parts:
        ours = grad.double().numpy()
        norms.append((said["norm"], float(np.linalg.norm(ours))))
        along = [float((ours * direction(i, ours.shape)).sum()) for i in range(4)]
        apart += [abs(a - b) for a, b in zip(along, said["along"], strict=True)]
        apart.append(abs(norms[-1][0] - norms[-1][1]))
    official, norm = (float(np.linalg.norm([pair[i] for pair in norms])) for i in range(2))
    return (
        Measured(told, value, abs(value - told) / abs(told)),
        Measured(official, norm, max(apart) / official),
    )


@cache
def direction(number: int, shape: tuple[int, ...]) -> Array:
    """One that gradients were projected on."""
    return bell(DIRECTIONS + number, shape)


@dataclass(frozen=True)
class Released:
    """A published script, and the words that make a recipe of ours it."""

    recipe: str
    what: str
    """Which of its losses, in the words of the recipe's comment."""
    weights: dict[str, float]
    """Recorded term -> its factor in the script."""
    cases: tuple[str, ...]

    def words(self) -> list[str]:
        """Of the comment in the recipe's file."""
        lines = known_recipes()[self.recipe].read_text().splitlines()
        start = next(i for i, line in enumerate(lines) if f"as released, {self.what}" in line)
        while not lines[start].startswith("#   "):
            start += 1
        told = itertools.takewhile(lambda line: line.startswith("#   "), lines[start:])
        return re.findall(r"\S+=\{.*?\}|\S+", " ".join(line[1:].strip() for line in told))


RELEASED = (
    Released("anyseg", "UMD and CMD", {"mad": 50, "umd": 5, "cmd": 10}, CASES),
    Released(
        "robustseg_v1",
        "missing sensors zeroed",
        {"mad": 50, "hpdm_random": 110, "rrm": 1e-4 * 1e-10},
        ("c0",),
    ),
    Released(
        "robustseg_v1",
        "missing sensors skipped",
        {"mad": 50, "hpdm_same": 100, "rrm": 12 * 1e-5},
        CASES,
    ),
)


class _Says(nn.Module):
    """A network that says what was recorded."""

    head_form = "folded"

    def __init__(self, prediction: Prediction) -> None:
        super().__init__()
        self._prediction = prediction

    def forward(self, *inputs: object) -> Prediction:
        return self._prediction


def total(case: str, released: Released) -> Measured:
    """The loss of a recipe with its released words, through the task that trains."""
    recipe = load_recipe([released.recipe], released.words())
    own = lesson(case)
    sensors = [f"sensor {m}" for m in range(own.modalities)]
    task = Task(recipe, sensors, teacher=_Says(own.teacher))  # type: ignore[arg-type]
    task.distillers = {name: told(name, recipe.distill[name], case) for name in recipe.distill}
    images = {sensors[0]: torch.empty(own.batch, 3, *own.label.shape[1:])}  # of which it sees none
    alive = torch.ones(own.batch, own.modalities, dtype=torch.bool)
    batch = Batch(images, alive, own.label)
    rng = torch.Generator().manual_seed(0)
    terms = task.terms(_Says(own.student), batch, rng, rng)
    ours = float(torch.stack(list(terms.values())).sum().detach())
    values = {"ohem_all": 1.0, **released.weights}
    official = sum(factor * facts(case)["values"][name] for name, factor in values.items())
    return Measured(official, ours, abs(ours - official) / official)
