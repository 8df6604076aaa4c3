"""The network as it is: held frames are not encoded again, and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.models import architectures
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.types import Bundle, Frame, ModelSpec

NAMES = ("rgb", "depth", "event", "lidar")
SIZE = (32, 64)
SPECS = {
    "m_segformer": default_spec(NAMES, size=SIZE, fusion="gated"),
    "swift": default_spec(NAMES, size=SIZE, architecture="swift", fusion="trust"),
    "cmnext": default_spec(NAMES, size=SIZE, architecture="cmnext"),
}
MODELS = {name: untrained(spec) for name, spec in SPECS.items()}


def engine(name: str) -> EagerEngine:
    return EagerEngine(MODELS[name], pick_device("cpu"), cpu_threads=1)


def frame(name: str, seed: int) -> Frame:
    rng = np.random.default_rng([seed, NAMES.index(name)])
    return Frame(name, seed, rng.normal(size=(3, *SIZE)).astype("f4"), float(rng.uniform()))


def logits_of(spec: ModelSpec, frames: Mapping[str, Frame]) -> torch.Tensor:
    """Those of the network itself, packed and with the published head."""
    images = {name: torch.from_numpy(one.array)[None] for name, one in frames.items()}
    alive = torch.tensor([[name in frames for name in NAMES]])
    told = [[frames[name].quality if name in frames else 0.0 for name in NAMES]]
    with torch.inference_mode():
        return MODELS[spec.architecture](images, alive, torch.tensor(told)).logits


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SPECS))
@given(
    sets=st.lists(
        st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1), min_size=1, max_size=4),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=6, deadline=None)
def test_what_is_held_is_what_it_would_be_anew(name: str, sets: list[dict[str, int]]):
    held = {(who, seed): frame(who, seed) for who in NAMES for seed in (0, 1)}
    tried = engine(name)
    for chosen in sets:
        if any(need not in chosen for need in architectures.needs(tried.spec)):
            continue
        bundle = Bundle(0, {who: held[who, seed] for who, seed in chosen.items()})
        with torch.inference_mode():
            found = tried.logits(bundle)
        torch.testing.assert_close(
            found, logits_of(SPECS[name], bundle.frames), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("name", ["m_segformer", "swift"])
def test_a_frame_is_encoded_once_while_it_is_held(name: str):
    tried = engine(name)
    still = {who: frame(who, 0) for who in ("depth", "lidar")}
    for k in range(3):
        tried(Bundle(k, {**still, "rgb": frame("rgb", k)}))
    assert tried.memory.encoded == 5  # three images, and one of each other
    tried(Bundle(3, still))
    assert tried.memory.encoded == 5
    tried(Bundle(4, {"depth": still["depth"]}))
    tried(Bundle(5, still))  # lidar was away, and is forgotten
    assert tried.memory.encoded == 6


def test_the_same_numbers_in_another_frame_are_encoded():
    tried, shown = engine("swift"), frame("rgb", 0)
    again = Frame("rgb", 1, shown.array, shown.quality)
    first, second = tried(Bundle(0, {"rgb": shown})), tried(Bundle(1, {"rgb": again}))
    assert tried.memory.encoded == 2
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_pictures_of_several_sizes_are_refused():
    small = Frame("depth", 0, np.zeros((3, 32, 32), np.float32))
    with pytest.raises(RobustsegError, match="all must share one pixel grid"):
        engine("swift")(Bundle(0, {"rgb": frame("rgb", 0), "depth": small}))
