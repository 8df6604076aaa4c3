"""A GPU that fails costs no mask: the CPU makes it, and the GPU is tried again with patience."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import torch

from robustseg_core.engines.fallback import FIRST_NS, LONGEST_NS, FallbackEngine
from robustseg_core.types import SECOND, Bundle

BUNDLE = Bundle(0, {})
MASK = np.zeros((2, 3), np.uint8)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Gpu:
    """Fails while `broken` holds an exception."""

    def __init__(self):
        self.broken, self.calls = None, 0

    def __call__(self, bundle):
        self.calls += 1
        if self.broken is not None:
            raise self.broken
        return MASK, MASK + 1


@pytest.fixture
def world():
    gpu, made, now = Gpu(), [], [0]

    def cpu():
        made.append(now[0])
        return lambda bundle: (MASK, MASK + 2)

    return gpu, made, now, FallbackEngine(gpu, cpu, clock_ns=lambda: now[0])


def device(found):
    return {1: "gpu", 2: "cpu"}[int(found[1].max())]


def test_a_gpu_without_memory_costs_no_mask_and_is_named(world):
    gpu, made, _, engine = world
    assert device(engine(BUNDLE)) == "gpu" and not engine.trouble and not made
    gpu.broken = torch.cuda.OutOfMemoryError("CUDA out of memory\nTried to allocate 2 GiB")
    assert device(engine(BUNDLE)) == "cpu"
    assert "CUDA out of memory" in engine.trouble and "device=cpu" in engine.trouble
    assert "Tried" not in engine.trouble
    assert (engine.failures, len(made)) == (1, 1)


def test_the_gpu_is_left_alone_for_a_while_then_used_again(world):
    gpu, made, now, engine = world
    gpu.broken = RuntimeError("CUDA error: device lost")
    engine(BUNDLE)
    gpu.broken, calls = None, gpu.calls
    now[0] += FIRST_NS - 1
    assert device(engine(BUNDLE)) == "cpu" and gpu.calls == calls
    now[0] += 1
    assert device(engine(BUNDLE)) == "gpu" and not engine.trouble
    assert len(made) == 1


def test_a_gpu_that_keeps_failing_is_tried_less_and_less_often(world):
    gpu, made, now, engine = world
    gpu.broken = RuntimeError("CUDA error: device lost")
    trials, last = [], 0
    while now[0] < 400 * SECOND:
        if (engine(BUNDLE), gpu.calls)[1] != last:
            last = gpu.calls
            trials.append(now[0])
        now[0] += SECOND // 2
    pauses = np.diff(trials)
    assert pauses[0] == FIRST_NS and pauses[-1] == LONGEST_NS
    assert all(b == min(2 * a, LONGEST_NS) for a, b in itertools.pairwise(pauses))
    assert engine.failures == len(trials) and len(made) == 1


def test_after_a_good_time_a_failure_is_a_new_one(world):
    gpu, _, now, engine = world
    lost = RuntimeError("CUDA error: device lost")
    for gpu.broken in (lost, lost, None):
        engine(BUNDLE)
        now[0] += 2 * FIRST_NS
    now[0] += 60 * SECOND
    gpu.broken = lost
    engine(BUNDLE)
    assert "again in 1 s" in engine.trouble


def test_what_fails_on_the_cpu_too_is_not_hidden(world):
    gpu, _, now, _ = world
    gpu.broken = RuntimeError("shapes do not match")
    engine = FallbackEngine(gpu, lambda: gpu, clock_ns=lambda: now[0])
    with pytest.raises(RuntimeError, match="shapes"):
        engine(BUNDLE)
