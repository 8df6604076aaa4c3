"""What packing and folding save: ratios of runs side by side. `python test/bench/bench_models.py`.

A ratio of medians of interleaved runs says the same on a busy laptop as on an idle server; times in
milliseconds are printed for people and belong to this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.models.head import AllMLPHead
from robustseg_core.models.mit import BACKBONES


def side_by_side(rounds: int, **calls: Callable[[], object]) -> dict[str, float]:
    """Median milliseconds of each call; one of each per round, so that a busy machine hits all."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(times[1:]) for name, times in taken.items()}  # the first warms up


def head(width: int, rounds: int) -> dict[str, float]:
    """Published against folded head: MiT-B0's maps of a 512x512 image, 25 classes."""
    channels = BACKBONES["b0"].channels
    published = AllMLPHead(channels, width, 25).eval()
    published.norm.running_mean.normal_()
    published.norm.running_var.uniform_(0.5, 2)
    folded = published.fold()
    maps = [
        torch.randn(1, c, 128 >> s, 128 >> s).contiguous(memory_format=torch.channels_last)
        for s, c in enumerate(channels)
    ]
    with torch.inference_mode():
        ms = side_by_side(rounds, published=lambda: published(maps), folded=lambda: folded(maps))
        difference = (published(maps) - folded(maps)).abs().max().item()
        ratio = operations(lambda: published(maps)) / operations(lambda: folded(maps))
    return {
        f"head_{width}_published_ms": ms["published"],
        f"head_{width}_folded_ms": ms["folded"],
        f"head_{width}_speedup": ms["published"] / ms["folded"],
        f"head_{width}_fewer_operations": ratio,
        f"head_{width}_max_difference": difference,
    }


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions: no clock, no noise."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def subset(backbone: str, rounds: int) -> dict[str, float]:
    """One alive modality against four: the whole network and its encoder, at 384x512."""
    model = untrained(default_spec(backbone=backbone), head="folded")
    names = model.spec.modalities
    images = {name: torch.randn(1, 3, *model.spec.size) for name in names}
    four = torch.ones(1, len(names), dtype=torch.bool)
    one = torch.tensor([[name == names[0] for name in names]])
    with torch.inference_mode():
        ms = side_by_side(
            rounds,
            one=lambda: model(images, one),
            four=lambda: model(images, four),
            encode_one=lambda: encode(model, images, one),
            encode_four=lambda: encode(model, images, four),
        )
    return {
        f"{backbone}_one_alive_ms": ms["one"],
        f"{backbone}_four_alive_ms": ms["four"],
        f"{backbone}_one_of_four": ms["one"] / ms["four"],
        f"{backbone}_encoder_one_of_four": ms["encode_one"] / ms["encode_four"],
    }


def encode(model: AnyModalSegmenter, images: dict[str, torch.Tensor], alive: torch.Tensor) -> None:
    rows, _, modality = model.pack(images, alive)
    model.encoder(rows, modality)


def run() -> dict[str, float]:
    """All figures; keys ending in `_ms` depend on the machine, the others hardly."""
    torch.manual_seed(0)
    return {
        **head(width=768, rounds=11),
        **head(width=256, rounds=11),
        **subset("tiny", rounds=15),
        **subset("b0", rounds=9),
    }


if __name__ == "__main__":
    for key, value in run().items():
        print(f"{key:30s} {value:10.3g}")
