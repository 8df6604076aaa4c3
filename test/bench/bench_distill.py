"""What it costs to distill: against Python loops of the same formulas, and within a training step.

`python test/bench/bench_distill.py`. B=8, 4 sensors, 256x256, 25 classes, MiT-B0's widths, forward
and backward. A loop takes seconds, so it runs once, between runs of its variant.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]

import lessons  # noqa: E402
import slow_losses  # noqa: E402
import torch  # noqa: E402

from robustseg_core import distill  # noqa: E402
from robustseg_core.distill import Lesson  # noqa: E402
from robustseg_core.learn.losses import ohem_cross_entropy  # noqa: E402
from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter  # noqa: E402
from robustseg_core.models.classes import DELIVER  # noqa: E402
from robustseg_core.models.mit import BACKBONES  # noqa: E402
from robustseg_core.models.resize import resize_logits  # noqa: E402
from robustseg_core.types import ModelSpec, Prediction  # noqa: E402

NAMES = ("rgb", "depth", "event", "lidar")
EVERY = ((1, 1, 1, 1),) * 8
SIZE = (256, 256)
CLASSES = 25
CHOSEN = {"hpdm": {"pairing": "same"}, "unimodal": {}, "crossmodal": {}}
TURNS = 5


def took_ms(loss: Callable[[], torch.Tensor], lesson: Lesson) -> tuple[float, torch.Tensor]:
    """Milliseconds of forward and backward, and the loss."""
    for features in lesson.student.features:
        features.grad = None
    start = time.perf_counter()
    value = loss()
    value.backward()
    return (time.perf_counter() - start) * 1e3, value.detach()


def speedups() -> dict[str, float]:
    """Each distiller against loops of its formula.

    `loop` goes over samples, sensors and classes (CMD has no classes: over pairs and channels).
    `map_loop` goes over samples and sensors, or pairs of them, only, and handles each map whole.
    """
    lesson = lessons.lesson(
        EVERY, EVERY, size=SIZE, classes=CLASSES, widths=BACKBONES["b0"].channels, ignored=False
    )
    own = torch.arange(len(lesson.student.sample))
    loops = {
        "hpdm": {"loop": partial(slow_losses.hpdm, lesson, [(slice(None), own)] * 4)},
        "unimodal": {
            "loop": partial(slow_losses.unimodal_by_class, lesson),
            "map_loop": partial(slow_losses.unimodal_by_map, lesson),
        },
        "crossmodal": {
            "loop": partial(slow_losses.crossmodal, lesson),
            "map_loop": partial(slow_losses.crossmodal_by_map, lesson),
        },
    }
    figures = {}
    for name, variants in loops.items():
        ours = partial(distill.load(name)(CHOSEN[name]), lesson)
        took_ms(ours, lesson)  # warms up
        times = [took_ms(ours, lesson)[0] for _ in range(TURNS)]
        slow = {key: took_ms(loop, lesson) for key, loop in variants.items()}
        again = [took_ms(ours, lesson) for _ in range(TURNS)]
        ms = figures[f"{name}_ms"] = median(times + [taken for taken, _ in again])
        for key, (taken, value) in slow.items():
            torch.testing.assert_close(value, again[0][1], rtol=1e-3, atol=1e-6)
            figures[f"{name}_{key}_ms"] = taken
            figures[f"{name}_{key}_speedup"] = taken / ms
    return figures


def share() -> dict[str, float]:
    """HPDM, UMD and CMD together as part of a B0 student's step beside its teacher."""
    torch.manual_seed(0)
    spec = ModelSpec(
        modalities=NAMES, classes=DELIVER.names, palette=DELIVER.palette, backbone="b0", size=SIZE
    )
    student, teacher = AnyModalSegmenter(spec), AnyModalSegmenter(spec).eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=6e-5)
    images = {name: torch.randn(8, 3, *SIZE) for name in NAMES}
    alive = torch.ones(8, len(NAMES), dtype=torch.bool)
    rng = torch.Generator().manual_seed(0)
    label = lessons.blocks(8, SIZE, CLASSES, rng, ignored=False)
    terms = [distill.load(name)() for name in CHOSEN]
    with torch.no_grad():
        asked = teacher(images, alive)
    maps = [x.detach().requires_grad_() for x in asked.features]
    seen = Prediction(asked.logits, maps, asked.sample, asked.modality)
    lesson = Lesson(seen, asked, 8, len(NAMES), CLASSES, label, rng)

    def distillers() -> torch.Tensor:
        return sum(term.weight(lesson.classes) * term(lesson) for term in terms)

    def step_ms() -> float:
        start = time.perf_counter()
        with torch.no_grad():
            teacher(images, alive)
        logits = resize_logits(student(images, alive).logits, SIZE)
        optimizer.zero_grad()
        ohem_cross_entropy(logits, label).backward()
        optimizer.step()
        return (time.perf_counter() - start) * 1e3

    took_ms(distillers, lesson)
    times = [took_ms(distillers, lesson)[0] for _ in range(TURNS)]
    bare = step_ms()
    times += [took_ms(distillers, lesson)[0] for _ in range(TURNS)]
    return {
        "b0_step_ms": bare + median(times),
        "distillers_ms": median(times),
        "distillers_share_of_step": median(times) / (bare + median(times)),
    }


def run() -> dict[str, float]:
    """All figures; keys ending in `_ms` depend on the machine, the others hardly."""
    return speedups() | share()


if __name__ == "__main__":
    for key, value in run().items():
        print(f"{key:32s} {value:10.3g}")
