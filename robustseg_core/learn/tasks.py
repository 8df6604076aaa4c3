"""One step of learning: a batch in, the terms of the loss out, by name.

Labels teach, and each distiller of the recipe adds its term; most of them ask a teacher. The
student sees a subset of the sensors, as broken as they are, and is told how well each is; the
teacher sees all that the sample has, before anything was broken on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustseg_core import distill
from robustseg_core.distill import NOBODY, Lesson
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.embeddings import Embeddings
from robustseg_core.learn.losses import ohem_cross_entropy
from robustseg_core.learn.recipe import Recipe
from robustseg_core.models import subsets
from robustseg_core.models.mit import backbone_of
from robustseg_core.models.network import Network
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import Batch, ModelSpec, Prediction


@dataclass(frozen=True, slots=True)
class Part:
    """What a task trains beside the student: kept in the state of a run, never in a checkpoint."""

    module: nn.Module
    rate: float = 1.0
    """Its learning rate over `optim.lr`."""


class Task:
    """What a recipe teaches.

    Args:
        recipe: losses, dropout and distillers.
        modalities: columns of `alive`.
        teacher: frozen here; needed if a distiller of the recipe needs one.
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
        self.teacher = (
            None if teacher is None else teacher.eval().requires_grad_(requires_grad=False)
        )
        kinds = {name: distill.load(name)(options) for name, options in recipe.distill.items()}
        asking = [name for name, kind in kinds.items() if kind.needs_teacher]
        if asking and teacher is None:
            raise RobustsegError(
                f"recipe {recipe.system!r} distills {', '.join(asking)} but names no "
                "teacher; train one (`robustseg train teacher ...`) and give teacher=CHECKPOINT"
            )
        mute = [name for name, kind in kinds.items() if kind.needs_embeddings and not embeddings]
        if not labelled:
            kinds = {name: kind for name, kind in kinds.items() if not kind.needs_label}
            if not kinds.keys() - set(mute):
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
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                for kind in kinds.values():
                    kind.build(
                        channels=backbone_of(student.backbone).channels[-1],
                        width=0 if embeddings is None else embeddings.width,
                    )
        full = ["ce_full"] if recipe.student.with_full else []
        twice = [f"{name}_full" for name, kind in kinds.items() if kind.options.full_weight]
        self.names = [*(["ce", *full] if labelled else []), *kinds, *twice]
        """Terms of the loss."""

    @property
    def parts(self) -> dict[str, Part]:
        """What is trained beside the student, by name: distillers that have parameters."""
        return {
            name: Part(distiller, distiller.rate)
            for name, distiller in self.distillers.items()
            if any(p.requires_grad for p in distiller.parameters())
        }

    def to(self, device: torch.device) -> Task:
        """Move teacher and distillers to a device."""
        for distiller in self.distillers.values():
            distiller.to(device)
        if self.teacher is not None:
            self.teacher.to(device)
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
            batch: `alive` says what each sample has; on the student's device.
            shared_rng: the same in all processes, on the CPU: whose sensors are dropped.
            rank_rng: of this process, on the CPU.
            rank: of this process.
            world: number of processes.
        """
        images, alive = self._subset(batch, shared_rng, rank, world)
        seen: Prediction = student(images, alive, batch.quality)
        passes = [("", seen)]
        if self.recipe.student.with_full:
            passes.append(("_full", student(batch.images, batch.alive, batch.quality)))
        terms: dict[str, Tensor] = {}
        if batch.label is not None:
            for suffix, said in passes:
                terms[f"ce{suffix}"] = self._cross_entropy(said.logits, batch.label)
        if self.distillers:
            teacher = self._ask_teacher(batch)
            for suffix, said in passes:
                terms |= self._distilled(said, teacher, batch, rank_rng, suffix)
        return terms

    def _distilled(
        self,
        said: Prediction,
        teacher: Prediction,
        batch: Batch,
        rank_rng: torch.Generator,
        suffix: str,
    ) -> dict[str, Tensor]:
        """The distillers' weighted terms of one pass of the student."""
        lesson = Lesson(
            student=said,
            teacher=teacher,
            batch=len(batch.alive),
            modalities=batch.alive.shape[1],
            classes=said.logits.shape[1],
            label=batch.label,
            generator=rank_rng,
            embeddings=batch.embeddings,
            text=batch.text,
            class_text=self.class_text,
        )
        terms: dict[str, Tensor] = {}
        for name, distiller in self.distillers.items():
            full = distiller.options.full_weight
            weight = full if suffix else distiller.weight(lesson.classes)
            if weight or not suffix:
                terms[f"{name}{suffix}"] = weight * distiller(lesson)
        return terms

    def _subset(
        self, batch: Batch, shared_rng: torch.Generator, rank: int, world: int
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """What the student gets to see: images and (B, M) alive.

        Drawn for the batches of all processes at once, so that their number does not matter.
        """
        how, present = self.recipe.student, batch.alive.cpu()
        count, columns = present.shape
        rows = torch.ones(1 if how.per_batch else world * count, columns, dtype=torch.bool)
        if not how.per_batch:
            rows[rank * count : (rank + 1) * count] = present
        drawn = subsets.draw(how.dropout, rows, shared_rng, fragile=how.fragile or None)
        if not how.per_batch:
            drawn = drawn[rank * count : (rank + 1) * count]
        chosen = drawn & present
        chosen = torch.where(chosen.any(1, keepdim=True), chosen, present)  # never nobody
        if how.missing == "skip":
            return batch.images, chosen
        device = batch.alive.device
        kept = {
            name: batch.images[name] * chosen[:, column, None, None, None].to(device)
            for column, name in enumerate(self.modalities)
            if name in batch.images
        }
        return kept, batch.alive

    @torch.no_grad()
    def _ask_teacher(self, batch: Batch) -> Prediction:
        if self.teacher is None:
            return NOBODY
        seen: Prediction = self.teacher({**batch.images, **batch.intact}, batch.alive)
        return seen

    def _cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        loss = self.recipe.loss
        logits = resize_logits(logits, label.shape[1:])
        return ohem_cross_entropy(
            logits, label, threshold=loss.ohem_threshold, least_share=loss.ohem_share
        )
