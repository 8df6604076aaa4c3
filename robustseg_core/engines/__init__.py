"""What runs the network: a bundle in, class ids and confidence out; one engine per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.types import Bundle


class NoMaskError(RobustsegError):
    """Raised by engines: of this bundle there is no mask, and the next one may make one."""


class NotFiniteError(NoMaskError):
    """What the network says of a bundle is no number."""


class LackingError(NoMaskError):
    """A sensor is not in the bundle without which the network makes no mask."""

    def __init__(self, modality: str, text: str) -> None:
        super().__init__(text)
        self.modality = modality


Labels = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(H, W) class ids and (H, W) confidence 0..255."""
Engine = Callable[[Bundle], Labels]
"""Runs the network: (H, W) class ids and (H, W) confidence 0..255 of a bundle; `NoMaskError` where
it makes none."""


@runtime_checkable
class BatchEngine(Protocol):
    """An engine that takes several bundles at once."""

    def batch(self, bundles: Mapping[str, Bundle]) -> dict[str, Labels | NoMaskError]:
        """What it says of each bundle, or why it says nothing.

        Args:
            bundles: by what tells whose they are (a camera's name), so that a frame which comes
                again is known.
        """
        ...


def batch(engine: Engine, bundles: Mapping[str, Bundle]) -> dict[str, Labels | NoMaskError]:
    """As `BatchEngine.batch`, whatever the engine: at once, or one after the other."""
    if isinstance(engine, BatchEngine):
        return engine.batch(bundles)
    answers: dict[str, Labels | NoMaskError] = {}
    for key, bundle in bundles.items():
        try:
            answers[key] = engine(bundle)
        except NoMaskError as error:
            answers[key] = error
    return answers
