"""What runs the network: a bundle in, class ids and confidence out; one engine per file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robustseg_core.types import Bundle

Engine = Callable[[Bundle], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Runs the network: (H, W) class ids and (H, W) confidence 0..255 of a bundle."""
