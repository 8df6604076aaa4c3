"""A checkpoint of `robustseg train`, shown the camera alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustseg_core.engines import Engine
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.eager import pick_device
from robustseg_core.engines.opening import open_engine
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.teachers import CAMERA, Teacher
from robustseg_core.models import checkpoint
from robustseg_core.models.classes import ClassSet
from robustseg_core.storage.digest import sha256
from robustseg_core.types import Bundle


class OurTeacher(Teacher):
    """One of ours; what it says is mapped class by class.

    Args:
        path: the checkpoint; read with the first picture.
        device: as `pick_device`.

    Raises:
        RobustsegError: it is none, or knows no camera.
    """

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        spec = checkpoint.spec_of(path)
        if CAMERA not in spec.modalities:
            raise RobustsegError(
                f"{path} knows {', '.join(spec.modalities)} and no camera; give a teacher that does"
            )
        notices = [] if spec.trained else ["the checkpoint is untrained: its labels mean nothing"]
        super().__init__(path.name, spec, sha256(path).hexdigest(), notices)
        pick_device(device)  # an error now, not with the first picture
        self._path, self._device = path, device
        self._engine: Engine | None = None
        self._table: NDArray[np.uint8] | None = None

    def __call__(self, bundle: Bundle) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """As the network's own engine."""
        if self._engine is None:
            self._engine = open_engine(Exported(checkpoint.load(self._path)), device=self._device)
        ids, confidence = self._engine(bundle)
        return (ids if self._table is None else self._table[ids]), confidence

    def speaking(self, table: NDArray[np.uint8], classes: ClassSet) -> Teacher:
        """The same network; the winner is mapped, with its own confidence."""
        other = copy.copy(self)
        other._table = table
        other.spec = self.spec.model_copy(
            update={"classes": classes.names, "palette": classes.palette}
        )
        return other
