"""A fault is a class in a file: planted, everybody finds it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from robustseg_core import faults
from robustseg_core.cli.main import app
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import Injector, kinds, parse_fault
from robustseg_core.faults._base import FaultState, Sample
from robustseg_core.faults.kinds import image
from robustseg_core.robustness.matrix import _on
from robustseg_core.sync.rate import RateEstimator
from robustseg_core.types import SECOND, Fault
from support import drives
from support.accounts import START_S, observed
from support.planted import plant

LENS = '''
"""What a lens cap does; for this test."""
from robustseg_core.faults._base import FaultModel, altered
from robustseg_core.faults.kinds import image
from robustseg_core.types import Fault
from pydantic import Field
from typing import ClassVar


class LensCap(FaultModel):
    """Somebody forgot the lens cap."""

    contents: ClassVar = ("picture",)
    finds: ClassVar = frozenset({Fault.BLACK})
    level: int = Field(0, ge=0, le=5, description="Gray level.")

    def change(self, message, state):
        noise = lambda rgb: state.rng.integers(self.level, self.level + 3, rgb.shape, "u1")
        return image.edited(message, noise)
'''


@pytest.mark.slow
def test_a_fault_that_is_one_new_file_is_listed_made_and_found(tmp_path, monkeypatch):
    plant(monkeypatch, tmp_path, kinds, "lens", LENS)
    assert "lens_cap" in faults.available("rgb") and "lens_cap" not in faults.available("lidar")
    listed = CliRunner().invoke(app, ["list"]).output
    assert "lens_cap" in listed and "Somebody forgot the lens cap. (level=0)" in listed
    found = observed(f"rgb:lens_cap@{START_S}", 0.6)
    assert found.said["rgb"][Fault.BLACK] <= 3 / drives.RATES["rgb"] + 0.02
    (case,) = _on(["rgb"], "lens_cap")
    assert case.finds == {Fault.BLACK} and case.broken == {"rgb"}
    with pytest.raises(RobustsegError, match="lens_cap cannot be done to lidar, only to rgb"):
        parse_fault("lidar:lens_cap")
    with pytest.raises(RobustsegError, match="did you mean 'lens_cap'"):
        parse_fault("rgb:lenscap")


def test_what_was_planted_is_gone_again():
    assert "lens_cap" not in faults.available()


def test_two_faults_of_one_name_are_an_error(tmp_path, monkeypatch):
    plant(monkeypatch, tmp_path, kinds, "again", LENS.replace("LensCap", "Black"))
    with pytest.raises(RobustsegError, match="both define Black; rename one"):
        faults.available()


@pytest.mark.parametrize("name", [n for n in faults.available() if not faults.load(n).reads])
def test_a_fault_that_reads_no_message_takes_whatever_stands_for_one(name):
    injector = Injector([parse_fault(f"rgb:{name}")], topics={"rgb": "/rgb"})
    assert not injector.reads("/rgb")
    tokens = [object() for _ in range(20)]
    out = [s.message for k, token in enumerate(tokens) for s in injector.feed("/rgb", token, k)]
    assert not injector.refused and set(map(id, out)) <= set(map(id, tokens))


@pytest.mark.parametrize(("layout", "luma_at"), [("UYVY", 1), ("YUY2", 0)])
def test_yuv_in_pairs_is_as_opencv_packs_it(layout, luma_at):
    code = getattr(cv2, f"COLOR_RGB2YUV_{layout}", None)
    if code is None:
        pytest.skip("OpenCV has it from 4.9 on")
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    ours = image._yuv422(rgb, luma_at).astype(int)
    assert np.abs(ours - cv2.cvtColor(rgb, code)).max() <= 1


def arrive(seed: int, share: float, count: int) -> list[bool]:
    """Which of `count` messages arrive."""
    state, fault = FaultState(np.random.default_rng(seed)), faults.load("intermittent")(share=share)
    arrived = []
    for state.count in range(1, count + 1):
        arrived.append(bool(fault.apply(Sample("/camera", None, 0), state)))
    return arrived


@given(st.integers(0, 2**32), st.floats(0.01, 1.0))
def test_of_every_ten_messages_as_many_are_lost_as_are_named(seed, share):
    arrived = np.array(arrive(seed, share, 1000)).reshape(100, 10)
    lost = 10 - arrived.sum(axis=1)
    assert np.all(np.abs(lost - 10 * share) < 1 + 1e-9)
    assert np.mean(lost) == pytest.approx(10 * share, abs=0.25)  # 5 sigma of a mean of 100


@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.6, 0.7]))
def test_half_of_the_messages_of_a_slow_sensor_are_missed_within_twenty(seed, share):
    rate, period_ns = RateEstimator(), SECOND // 10
    arrived = [True] * 30 + arrive(seed, share, 20)
    said = []
    for k, here in enumerate(arrived):
        if here:
            rate.observe(k * period_ns)
        said.append(rate.lossy or rate.slower_than(0.6))
    assert not any(said[:30]) and any(said)
