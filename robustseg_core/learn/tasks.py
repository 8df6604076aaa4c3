"""One step of learning: a batch in, the terms of the loss out, by name.

Labels teach, and each distiller of the recipe adds its term; most of them ask a teacher, some the
student's own pass with all sensors. The student sees a subset of the sensors, as broken as they
are, and is told how well each is; the teacher sees all that the sample has, before anything was
broken on purpose. What else learns in the step (a teacher, a selection) adds terms of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from robustseg_core import distill
from robustseg_core.distill import Distiller, Lesson
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.embeddings import Embeddings
from robustseg_core.learn.losses import label_loss
from robustseg_core.learn.recipe import Recipe
from robustseg_core.learn.solo import Solo
from robustseg_core.learn.tutors import (
    FrozenTeacher,
    LearningTeacher,
    Nobody,
    Selecting,
    Shown,
    Tutor,
    detached,
)
from robustseg_core.models import architectures, subsets
from robustseg_core.models.network import Network, PackedNetwork
from robustseg_core.types import IGNORE, Batch, ModelSpec, Prediction


@dataclass(frozen=True, slots=True)
class _Alone:
    """A pass with one sensor."""

    column: int
    shown: Shown
    label: Tensor
    """(B, H, W) int64, `IGNORE` of samples that lack the sensor."""


class Task:
    """What a recipe teaches.

    Args:
        recipe: losses, dropout and distillers.
        modalities: columns of `alive`.
        teacher: needed if a distiller of the recipe needs one; frozen here, unless it learns back.
        robust: frozen here; needed if the recipe selects of the two.
        labelled: whether the data has labels; without them they are not missed if something else
            teaches.
        student: what the network is built from; needed by distillers that learn something, too.
        embeddings: of the data, for distillers that need them; without them these terms are 0.

    Raises:
        RobustsegError: a distiller needs a teacher and there is none, the recipe needs labels that
            the data has not, or its weights are not one for each modality.
    """

    def __init__(
        self,
        recipe: Recipe,
        modalities: Sequence[str],
        *,
        teacher: Network | None = None,
        robust: Network | None = None,
        labelled: bool = True,
        student: ModelSpec | None = None,
        embeddings: Embeddings | None = None,
    ) -> None:
        self.recipe = recipe
        self.modalities = tuple(modalities)
        if len(recipe.student.fragile) not in (0, len(modalities)):
            raise RobustsegError(
                f"student.fragile has {len(recipe.student.fragile)} weights for "
                f"{', '.join(modalities)}; give one for each"
            )
        kinds = {name: distill.load(name)(options) for name, options in recipe.distill.items()}
        self.tutor = self._tutor(kinds, teacher, robust)
        mute = [name for name, kind in kinds.items() if kind.needs_embeddings and not embeddings]
        if not labelled:
            kinds = {name: kind for name, kind in kinds.items() if not kind.needs_label}
            if all(name in mute or kind.asks == "full" for name, kind in kinds.items()):
                raise RobustsegError(
                    "the data has no labels and nothing in the recipe teaches without them; label "
                    "it (`robustseg label`), or distill `prediction` from a teacher"
                )
        self.left_out = tuple(name for name in recipe.distill if name not in kinds)
        """Distillers that need labels, left out because there are none."""
        self.notices = tuple(
            f"{name} has no embeddings, so its term is 0; make them with `robustseg embed` and "
            "give data.embeddings=FILE"
            for name in mute
        )
        """What the one who trains should know."""
        self.distillers = kinds
        self.class_text = None if embeddings is None else torch.from_numpy(embeddings.class_text)
        if student is not None:
            self._build(student, embeddings)
            _expect_packed(recipe, student)
        full = ["ce_full"] if recipe.student.with_full else []
        twice = [f"{name}_full" for name, kind in kinds.items() if kind.options.full_weight]
        own = self.tutor.terms if self.tutor is not None else ()
        alone = ["solo"] if recipe.student.solo is not None else []
        self.names = [*(["ce", *full] if labelled else []), *kinds, *twice, *own, *alone]
        """Terms of the loss."""
        self.solo = (
            None
            if recipe.student.solo is None
            else Solo(len(self.modalities), recipe.student.solo.memory)
        )
        """Who is shown alone."""
        needy = {
            "select": recipe.select,
            "feedback": recipe.feedback,
            "student.solo": recipe.student.solo,
        }
        for key in (key for key, value in needy.items() if value is not None and not labelled):
            raise RobustsegError(
                f"{key} learns from labels and the data has none; label it (`robustseg label`), or "
                f"leave {key} out"
            )

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the figures in `measured`."""
        return self.tutor.measures if self.tutor is not None else ()

    @property
    def measured(self) -> Mapping[str, Tensor]:
        """What the newest batch showed beside its loss, for the journal."""
        return self.tutor.measured if self.tutor is not None else {}

    @property
    def learners(self) -> dict[str, tuple[nn.Module, float]]:
        """name -> what learns beside the student, and its rate over the student's."""
        found: dict[str, tuple[nn.Module, float]] = {
            f"distill_{name}": (kind, kind.rate)
            for name, kind in self.distillers.items()
            if any(p.requires_grad for p in kind.parameters())
        }
        tutor = self.tutor
        if tutor is not None and tutor.learner is not None:
            found[tutor.name] = (tutor.learner, tutor.rate)
        return found

    def _build(self, student: ModelSpec, embeddings: Embeddings | None) -> None:
        """Make what the distillers learn themselves, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            for distiller in self.distillers.values():
                distiller.build(
                    channels=architectures.load(student.architecture).widths_of(student)[-1],
                    width=0 if embeddings is None else embeddings.width,
                )

    def _tutor(
        self, kinds: Mapping[str, Distiller], teacher: Network | None, robust: Network | None
    ) -> Tutor | None:
        """Whom the student learns from."""
        recipe = self.recipe
        by_label = partial(label_loss, recipe.loss)
        if not kinds:
            return None
        asking = [name for name, kind in kinds.items() if kind.asks == "teacher"]
        if not asking and recipe.feedback is None and recipe.select is None:
            return Nobody()
        if teacher is None:
            raise RobustsegError(
                f"recipe {recipe.system!r} distills {', '.join(asking or kinds)} but names no "
                "teacher; train one (`robustseg train teacher ...`) and give teacher=CHECKPOINT"
            )
        if recipe.feedback is not None:
            return LearningTeacher(teacher, recipe, by_label)
        if recipe.select is None:
            return FrozenTeacher(teacher)
        if robust is None:
            raise RobustsegError(
                f"recipe {recipe.system!r} selects of two networks but names no robust model; "
                "train one (`robustseg train rmmss ...` does) and give select.robust=CHECKPOINT"
            )
        return Selecting(teacher, robust, recipe, by_label)

    def to(self, device: torch.device) -> Task:
        """Move tutor and distillers to a device."""
        for distiller in self.distillers.values():
            distiller.to(device)
        if self.tutor is not None:
            self.tutor.to(device)
        if self.class_text is not None:
            self.class_text = self.class_text.to(device)
        return self

    def terms(
        self,
        student: nn.Module,
        batch: Batch,
        shared_rng: torch.Generator,
        rank_rng: torch.Generator,
        rank: int = 0,
        world: int = 1,
    ) -> dict[str, Tensor]:
        """Weighted terms of the loss; their sum is what is minimized.

        Args:
            student: a `Network`, maybe wrapped by Fabric.
            batch: `alive` says what each sample has; it is on the CPU, as it decides what is
                computed: nobody waits for the device to know who is shown what. All else is on the
                student's device.
            shared_rng: the same in all processes, on the CPU: whose sensors are dropped.
            rank_rng: of this process, on the CPU.
            rank: of this process.
            world: number of processes.
        """
        shown = self._subset(batch, shared_rng, rank, world)
        views = {"": shown}
        if self.recipe.student.with_full:
            views["_full"] = (batch.images, batch.alive)
        solo, alone = self.recipe.student.solo, None
        if solo is not None and batch.label is not None:
            alone = self._alone(batch, batch.label, shared_rng)
            views["solo"] = alone.shown
        said = self._say(student, views, batch)
        heard = said.pop("solo", None)
        terms: dict[str, Tensor] = {}
        if batch.label is not None:
            factor = 1.0 if solo is None else solo.fused_weight
            for suffix, answer in said.items():
                terms[f"ce{suffix}"] = factor * self._label_loss(answer.logits, batch.label)
        if self.tutor is not None:
            terms |= self._taught(self.tutor, list(said.items()), batch, shown, rank_rng)
        if solo is not None and alone is not None and heard is not None:
            assert self.solo is not None
            loss = self._label_loss(heard.logits, alone.label)
            self.solo.hear(alone.column, loss, (alone.label != IGNORE).any())
            terms["solo"] = solo.weight * loss
        return terms

    def _say(
        self, student: nn.Module, views: Mapping[str, Shown], batch: Batch
    ) -> dict[str, Prediction]:
        """What the student says of what it is shown, told how well each sensor is."""
        if not self.recipe.student.together:
            return {name: student(*shown, batch.quality) for name, shown in views.items()}
        together = student.forward_views
        assert callable(together)
        alive = [shown[1] for shown in views.values()]
        return dict(zip(views, together(batch.images, alive, batch.quality), strict=True))

    def _label_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return label_loss(self.recipe.loss, logits, label)

    def _taught(
        self,
        tutor: Tutor,
        passes: Sequence[tuple[str, Prediction]],
        batch: Batch,
        shown: Shown,
        rank_rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """The distillers' terms of each pass, and what the tutor learns of the first one."""
        answer = tutor.answer(batch, shown)
        lessons = [
            Lesson(
                student=tutor.compared(said),
                teacher=detached(answer),
                batch=len(batch.alive),
                modalities=batch.alive.shape[1],
                classes=said.logits.shape[1],
                label=batch.label,
                generator=rank_rng,
                embeddings=batch.embeddings,
                text=batch.text,
                class_text=self.class_text,
                size=_size(batch),
            )
            for _, said in passes
        ]
        whole = dict(passes).get("_full")
        own = None if whole is None else detached(tutor.compared(whole))
        terms: dict[str, Tensor] = {}
        for (suffix, _), lesson in zip(passes, lessons, strict=True):
            terms |= self._distilled(lesson, suffix, own)
        return terms | tutor.own_terms(answer, lessons[0])

    def _alone(self, batch: Batch, label: Tensor, shared_rng: torch.Generator) -> _Alone:
        """The drawn sensor by itself, for the samples that have it."""
        assert self.solo is not None
        column = self.solo.draw(shared_rng)
        has = batch.alive[:, column]
        alone = torch.zeros_like(batch.alive)
        alone[:, column] = True
        alone = torch.where(has[:, None], alone, batch.alive)  # whoever lacks it does not count
        has = has[:, None, None].to(label.device, non_blocking=True)
        return _Alone(column, self._through(batch, alone), torch.where(has, label, IGNORE))

    def _distilled(
        self, lesson: Lesson, suffix: str, whole: Prediction | None
    ) -> dict[str, Tensor]:
        """The distillers' weighted terms of one pass of the student; `whole` is what it says with
        all sensors, without a graph."""
        terms: dict[str, Tensor] = {}
        for name, distiller in self.distillers.items():
            full = distiller.options.full_weight
            weight = full if suffix else distiller.weight(lesson.classes)
            if weight or not suffix:
                heard = lesson
                if distiller.asks == "full" and whole is not None:
                    heard = replace(lesson, teacher=whole)
                terms[f"{name}{suffix}"] = weight * distiller(heard)
        return terms

    def _subset(self, batch: Batch, shared_rng: torch.Generator, rank: int, world: int) -> Shown:
        """What the student gets to see: images and (B, M) alive.

        Drawn for the batches of all processes at once, so that their number does not matter.
        """
        how, present = self.recipe.student, batch.alive
        count, columns = present.shape
        rows = torch.ones(1 if how.per_batch else world * count, columns, dtype=torch.bool)
        if not how.per_batch:
            rows[rank * count : (rank + 1) * count] = present
        drawn = subsets.draw(how.dropout, rows, shared_rng, fragile=how.fragile or None)
        if not how.per_batch:
            drawn = drawn[rank * count : (rank + 1) * count]
        chosen = drawn & present
        chosen = torch.where(chosen.any(1, keepdim=True), chosen, present)  # never nobody
        return self._through(batch, chosen)

    def _through(self, batch: Batch, chosen: Tensor) -> Shown:
        """A batch through the chosen sensors, (B, M) bool on the CPU; the others are missing."""
        if self.recipe.student.missing == "skip":
            return batch.images, chosen
        shown = chosen[:, :, None, None, None]
        kept = {
            name: batch.images[name]
            * shown[:, column].to(batch.images[name].device, non_blocking=True)
            for column, name in enumerate(self.modalities)
            if name in batch.images
        }
        return kept, batch.alive


def _size(batch: Batch) -> tuple[int, int]:
    """(H, W) of the images."""
    height, width = next(iter(batch.images.values())).shape[2:]
    return height, width


def _expect_packed(recipe: Recipe, student: ModelSpec) -> None:
    """Nothing, if all passes can be one batch, or need not be.

    Raises:
        RobustsegError: the network's sensors meet while they are encoded.
    """
    packed = issubclass(architectures.load(student.architecture), PackedNetwork)
    if recipe.student.together and not packed:
        raise RobustsegError(
            f"student.together needs a network that encodes each sensor by itself, and "
            f"{student.architecture!r} does not; set student.together=false"
        )
