"""What engines cost beside the published form, and how far each part is from this machine's limits.

`python test/bench/bench_engines.py` prints the figures of docs/performance.md. Variants run in
processes of their own, taken in turn: ratios hold on a busy machine, milliseconds do not.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from robustseg_core.config import ViewConfig
from robustseg_core.engines import comparison
from robustseg_core.engines._winner import labels
from robustseg_core.engines.eager import EagerEngine
from robustseg_core.engines.opening import candidates
from robustseg_core.engines.parity import noise
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.view import View
from robustseg_core.modalities.depth import Depth
from robustseg_core.models.calibration import winner
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.models.network import PackedNetwork
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import Bundle, Frame, Reading

NAMES = ("rgb", "depth", "event", "lidar")
SPECS = {
    "b0": default_spec(NAMES, backbone="b0", head_width=768, size=(512, 512), fusion="mean"),
    "swift": default_spec(
        NAMES,
        architecture="swift",
        fusion="trust",
        stem="per_modality",
        size=(320, 512),
        options={"meet": "middle", "stride": 2},
    ),
}
THREADS = 1
"""Of each variant: with more, they wait for each other in busy loops, which is CPU time, too."""
PUBLISHED = "--published"


def published(threads: int) -> comparison.Runner:
    """MiT-B0 at 512x512 as it is published: sensors one by one, mean of the stages, head of width
    768 at a quarter of the size, logits resized, softmax, argmax. `transformers`' SegFormer."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.set_num_threads(threads)
    spec = SPECS["b0"]
    model = SegformerForSemanticSegmentation(
        SegformerConfig(
            decoder_hidden_size=spec.head_width,
            num_labels=len(spec.classes),
            attn_implementation="eager",
        )
    ).eval()
    image = torch.randn(1, 3, *spec.size)

    def once(count: int) -> None:
        with torch.inference_mode():
            each = [
                model.segformer(image, output_hidden_states=True).hidden_states
                for _ in range(count)
            ]
            means = [torch.stack(maps).mean(0) for maps in zip(*each, strict=True)]
            big = resize_logits(model.decode_head(means), spec.size)
            big.softmax(1).max(1)

    return lambda count: lambda: once(count)


def variants() -> dict[str, list[str]]:
    """Every engine that is installed on both networks, and the published form."""
    found = {"published b0": [sys.executable, __file__, PUBLISHED, str(THREADS)]}
    for name, spec in SPECS.items():
        for engine in candidates(untrained(spec)):
            words = comparison.command(engine, spec.model_dump_json(), THREADS)
            found[f"{engine} {name}"] = words
    return found


def side_by_side(rounds: int, **calls: Callable[[], object]) -> dict[str, float]:
    """Median CPU milliseconds of each call, of this thread; taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            taken[name].append((time.thread_time() - start) * 1e3)
    return {name: median(times[1:]) for name, times in taken.items()}  # the first warms up


class Bytes(TorchDispatchMode):
    """Counts what operations read and write, if each goes to memory once."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in tree_leaves((args, kwargs, found)):
                if isinstance(tensor, torch.Tensor):
                    self.total += tensor.numel() * tensor.element_size()
        return found


def ceilings() -> tuple[float, float]:
    """(GFLOP/s of a large matrix product, GB/s of a copy), one thread, the best of some."""
    a = torch.randn(1024, 1024)
    source = np.ones(1 << 25, np.float32)
    target = np.empty_like(source)
    product, copy = [], []
    for _ in range(9):
        start = time.thread_time()
        a @ a
        product.append(time.thread_time() - start)
        start = time.thread_time()
        np.copyto(target, source)
        copy.append(time.thread_time() - start)
    return 2 * 1024**3 / min(product) / 1e9, 2 * source.nbytes / min(copy) / 1e9


def parts(model: PackedNetwork) -> dict[str, Callable[[], Any]]:
    """What a mask of one sensor consists of, each with inputs that lie ready."""
    image = torch.randn(1, 3, *model.spec.size)
    maps = model.encode_one(image, 0)
    logits = model.decode(maps)
    return {
        "encode": lambda: model.encode_one(image, 0),
        "decode": lambda: model.decode(maps),
        "labels": lambda: labels(logits[0], model.spec.size, 1.0),
    }


def roofline(rounds: int) -> list[dict[str, Any]]:
    """Of each part: operations and bytes, the time below which it cannot be, and its time."""
    torch.set_num_threads(1)
    peak, bandwidth = ceilings()
    rows = []
    for name, spec in SPECS.items():
        model = untrained(spec).folded()
        assert isinstance(model, PackedNetwork)
        with torch.inference_mode():
            calls = parts(model)
            times = side_by_side(rounds, **calls)
            for part, call in calls.items():
                with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                    call()
                with Bytes() as traffic:
                    call()
                gflop, megabytes = counter.get_total_flops() / 1e9, traffic.total / 1e6
                if part == "labels":  # numba's loops: a multiplication and an addition each
                    pixels = spec.size[0] * spec.size[1] * len(spec.classes)
                    gflop, megabytes = 17 * pixels / 1e9, pixels / spec_stride(name) ** 2 * 4 / 1e6
                least = max(gflop / peak, megabytes / 1e3 / bandwidth) * 1e3
                rows.append(
                    {
                        "network": name,
                        "part": part,
                        "gflop": gflop,
                        "mb": megabytes,
                        "least_ms": least,
                        "ms": times[part],
                        "share": least / times[part],
                        "peak": peak,
                        "bandwidth": bandwidth,
                    }
                )
    return rows


def spec_stride(name: str) -> int:
    return {"b0": 4, "swift": 2}[name]


def one_pass(rounds: int) -> dict[str, float]:
    """Labels of B0's logits at 512x512: one pass against resizing, argmax, softmax."""
    logits = 3 * torch.randn(19, 128, 128)

    def three() -> None:
        ids, confidence = winner(resize_logits(logits[None], (512, 512))[0], 1.0)
        ids.to(torch.uint8).numpy(), (confidence * 255).round().to(torch.uint8).numpy()

    with torch.inference_mode():
        ms = side_by_side(rounds, one=lambda: labels(logits, (512, 512), 1.0), three=three)
    return {"labels_one_pass_ms": ms["one"], "labels_one_pass_speedup": ms["three"] / ms["one"]}


def registration(rounds: int) -> dict[str, float]:
    """A depth image of 640x480 with its own lens, onto 512x320."""
    view = View((320, 512), ViewConfig(extrinsics={"depth": (0.05, 0, 0, 0, 0, 0.01, 1)}))
    bent = (-0.3, 0.1, 0.001, -0.002, -0.02)
    view.set_camera("rgb", Camera(800, 1280, 640.0, 640.0, 640.0, 400.0, bent))
    view.set_camera("depth", Camera(480, 640, 380.0, 380.0, 320.0, 240.0))
    rows, cols = np.mgrid[0:480, 0:640]
    depth_m = (6 + 3 * np.sin(cols / 60) * np.cos(rows / 40)).astype(np.float32)
    reading, decoder = Reading("depth", 0, "depth", depth_m, 1.0), Depth()
    rays = view.rays("depth", 480, 640)

    def slowly() -> None:
        found = view.project(view.place("depth", "depth", rays * depth_m.reshape(-1, 1)))
        order = np.argsort(-found.depth_m)
        shown = np.full(320 * 512, np.nan, np.float32)
        shown[(found.rows * 512 + found.cols)[order]] = found.depth_m[order]

    ms = side_by_side(rounds, one=lambda: decoder.encode([reading], view, 0), slowly=slowly)
    return {"register_depth_ms": ms["one"], "register_depth_speedup": ms["slowly"] / ms["one"]}


def held(rounds: int) -> dict[str, float]:
    """A mask of four sensors of which three are held, beside one of four that are new."""
    figures = {}
    for name, spec in SPECS.items():
        engine = EagerEngine(untrained(spec), torch.device("cpu"), cpu_threads=1)
        (full,) = noise(spec, 1)

        def new(who: str, full: Bundle = full) -> Frame:
            return Frame(who, 0, full.frames[who].array, 1.0)

        def all_new(engine: EagerEngine = engine, new: Any = new) -> None:
            engine(Bundle(0, {name: new(name) for name in NAMES}))

        def one_new(engine: EagerEngine = engine, new: Any = new, full: Bundle = full) -> None:
            engine(Bundle(0, {**full.frames, "rgb": new("rgb")}))

        ms = side_by_side(rounds, new=all_new) | side_by_side(rounds, held=one_new)
        figures[f"held_three_of_four_{name}"] = ms["held"] / ms["new"]
    return figures


def run() -> dict[str, float]:
    """Figures for `make bench`."""
    torch.set_num_threads(1)
    figures = {**one_pass(9), **registration(9), **held(5)}
    for row in roofline(5):
        figures[f"roofline_{row['network']}_{row['part']}"] = row["share"]
    times = comparison.compare(variants(), (1, 4), rounds=7, threads=THREADS)
    baseline = times["published b0"]
    for name, counts in times.items():
        for count, found in counts.items():
            told, usual = found.account(), baseline[count].account()
            figures[f"{name}, {count} alive, CPU ms"] = told["cpu_ms"]
            figures[f"{name}, {count} alive, times published"] = usual["cpu_ms"] / told["cpu_ms"]
    return figures


def main() -> None:
    if PUBLISHED in sys.argv:
        comparison.serve(lambda: published(int(sys.argv[2])))
        return
    for row in roofline(9):
        print(json.dumps(row))
    for key, value in run().items():
        print(f"{key:50s} {value:10.3g}")


if __name__ == "__main__":
    main()
