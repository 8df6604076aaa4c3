"""The frames of the film: what stands where, and that soft edges change no label's color inside."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.output import draw
from robustseg_core.output.film import VideoWriter
from robustseg_core.output.screen import PANEL, Screen
from robustseg_core.types import IGNORE, Bundle, Fault, Finding, Frame, LabelMap, ModelSpec, State
from support.films import moments

NAMES = ("rgb", "depth", "event", "lidar")
SPEC = ModelSpec(
    modalities=NAMES,
    classes=tuple(f"class {k}" for k in range(6)),
    palette=tuple((40 * k, 255 - 40 * k, 90) for k in range(6)),
    size=(96, 128),
    trained=True,
)
SILENT = (Finding(Fault.SILENT, fatal=True, text="nothing for 900 ms, limit 150 ms"),)
SIZE = (240, 320)


def a_mask(used=NAMES, states=None, reasons=None, ids=None):
    frames = {n: Frame(n, 0, np.full((3, *SPEC.size), 0.5, np.float32)) for n in used}
    return LabelMap(
        ids=np.full(SIZE, 2, np.uint8) if ids is None else ids,
        confidence=np.zeros(SIZE, np.uint8),
        stamp_ns=0,
        frame_id="",
        used=tuple(used),
        reasons=reasons or {},
        states=dict.fromkeys(NAMES, State.LIVE) | (states or {}),
        held_ms={},
        latency_ms={},
        bundle=Bundle(0, frames),
    )


def shown(screen, mask, at_s=1.0, seen=None):
    return screen.frame(mask, draw.overlay(mask, SPEC), at_s, seen)


def panel(frame):
    return frame[: SIZE[0], SIZE[1] :]


def test_all_frames_have_one_size_and_the_mask_stands_in_the_corner():
    screen, hurt = Screen(SPEC, 8.0), a_mask(NAMES[1:], {"rgb": State.DEAD}, {"rgb": SILENT})
    frames = [shown(screen, a_mask()), shown(screen, hurt)]
    assert len({frame.shape for frame in frames}) == 1
    assert frames[0].shape[1] == SIZE[1] + round(PANEL * SIZE[1])
    overlay = draw.overlay(hurt, SPEC)
    np.testing.assert_array_equal(frames[1][: SIZE[0], : SIZE[1]], overlay[: SIZE[0]])


def test_the_line_of_a_sensor_has_its_reason_and_the_color_of_its_state():
    screen = Screen(SPEC, 8.0)
    well = shown(screen, a_mask())
    hurt = shown(screen, a_mask(NAMES[1:], {"rgb": State.DEAD}, {"rgb": SILENT}))
    rows = (well.shape[0] - SIZE[0]) // len(NAMES)
    before, after = (frame[SIZE[0] : SIZE[0] + rows] for frame in (well, hurt))
    assert (before[:, 160:] == before[0, -1]).all() and (after[:, 160:] > 200).any()
    assert (before == draw.STATE_COLORS[State.LIVE]).all(-1).any()
    assert (after == draw.STATE_COLORS[State.DEAD]).all(-1).any()
    np.testing.assert_array_equal(well[SIZE[0] + rows :], hurt[SIZE[0] + rows :])


def test_a_reason_of_any_length_and_letters_ends_on_its_line():
    long = (Finding(Fault.SILENT, fatal=True, text="nothing \n for ñ \x1b[31m " * 60),)
    frame = shown(Screen(SPEC, 8.0), a_mask(NAMES[1:], {"rgb": State.DEAD}, {"rgb": long}))
    assert (frame[SIZE[0] :, -3:] == frame[-1, -1]).all()


def test_a_dead_sensor_s_picture_is_what_it_says_now_or_darker_what_it_said():
    screen, dead = Screen(SPEC, 8.0), a_mask(NAMES[1:], {"rgb": State.DEAD}, {"rgb": SILENT})
    nothing = panel(shown(Screen(SPEC, 8.0), dead))
    assert not (nothing == draw.STATE_COLORS[State.DEAD]).all(-1).any(), "nobody has seen it"
    shown(screen, a_mask(), 1.0)
    bottom = np.s_[-40:-20, 40:-40]
    past = panel(shown(screen, dead, 3.5))
    said = draw.seen_by(a_mask().bundle.frames["rgb"], SPEC)
    assert np.abs(past[bottom].astype(int) - said[0, 0] // 2).max() <= 1
    now = panel(shown(screen, dead, 3.5, {"rgb": np.full((*SPEC.size, 3), 77, np.uint8)}))
    assert (now[bottom] == 77).all()
    assert not np.array_equal(past[:20], panel(shown(screen, dead, 3.6))[:20]), "time goes on"


def test_classes_in_the_mask_are_bright_and_others_are_not():
    frame = panel(shown(Screen(SPEC, 8.0), a_mask()))
    colors = {tuple(color) for color in frame.reshape(-1, 3).tolist()}
    assert SPEC.palette[2] in colors and SPEC.palette[3] not in colors


def test_of_more_classes_than_have_room_those_that_came_are_named():
    names = tuple(f"thing {k}" for k in range(250))
    colors = tuple((k, 255 - k, 200) for k in range(250))
    spec = SPEC.model_copy(update={"classes": names, "palette": colors})
    mask = a_mask(ids=np.full(SIZE, 233, np.uint8))
    frame = panel(Screen(spec, 8.0).frame(mask, draw.overlay(mask, spec), 1.0))
    assert (frame == colors[233]).all(-1).any() and not (frame == colors[1]).all(-1).any()


def test_while_no_mask_comes_time_goes_on_in_the_film(tmp_path):
    screen = Screen(SPEC, 8.0)
    with VideoWriter(tmp_path / "a.webm", idle=screen.idle) as film:
        for k in range(10):
            film.add(shown(screen, a_mask(), k / 10), k / 10)
        film.add(shown(screen, a_mask(), 5.0), 5.0)
        film.finish(5.1)
    found = moments(tmp_path / "a.webm")
    pause = [(t, picture) for t, picture in found if 0.95 < t < 4.99]
    assert [round(t - pause[0][0]) for t, _ in pause] == [0, 1, 2, 3]
    clocks = [picture[:24, SIZE[1] :] for _, picture in pause]
    assert all(np.abs(a.astype(int) - b).max() > 60 for a, b in pairwise(clocks))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    unlabelled=st.booleans(),
)
def test_soft_edges_are_between_the_colors_of_the_neighbors(seed, scale, unlabelled):
    """Against one class at a time: inside of a class nothing changes, at its edge all is mixed of
    what is near."""
    rng = np.random.default_rng(seed)
    coarse = np.repeat(np.repeat(rng.integers(0, 6, (6, 8)), 16, 0), 16, 1).astype(np.uint8)
    if unlabelled:
        coarse[:48] = IGNORE
    size = (96 * scale[0], 128 * scale[1])
    ids = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_NEAREST)
    picture = rng.integers(0, 255, (*SPEC.size, 3), dtype=np.uint8)
    mixed = draw.blend(picture, ids, SPEC).astype(int)
    seen = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
    hard = np.where((ids == IGNORE)[..., None], seen, (seen / 2 + draw.colorize(ids, SPEC) / 2))
    reach = np.ones((2 * scale[0] + 1, 2 * scale[1] + 1), np.uint8)
    inside = cv2.erode(ids, reach) == cv2.dilate(ids, reach)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(mixed[inside], hard[inside], atol=1.5)
    shades = draw.colorize(ids, SPEC)
    low = np.minimum(cv2.erode(shades, reach) / 2 + seen / 2, seen) - 2
    high = np.maximum(cv2.dilate(shades, reach) / 2 + seen / 2, seen) + 2
    assert ((mixed >= low) & (mixed <= high)).all()


def test_a_picture_may_be_given_in_the_place_of_what_the_network_saw():
    mask = replace(a_mask(), bundle=Bundle(0, {}))
    dark, light = (
        draw.overlay(mask, SPEC, picture)[: SIZE[0]]
        for picture in (None, np.full((*SPEC.size, 3), 200, np.uint8))
    )
    assert int(light.min()) >= int(dark.min()) + 95


@pytest.mark.parametrize("size", [(48, 64), (1200, 1920)])
def test_any_size_of_camera(size):
    mask = replace(a_mask(), ids=np.full(size, 1, np.uint8))
    frame = Screen(SPEC, 8.0).frame(mask, draw.overlay(mask, SPEC), 0.0)
    assert frame.shape[0] > size[0] and frame.shape[1] > size[1]
