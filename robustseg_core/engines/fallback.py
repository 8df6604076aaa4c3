"""A network that moves to the CPU when its GPU fails, and tries the GPU again now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from robustseg_core.engines import Engine, Labels, NoMaskError, batch
from robustseg_core.types import SECOND, Bundle

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_NS, LONGEST_NS = SECOND, 64 * SECOND
"""How long the GPU is left alone: doubled whenever it fails within `PROVEN_NS` of a new trial."""
PROVEN_NS = 30 * SECOND


class FallbackEngine:
    """Runs `wanted`; where its device is out of memory or lost, `substitute` gives the same mask.

    PyTorch reports both as a RuntimeError (`OutOfMemoryError`, `AcceleratorError`). One that the
    substitute raises, too, is the network's own and is not hidden.

    Args:
        wanted: the engine on the GPU.
        substitute: makes the one on the CPU; called at the first failure, and once only.
        clock_ns: a clock that only goes forward.
    """

    def __init__(
        self,
        wanted: Engine,
        substitute: Callable[[], Engine],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wanted, self._make, self._clock_ns = wanted, substitute, clock_ns
        self._substitute: Engine | None = None
        self._pause_ns = FIRST_NS
        self._retry_ns: int | None = None
        self._tried_ns = clock_ns()
        self.failures = 0
        """How often the GPU has failed."""
        self.trouble = ""
        """What is wrong at present; empty: the network runs where it should."""

    def __call__(self, bundle: Bundle) -> Labels:
        """(H, W) class ids and (H, W) confidence 0..255, from whichever device works."""
        return self._run(lambda engine: engine(bundle))

    def batch(self, bundles: Mapping[str, Bundle]) -> dict[str, Labels | NoMaskError]:
        """As `BatchEngine.batch`, likewise."""
        return self._run(lambda engine: batch(engine, bundles))

    def _run(self, act: Callable[[Engine], T]) -> T:
        now_ns = self._clock_ns()
        if self._retry_ns is not None:
            if now_ns < self._retry_ns:
                return self._instead(act)
            self._tried_ns = now_ns
        try:
            found = act(self._wanted)
        except RuntimeError as error:
            self._failed(error, now_ns)
            return self._instead(act)
        if self._retry_ns is not None:
            log.warning("the network is back on its GPU")
            self._retry_ns, self.trouble = None, ""
        return found

    def _failed(self, error: RuntimeError, now_ns: int) -> None:
        self.failures += 1
        relapse = self.failures > 1 and now_ns - self._tried_ns < PROVEN_NS
        self._pause_ns = min(2 * self._pause_ns, LONGEST_NS) if relapse else FIRST_NS
        self._retry_ns = now_ns + self._pause_ns
        told = str(error).partition("\n")[0] or "no reason given"
        self.trouble = (
            f"the GPU failed ({type(error).__name__}: {told}); the network runs on the CPU and "
            f"tries again in {self._pause_ns / SECOND:g} s; free its memory, or set device=cpu"
        )
        log.error(self.trouble)
        if isinstance(error, torch.cuda.OutOfMemoryError):
            torch.cuda.empty_cache()  # does nothing where CUDA never began

    def _instead(self, act: Callable[[Engine], T]) -> T:
        if self._substitute is None:
            self._substitute = self._make()
        return act(self._substitute)
