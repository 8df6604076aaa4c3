"""`validation.npz` in the folder of a run: what the validation of its best weights saw.

It is written with the weights, so a run that goes on after a kill, and one that ends long after its
best step, has it for its report without another pass over the data.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.frames import Gallery
from robustseg_core.evaluation.parts import packed, unpacked
from robustseg_core.evaluation.results import ScoredFrame
from robustseg_core.learn.validate import KEPT, Judged
from robustseg_core.storage.budget import check_zip, parse_json
from robustseg_core.storage.output_folder import replacing

if TYPE_CHECKING:
    from lightning.fabric import Fabric

NAME = "validation.npz"
_KINDS = ("best", "worst", "some")


@dataclass(frozen=True, slots=True)
class Seen:
    """A confusion matrix with all sensors, and frames to look at."""

    step: int
    """After which it was validated."""
    counts: NDArray[np.int64]
    """(K, K + 1), as `metrics.confusion`."""
    best: tuple[ScoredFrame, ...]
    """Best first, one for each scene."""
    worst: tuple[ScoredFrame, ...]
    """Worst first, one for each scene."""
    some: tuple[ScoredFrame, ...]
    """Chosen by chance, with what fewer sensors say of them."""

    def save(self, folder: Path) -> None:
        """Into the folder of the run.

        Raises:
            RobustsegError: the disk is full.
        """
        account: dict[str, object] = {"step": self.step}
        arrays: dict[str, Any] = {"counts": self.counts}
        for kind in _KINDS:
            account[kind], pictures = packed(getattr(self, kind), f"{kind}_")
            arrays |= pictures
        text = np.frombuffer(json.dumps(account).encode(), np.uint8)
        with replacing(folder / NAME) as path, path.open("wb") as file:
            np.savez_compressed(file, account=text, **arrays)


def gathered(fabric: Fabric, judged: Judged, step: int) -> Seen:
    """What all processes saw, the same in all of them; all must ask.

    Args:
        fabric: with whom.
        judged: what this process found.
        step: after which.
    """
    own, whole = judged.gallery, Gallery(KEPT, {})
    for rank in range(fabric.world_size):
        best, worst, some = fabric.broadcast((own.best, own.worst, own.some), src=rank)
        whole.add(best, worst, some)
    return Seen(step, judged.counts, whole.best, whole.worst, whole.some)


def load(folder: Path, step: int, classes: int) -> Seen | None:
    """What `Seen.save` wrote after this step; None: there is none, or it is damaged.

    Args:
        folder: of the run.
        step: the best one.
        classes: K.
    """
    path = folder / NAME
    try:
        check_zip(path)
        with np.load(path, allow_pickle=False) as file:
            account = parse_json(file["account"].tobytes())
            counts = file["counts"]
            fits = account["step"] == step and counts.shape == (classes, classes + 1)
            frames = {kind: unpacked(account[kind], file, f"{kind}_") for kind in _KINDS}
    except (RobustsegError, OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
        return None
    return Seen(step, counts, **frames) if fits else None
