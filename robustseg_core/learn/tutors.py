"""Whom a student learns from: a frozen teacher, one that learns back, or what two are best at.

A tutor answers a batch with a `Prediction` that the distillers take for the teacher's. What it
learns itself has terms of its own, whose gradients never meet the student's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from robustseg_core import distill
from robustseg_core.distill import Distiller, FeatureSelection, Lesson
from robustseg_core.learn.recipe import FeedbackRecipe, Recipe, SelectRecipe
from robustseg_core.models.network import Network, PackedNetwork, packed_order
from robustseg_core.types import Batch, Prediction

LabelLoss = Callable[[Tensor, Tensor], Tensor]
"""Cross-entropy of logits (B, K, h, w) and a label (B, H, W)."""
Shown = tuple[Mapping[str, Tensor], Tensor]
"""Images, and (B, M) alive, as a network takes them."""


class Tutor(ABC):
    """Answers batches; the base of every kind."""

    name: str = ""
    """What its parameters are called in the state of a run."""
    rate: float = 1.0
    """Learning rate of its parameters, over that of the student."""
    terms: tuple[str, ...] = ()
    """Of its own loss."""
    measures: tuple[str, ...] = ()
    """Names of the figures in `measured`."""

    def __init__(self) -> None:
        self.measured: dict[str, Tensor] = {}
        """Figures of the newest answer, for the journal."""

    @property
    def learner(self) -> nn.Module | None:
        """What of it learns."""
        return None

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move all of it to a device."""

    @abstractmethod
    def answer(self, batch: Batch, shown: Shown) -> Prediction:
        """What there is to learn about a batch.

        Args:
            batch: the tutor sees all that is there, before anything was broken on purpose.
            shown: what the student sees of it.
        """

    def compared(self, said: Prediction) -> Prediction:
        """The student's prediction, in the form of the answers."""
        return said

    def own_terms(self, answer: Prediction, lesson: Lesson) -> dict[str, Tensor]:
        """Weighted terms of what the tutor itself learns.

        Args:
            answer: with its graph.
            lesson: student and tutor side by side, the tutor's side without a graph.
        """
        return {}


class Nobody(Tutor):
    """In the place of a teacher, for distillers that need none."""

    def to(self, device: torch.device) -> None:
        """There is nothing to move."""

    def answer(self, batch: Batch, shown: Shown) -> Prediction:
        """No rows at all."""
        return distill.NOBODY


class FrozenTeacher(Tutor):
    """A teacher that stays as it is.

    Args:
        teacher: frozen, and folded where it is not yet: same outputs, a fraction of the work.
    """

    def __init__(self, teacher: Network) -> None:
        super().__init__()
        self.teacher = _frozen(teacher)

    def to(self, device: torch.device) -> None:
        """Move it to a device."""
        self.teacher.to(device)

    @torch.no_grad()
    def answer(self, batch: Batch, shown: Shown) -> Prediction:
        """What the teacher says when it sees everything."""
        said: Prediction = self.teacher(*_whole(batch))
        return said


class LearningTeacher(Tutor):
    """A teacher that learns from labels, and from its student about the sensors it neglects.

    As `FeedbackRecipe` says. It answers as it trains: with its own dropout.

    Args:
        teacher: its fusion is frozen here, where dominant sensors are.
        recipe: has `feedback`.
        label_loss: of logits by labels.
    """

    name = "teacher"
    terms = ("teacher_ce", "teacher_ifv")

    def __init__(self, teacher: Network, recipe: Recipe, label_loss: LabelLoss) -> None:
        super().__init__()
        assert recipe.feedback is not None
        self.how: FeedbackRecipe = recipe.feedback
        self.rate = self.how.lr
        self.teacher = teacher
        self._label_loss = label_loss
        options = {k: v for k, v in recipe.distill.get("ifv", {}).items() if k != "full_weight"}
        if self.how.weight is not None:
            options["weight"] = self.how.weight
        self.ifv: Distiller = distill.load("ifv")({**options, "maps": "others"})
        for name, parameter in teacher.named_parameters():
            fusing = name.startswith("fusions.") and self.how.freeze_dominant
            parameter.requires_grad = not fusing

    @property
    def learner(self) -> nn.Module:
        """The teacher."""
        return self.teacher

    def to(self, device: torch.device) -> None:
        """Move it to a device."""
        self.teacher.to(device)

    def answer(self, batch: Batch, shown: Shown) -> Prediction:
        """What the teacher says when it sees everything, with a graph."""
        images, alive = _whole(batch)
        if not self.how.freeze_dominant:
            said: Prediction = self.teacher(images, alive)
            return said
        network = self.teacher
        assert isinstance(network, PackedNetwork)
        network.check(images, alive)
        rows, sample, modality = network.pack(images, alive)
        features = network.encode(rows, modality)
        seen = Prediction(rows[:0], features, sample, modality)  # no logits yet
        count, modalities = alive.shape
        classes, generator = len(network.spec.classes), torch.Generator()
        lesson = Lesson(seen, seen, count, modalities, classes, batch.label, generator)
        held = distill.held(seen, lesson)
        fused = network.fuse(held, sample, modality, batch=len(alive))
        logits = network.decode(fused)
        return Prediction(logits, features, sample, modality, fused, packed_order(alive))

    def own_terms(self, answer: Prediction, lesson: Lesson) -> dict[str, Tensor]:
        """Cross-entropy, and IFV on the sensors that are not dominant, the student being right."""
        assert lesson.label is not None
        back = replace(lesson, student=answer, teacher=detached(lesson.student))
        return {
            "teacher_ce": self._label_loss(answer.logits, lesson.label),
            "teacher_ifv": self.ifv.weight(lesson.classes) * self.ifv(back),
        }


class Selecting(Tutor):
    """What a trained module selects of a teacher and of a robust model, both frozen.

    As `SelectRecipe` says. Students are compared by their fused maps.

    Args:
        teacher: frozen, and folded where it is not yet.
        robust: likewise; its stages are as wide as the teacher's.
        recipe: has `select`.
        label_loss: of logits by labels.
    """

    name = "selection"
    terms = ("select_logits", "select_features")

    def __init__(
        self, teacher: Network, robust: Network, recipe: Recipe, label_loss: LabelLoss
    ) -> None:
        super().__init__()
        assert recipe.select is not None
        self.how: SelectRecipe = recipe.select
        self.rate = self.how.lr
        self.teacher, self.robust = _frozen(teacher), _frozen(robust)
        self._label_loss = label_loss
        channels = robust.widths
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.selection = FeatureSelection(
                channels,
                len(robust.spec.classes),
                temperature=self.how.temperature,
                legacy_argmax=self.how.legacy_argmax,
            )
        levels = [*(f"stage{s + 1}" for s in range(len(channels))), "stages", "logits"]
        self.measures = tuple(f"share_{who}/{x}" for x in levels for who in ("teacher", "robust"))

    @property
    def learner(self) -> nn.Module:
        """The module that selects."""
        return self.selection

    def to(self, device: torch.device) -> None:
        """Move the three networks to a device."""
        for module in (self.teacher, self.robust, self.selection):
            module.to(device)

    def answer(self, batch: Batch, shown: Shown) -> Prediction:
        """What is selected, with a graph to the scores."""
        whole = _whole(batch)
        with torch.no_grad():
            taught: Prediction = self.teacher(*whole)
            kept: Prediction = self.robust(*(whole if self.how.robust_sees == "full" else shown))
        selected, shares = self.selection(taught, kept)
        rows = torch.cat([shares[:-1], shares[:-1].mean(0, keepdim=True), shares[-1:]])
        self.measured = dict(zip(self.measures, rows.flatten(), strict=True))
        answer: Prediction = selected
        return answer

    def compared(self, said: Prediction) -> Prediction:
        """Its fused maps, as the selected ones are."""
        return distill.scene(said.logits, said.fused)

    def own_terms(self, answer: Prediction, lesson: Lesson) -> dict[str, Tensor]:
        """Cross-entropy of the selected logits, and of the robust model's head on the maps."""
        assert lesson.label is not None
        heard: Tensor = self.robust.decode(answer.fused)
        return {
            "select_logits": self._label_loss(answer.logits, lesson.label),
            "select_features": self._label_loss(heard, lesson.label),
        }


def detached(said: Prediction) -> Prediction:
    """The same, without a graph."""
    return replace(
        said,
        logits=said.logits.detach(),
        features=[x.detach() for x in said.features],
        fused=[x.detach() for x in said.fused],
    )


def _whole(batch: Batch) -> Shown:
    """All that there is, as it was before anything was broken on purpose."""
    return {**batch.images, **batch.intact}, batch.alive


def _frozen(network: Network) -> Network:
    """A network that stays as it is, in the form of inference; features are those of `network`."""
    if network.head_form != "folded":
        with torch.random.fork_rng(devices=[]):  # the folded head is born with random weights
            network = network.folded()
    return network.eval().requires_grad_(requires_grad=False)
