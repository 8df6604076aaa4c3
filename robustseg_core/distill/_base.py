"""What a distiller may look at, and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robustseg_core.config import Strict, parse
from robustseg_core.types import Prediction


@dataclass(frozen=True, slots=True)
class Lesson:
    """One step of one student beside its teacher, who always has every sensor of the sample.

    The packed rows of `student` are a subset of those of `teacher` (same samples, same columns).
    """

    student: Prediction
    teacher: Prediction
    """Without gradient. Of a recipe without a teacher `NOBODY`, which has no rows; to a term that
    asks `full`, the student itself in its pass with all sensors."""
    batch: int
    """B."""
    modalities: int
    """M."""
    classes: int
    """K."""
    label: Tensor | None
    """(B, H, W) int64, `IGNORE` where unknown; None: nobody labelled it."""
    generator: torch.Generator
    """Of everything random, on the CPU: draw with it, then move to the device."""
    embeddings: Tensor | None = None
    """(B, M, D) what a vision-language model makes of each image; zeros where it saw none."""
    text: Tensor | None = None
    """(B, D) ... of each sample's caption; zeros where there is none."""
    class_text: Tensor | None = None
    """(K, D) ... of the classes' names."""
    size: tuple[int, int] | None = None
    """(H, W) of the images, where there is no label that has it."""

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """(n,) rows of the student and (n,) rows of the teacher that saw the same image.

        On the processor, as their number is asked for there.
        """
        here, there = self._slots(self.student), self._slots(self.teacher)  # (N_s,), (N_t,)
        place = torch.full((self.batch * self.modalities,), -1)
        place[there] = torch.arange(len(there))
        match = place[here]
        rows = torch.nonzero(match >= 0).squeeze(1)
        return rows, match[rows]

    def _slots(self, seen: Prediction) -> Tensor:
        """(N,) int64 on the processor: sample and sensor of each row, as one number."""
        sample, modality = seen.on_host or (seen.sample.cpu(), seen.modality.cpu())
        return sample * self.modalities + modality


NOBODY = Prediction(
    torch.empty(0), [], torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
)
"""The teacher of a recipe that has none."""


class Distiller(nn.Module, ABC):
    """One term of the student's loss.

    A new way of teaching is a file in this folder with one public subclass. The term is differen-
    tiable with respect to the student only, is 0 when the student is the teacher (unless an option
    called `legacy_*` says otherwise), never counts ignored pixels where it compares pixels, and
    loops over nothing that is as long as a batch, a class list or an image. It is float32 in mixed
    precision, too: `forward` is `@full_precision` (`distill/_pixels.py`). What it may learn itself
    are its parameters: they are trained beside the student, and are in no checkpoint.
    """

    needs_label: ClassVar[bool] = False
    """True: unusable on recordings without labels."""
    needs_teacher: ClassVar[bool] = True
    """False: it learns from something else, and works in a recipe without a teacher."""
    needs_equal_widths: ClassVar[bool] = False
    """True: it compares features channel by channel, so the teacher's stages are the student's."""
    needs_embeddings: ClassVar[bool] = False
    """True: it is 0 without those of `robustseg embed`."""
    rate: ClassVar[float] = 1.0
    """Learning rate of its own parameters, where it has any, over `optim.lr`."""

    class Options(Strict):
        """`weight` is the factor in the sum of losses; it is applied by the task, not here."""

        weight: float = Field(1.0, ge=0, description="Factor of this term in the loss.")
        full_weight: float = Field(
            0.0,
            ge=0,
            description="Factor of the same term on the pass that sees all sensors; needs "
            "student.with_full.",
        )

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.name: str = type(self).__module__.rpartition(".")[2]
        self.options = parse(self.Options, options or {}, where=f"distill.{self.name}")

    def weight(self, classes: int) -> float:
        """Factor of the term in the sum of losses, for data of so many classes."""
        return self.options.weight

    @property
    def asks(self) -> Literal["teacher", "full", "nobody"]:
        """Whose prediction is `Lesson.teacher`: of a teacher, of the student's own pass with all
        sensors, or of nobody."""
        return "teacher" if self.needs_teacher else "nobody"

    @property
    def of_sensors(self) -> str:
        """The word of a recipe, without `distill.`, by which it is about single sensors.

        Such a term teaches nothing where a sample is one row, as a selection is; empty: it does.
        """
        return ""

    def build(self, *, channels: int, width: int) -> None:
        """Make the parameters of this term, once, before the first lesson.

        Args:
            channels: C of the student's last stage.
            width: D of the embeddings; 0: there are none.
        """

    @abstractmethod
    def forward(self, lesson: Lesson) -> Tensor:
        """The unweighted term, a scalar; 0 (with a graph) where there is nothing to compare."""
