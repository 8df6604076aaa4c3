"""What runs the network: a bundle in, class ids and confidence out; one engine per file."""

from __future__ import annotations

from collections.abc import Callable

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


Engine = Callable[[Bundle], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Runs the network: (H, W) class ids and (H, W) confidence 0..255 of a bundle; `NoMaskError` where
it makes none."""
