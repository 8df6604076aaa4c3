"""What runs the network: a bundle in, class ids and confidence out; one engine per file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.types import Bundle


class NotFiniteError(RobustsegError):
    """Raised by engines: what the network says of a bundle is no number, so there is no mask."""


Engine = Callable[[Bundle], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Runs the network: (H, W) class ids and (H, W) confidence 0..255 of a bundle; `NotFiniteError`
where its logits are not finite."""
