"""The product as a user drives it: messages pushed, masks stepped, sensors dying in between."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core import config
from robustseg_core.config import PointsConfig
from robustseg_core.engines import NotFiniteError
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.output import draw, messages, recorder, report
from robustseg_core.output.cloud import cloud
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import BLIND, IGNORE, MS, SECOND, Bundle, Fault, Frame, State, sentence
from support.makers import camera_info, compressed, events, image, transform, xyz
from support.programs import run_program

pytestmark = pytest.mark.slow

EPOCH = 1_700_000_000 * SECOND
ALL = ("rgb", "depth", "event", "lidar")
SIZE = (64, 96)
ENGINE = EagerEngine(checkpoint.untrained(checkpoint.default_spec(size=SIZE)), pick_device("cpu"))
RANDOM = np.random.default_rng(0)
COARSE = RANDOM.integers(0, 255, (40, 12, 16, 3), dtype=np.uint8)
SCENES = [cv2.resize(scene, (64, 48)) for scene in COARSE]
POINTS = np.column_stack(
    [RANDOM.uniform(3, 20, 500), RANDOM.uniform(-2, 2, 500), RANDOM.uniform(-1, 1, 500)]
)
# x forward of the LiDAR is z of the camera
OPTICAL = (0.5, -0.5, 0.5, 0.5)


def segmenter(names=ALL, **words) -> Segmenter:
    streams = {name: {"topic": f"/{name}"} for name in names}
    robot = config.parse(RobotConfig, {"streams": streams, **words})
    made = Segmenter(robot, ENGINE.spec, ENGINE)
    made.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    made.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))
    return made


def message(name: str, stamp_ns: int, k: int):
    if name == "rgb":
        return image(SCENES[k % 40], "rgb8", stamp_ns)
    if name == "depth":
        metres = cv2.resize(RANDOM.uniform(1, 5, (6, 8)), (64, 48))
        return image((metres * 1000).astype(np.uint16), "16UC1", stamp_ns)
    if name == "lidar":
        return xyz(POINTS + 0.001 * k, stamp_ns=stamp_ns)
    time_us = k * 10_000
    words = [0x8000 | (time_us >> 12) & 0xFFF, 0x6000 | time_us & 0xFFF, 0x0000 | 20]
    words += [0x2000 | i % 2 << 11 | (k + i) % 64 for i in range(30)]
    return events(np.array(words), stamp_ns, seq=k, height=48, width=64)


RATES = {"rgb": 30, "depth": 10, "event": 100, "lidar": 10}


def schedule(seconds: float, names=ALL):
    rows = [
        (round(k * SECOND / RATES[name]), name, k)
        for name in names
        for k in range(round(seconds * RATES[name]))
    ]
    return sorted(rows)


def drive(made: Segmenter, rows, make=message):
    """Pushes rows, stepping as asked; returns the label maps with the time each was made."""
    maps, now = [], 0
    for at, name, k in rows:
        while (wake := made.wake_ns(now)) is not None and wake < at:
            now = wake
            maps += [(now, m)] if (m := made.step(now)) else []
        now = at
        if (sent := make(name, EPOCH + at, k)) is not None:
            made.push(name, sent, now)
            maps += [(now, m)] if (m := made.step(now)) else []
    return maps


def test_four_sensors_make_one_mask_a_camera_frame():
    made = segmenter()
    maps = [m for now, m in drive(made, schedule(2)) if now > 500 * MS]
    assert len(maps) == pytest.approx(45, abs=1)
    for label_map in maps:
        assert label_map.used == ALL and not label_map.reasons
        assert label_map.ids.shape == label_map.confidence.shape == (48, 64)
        assert set(np.unique(label_map.ids)) <= {*range(19), IGNORE}
        assert label_map.frame_id == "camera"
        assert label_map.latency_ms["total"] >= label_map.latency_ms["infer"]


def test_the_mask_is_what_the_network_says_about_the_bundle():
    label_map = drive(segmenter(("rgb",)), schedule(0.5, ("rgb",)))[-1][1]
    ids, confidence = ENGINE(label_map.bundle)
    rows = np.arange(48) * SIZE[0] // 48
    cols = np.arange(64) * SIZE[1] // 64
    assert np.array_equal(label_map.ids, ids[np.ix_(rows, cols)])
    assert np.array_equal(label_map.confidence, confidence[np.ix_(rows, cols)])


def test_a_dead_camera_does_not_silence_the_rest():
    made = segmenter()
    rows = [r for r in schedule(3) if r[1] != "rgb" or not SECOND < r[0] < 2 * SECOND]
    maps = drive(made, rows)
    blind = [m for now, m in maps if 1.2 * SECOND < now < 2 * SECOND]
    assert len(blind) >= 0.9 * 0.8 * 30
    assert all("rgb" not in m.used and m.reasons["rgb"][0].fault is Fault.SILENT for m in blind)
    assert maps[-1][1].used == ALL, "and the camera is used again"


def test_the_points_of_a_mask_are_of_the_very_frames_that_it_was_made_of():
    """Held scans and dead sensors included; what is learned of the robot later changes none."""
    made = segmenter()
    rows = [r for r in schedule(3) if r[1] != "depth" or r[0] < SECOND]
    rows = [r for r in rows if r[1] != "lidar" or r[0] < 2 * SECOND]
    maps = [m for _, m in drive(made, rows)]
    seen = {frozenset(label_map.scene.placed) for label_map in maps}
    assert seen == {frozenset(s) for s in (("depth", "lidar"), ("lidar",), ())}
    for label_map in maps:
        frames, placed = label_map.bundle.frames, label_map.scene.placed
        assert set(placed) == {"depth", "lidar"} & set(label_map.used)
        for name, one in placed.items():
            assert one.reading.stamp_ns == frames[name].stamp_ns
            assert one.camera is label_map.scene.camera is made.intake.view.camera
    last, auto = maps[-1], PointsConfig()
    assert cloud(last, ENGINE.spec, auto) is None and last.scene.camera is not None
    for name in ("depth", "lidar"):
        alone = next(m for m in maps if name in m.scene.placed)
        one = replace(alone, scene=replace(alone.scene, placed={name: alone.scene.placed[name]}))
        fields = cloud(one, ENGINE.spec, auto)
        assert fields["width"] > 100
        assert fields["header"]["frame_id"] == one.scene.placed[name].reading.frame_id
        assert fields["header"]["stamp"] == messages.label_mask(alone)["header"]["stamp"]


@pytest.mark.parametrize("shade, fault", [(0, Fault.BLACK), (255, Fault.SATURATED)])
def test_a_black_or_blinded_camera_is_named_and_nothing_else_is(shade, fault):
    def make(name, stamp, k):
        if name == "rgb" and k >= 30:
            dark = np.full((48, 64, 3), shade, np.uint8)
            dark[k % 48, k % 64] += np.uint8(1)  # not frozen: the sensor's noise is alive
            return image(dark, "rgb8", stamp)
        return message(name, stamp, k)

    made = segmenter()
    last = drive(made, schedule(2), make)[-1][1]
    assert last.used == ("depth", "event", "lidar")
    text = sentence(last.reasons["rgb"])
    assert text.startswith(f"{fault.value}: {BLIND} (") and "limit" in text
    healths = made.health(2 * SECOND)
    assert set(healths["rgb"].rejected) == {fault}
    assert not any(healths[name].rejected for name in ALL[1:])


def test_a_sensor_that_is_used_in_doubt_has_its_reason_wherever_people_look():
    def make(name, stamp, k):
        if name == "rgb" and k >= 30:
            half = SCENES[k % 40].copy()
            half[:, 26:] = 90 + k % 7  # a little more than half the lens is covered
            return image(half, "rgb8", stamp)
        return message(name, stamp, k)

    maps = [m for _, m in drive(segmenter(), schedule(3), make)]
    doubted = [m for m in maps if m.states["rgb"] is State.DEGRADED and "rgb" in m.used]
    assert doubted
    for label_map in maps:
        for name in ALL:
            wrong = label_map.states[name] is not State.LIVE or name not in label_map.used
            assert bool(label_map.reasons.get(name)) == wrong
    last = doubted[-1]
    (finding,) = last.reasons["rgb"]
    assert finding.fault is Fault.COVERED
    row = recorder.row_of(last)
    assert row["reasons"] == {"rgb": ["covered"]}
    fields = messages.status(last, ENGINE.spec)
    sent = messages.to_rosbags("diagnostic_msgs/msg/DiagnosticArray", fields)
    back = messages.read_status(sent)
    assert back["used"] == list(last.used)
    assert {n: sentence(f) for n, f in back["reasons"].items()} == {"rgb": str(finding)}
    said = {status["name"]: status["message"] for status in fields["status"]}
    assert said["robustseg: rgb"] == f"used; {finding}"
    rows = [{**recorder.row_of(m), "at_s": (m.stamp_ns - EPOCH) / SECOND} for m in maps]
    shown = report.changes({"masks": rows, "totals": {"silences": []}})
    assert any("rgb" in r["used"] and "covered" in r["reasons"].get("rgb", "") for r in shown)


def test_a_set_of_which_nothing_can_be_encoded_is_counted_and_named(monkeypatch):
    made = segmenter()
    rows = schedule(1.5)
    maps = drive(made, [r for r in rows if r[0] < SECOND])
    assert maps and made.lost == 0 and not made.remarks()

    def fails(readings, view, stamp_ns):
        raise ValueError("no such grid")

    for name in ALL:
        monkeypatch.setattr(made.intake.modalities[name], "encode", fails)
    made._encoded.clear()
    made._encoded = {}
    late = [r for r in rows if r[0] >= SECOND]
    assert not drive(made, late)
    assert made.lost >= 10
    (remark,) = made.remarks()
    assert remark.startswith(f"{made.lost} sets made no mask")
    assert all(f"{name}: internal: ValueError: no such grid" in remark for name in ALL)
    healths = made.health(round(1.5 * SECOND))
    assert all("internal: ValueError" in healths[name].reason for name in ALL)
    levels = [s["level"] for s in messages.health(healths, 0)["status"]]
    assert levels == [messages.WARN] * 5


def behind(name, stamp, k):
    """Messages of a rig whose LiDAR looks backwards in its second second."""
    if name == "lidar" and 10 <= k < 20:
        return xyz(POINTS * [-1, 1, 1] + 0.001 * k, stamp_ns=stamp)
    return message(name, stamp, k)


def test_a_lidar_without_a_point_in_the_view_is_not_used_and_named():
    made = segmenter()
    maps = drive(made, [r for r in schedule(2)], behind)
    blind = [m for now, m in maps if 1.3 * SECOND < now < 1.9 * SECOND]
    assert len(blind) >= 15
    for label_map in blind:
        assert label_map.used == ALL[:3] and label_map.states["lidar"].usable
        (finding,) = label_map.reasons["lidar"]
        assert finding.fault is Fault.OUTSIDE
        assert "no point of lidar lands in the image" in finding.text
    found = made.health(2 * SECOND)["lidar"].findings
    assert Fault.OUTSIDE in {finding.fault for finding in found}
    assert made.masks == len(maps) and made.lost == 0
    late = [(at + 2 * SECOND, name, k + 2 * RATES[name]) for at, name, k in schedule(1)]
    assert drive(made, late, behind)[-1][1].used == ALL, "and it is used again"


def test_a_lidar_alone_without_a_point_in_the_view_makes_no_mask_and_says_why():
    made = segmenter(("rgb", "lidar"))
    maps = drive(made, schedule(1.9, ("lidar",)), behind)
    assert maps and maps[-1][0] < 1.2 * SECOND
    (remark,) = made.remarks()
    assert made.lost >= 5 and "lidar: outside: no point of lidar lands in the image" in remark


def test_an_event_camera_that_sees_a_still_scene_is_used():
    def make(name, stamp, k):
        if name != "event" or k < 100:
            return message(name, stamp, k)
        time_us = k * 10_000
        words = [0x8000 | (time_us >> 12) & 0xFFF, 0x6000 | time_us & 0xFFF]
        return events(np.array(words), stamp, seq=k, height=48, width=64)

    made = segmenter()
    label_map = drive(made, schedule(2), make)[-1][1]
    assert label_map.used == ALL and not label_map.bundle.frames["event"].array.any()
    assert {finding.fault for finding in label_map.reasons["event"]} == {Fault.NO_EVENTS}


def test_an_event_camera_whose_events_land_outside_is_not_used_and_named(monkeypatch):
    made = segmenter(("rgb", "event"))
    blank = np.zeros((3, *SIZE), np.float32)
    monkeypatch.setattr(made.intake.modalities["event"], "encode", lambda *_: blank)
    label_map = drive(made, schedule(1, ("rgb", "event")))[-1][1]
    assert label_map.used == ("rgb",)
    (finding,) = label_map.reasons["event"]
    assert finding.fault is Fault.OUTSIDE and "no event of event lands in" in finding.text


def test_a_stream_that_the_network_does_not_know_is_named():
    spec = ENGINE.spec.model_copy(update={"modalities": ("rgb", "depth")})
    streams = {name: {"topic": f"/{name}"} for name in ALL}
    made = Segmenter(config.parse(RobotConfig, {"streams": streams}), spec, ENGINE)
    assert [text.partition(" ")[0] for text in made.remarks()] == ["event", "lidar"]


def test_a_frozen_camera_is_named_and_nothing_else_is():
    def make(name, stamp, k):
        return message(name, stamp, min(k, 30) if name == "rgb" else k)

    made = segmenter()
    last = drive(made, schedule(2), make)[-1][1]
    assert last.used == ("depth", "event", "lidar")
    assert last.reasons["rgb"][0].fault is Fault.STUCK


def test_a_lidar_without_transform_waits_and_needs_no_restart():
    robot = config.parse(RobotConfig, {"streams": {n: {"topic": n} for n in ALL}})
    made = Segmenter(robot, ENGINE.spec, ENGINE)
    made.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    rows = schedule(2)
    first = drive(made, [r for r in rows if r[0] < SECOND])[-1][1]
    assert first.used == ALL[:3] and first.reasons["lidar"][0].fault is Fault.NO_TF
    assert first.states["lidar"] is State.WAITING
    made.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))
    last = drive(made, [r for r in rows if r[0] >= SECOND])[-1][1]
    assert last.used == ALL


def test_a_camera_that_changes_its_resolution_is_followed():
    def make(name, stamp, k):
        if k < 30:
            return message(name, stamp, k)
        return image(np.repeat(np.repeat(SCENES[k % 40], 2, 0), 2, 1), "rgb8", stamp)

    made = segmenter(("rgb",))
    half = schedule(1, ("rgb",))
    drive(made, half, make)
    made.push_camera_info("rgb", camera_info(96, 128, fx=120.0))
    rows = [r for r in schedule(2, ("rgb",)) if r[0] >= SECOND]
    assert drive(made, rows, make)[-1][1].ids.shape == (96, 128)


@pytest.mark.parametrize(
    "name, shape", [("rgb", (48, 64)), ("depth", (48, 64)), ("event", (48, 64))]
)
def test_without_camera_info_the_mask_has_the_size_of_the_image(name, shape):
    robot = config.parse(RobotConfig, {"streams": {name: {"topic": name}}})
    made = Segmenter(robot, ENGINE.spec, ENGINE)
    label_map = drive(made, schedule(0.5, (name,)))[-1][1]
    assert label_map.ids.shape == shape and label_map.frame_id


def test_a_broken_transform_is_rejected_and_the_good_ones_are_kept():
    made = segmenter()
    bad = transform("camera", "thermal", quaternion=(0, 0, 0, 0))
    finding = made.push_transforms(bad)
    assert finding is not None and finding.fault is Fault.NO_TF
    assert drive(made, schedule(1))[-1][1].used == ALL


def test_a_bag_loop_keeps_the_number_of_sets():
    made = segmenter()
    rows = schedule(2)
    passes = [0, 0, 0]
    looped = [(at + n * 2 * SECOND, name, k, EPOCH + at) for n in range(3) for at, name, k in rows]
    now = 0
    for at, name, k, stamp in looped:
        while (wake := made.wake_ns(now)) is not None and wake < at:
            now = wake
            passes[now // (2 * SECOND)] += made.step(now) is not None
        now = at
        made.push(name, message(name, stamp, k + 1000 * (at // (2 * SECOND))), now)
        passes[now // (2 * SECOND)] += made.step(now) is not None
    assert made.intake.jumps == 2
    assert abs(passes[1] - passes[2]) <= 1 and abs(passes[0] - passes[1]) <= 2


def test_an_unknown_stream_is_an_error_with_the_way_out():
    with pytest.raises(RobustsegError, match="no stream called 'rbg'; did you mean 'rgb'"):
        segmenter().push("rbg", message("rgb", EPOCH, 0), 0)


def test_a_robot_without_any_known_sensor_is_an_error():
    with pytest.raises(RobustsegError, match="no stream has a topic"):
        Segmenter.from_config(RobotConfig())


def test_what_is_no_message_at_all_is_rejected_counted_and_survived():
    made = segmenter()
    for name in ALL:
        sent = message(name, EPOCH, 0)
        sent.header = None
        finding = made.push(name, sent, 1)
        assert finding is not None and finding.fault is Fault.FORMAT
    assert all(sum(h.rejected.values()) == 1 for h in made.health(1).values())


def test_a_mistake_of_our_own_in_a_decoder_costs_the_message_and_nothing_else(monkeypatch):
    made = segmenter()
    monkeypatch.setattr(made.intake.modalities["lidar"], "decode", lambda message, stamp_ns: 1 / 0)
    finding = made.push("lidar", message("lidar", EPOCH, 0), 1)
    assert finding is not None and finding.fault is Fault.INTERNAL
    assert "ZeroDivisionError" in finding.text
    assert made.push("rgb", message("rgb", EPOCH, 0), 1) is None


def test_untrained_masks_say_so_on_the_picture():
    label_map = drive(segmenter(), schedule(0.5))[-1][1]
    untrained = draw.overlay(label_map, ENGINE.spec)
    trained = draw.overlay(label_map, ENGINE.spec.model_copy(update={"trained": True}))
    assert untrained.shape[2] == 3 and untrained.shape[1] == 64
    assert not np.array_equal(untrained, trained)


def test_a_used_sensor_has_a_filled_chip_and_an_absent_one_a_hollow_one():
    made = segmenter()
    rows = [r for r in schedule(2) if r[1] != "lidar" or r[0] < SECOND]
    label_map = drive(made, rows)[-1][1]
    strip = draw.overlay(label_map, ENGINE.spec)[48:]
    live, dead = (np.array(draw.STATE_COLORS[s]) for s in (State.LIVE, State.DEAD))
    chips = np.split(strip, 4, axis=1)
    green = [(chip == live).all(-1).mean() for chip in chips]
    assert min(green[:3]) > 0.2 and green[3] == 0
    assert 0 < (chips[3] == dead).all(-1).mean() < 0.6


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ALL),
            st.integers(0, 80),
            st.integers(-2000, 2000),
            st.integers(0, 4000),
            st.binary(max_size=40),
        ),
        max_size=40,
    )
)
def test_whatever_arrives_nothing_raises_and_stamps_only_grow(rows):
    """Damaged payloads and wild stamps between good messages."""
    made = segmenter()
    now, last = 0, 0
    for name, gap_ms, shift_ms, cut, junk in rows:
        now += gap_ms * MS
        sent = message(name, max(0, EPOCH + now + shift_ms * MS), now // MS)
        payload = sent.events if name == "event" else sent.data
        damaged = np.frombuffer(payload.tobytes()[:cut] + junk, np.uint8)
        setattr(sent, "events" if name == "event" else "data", damaged)
        made.push(name, sent, now)
        jumps = made.intake.jumps
        if label_map := made.step(now):
            assert label_map.stamp_ns > last or jumps
            assert label_map.used and label_map.ids.max() <= IGNORE
            last = label_map.stamp_ns
    received = sum(h.received for h in made.health(now).values())
    assert received == len(rows)


def test_a_jpeg_camera_works_as_well():
    def make(name, stamp, k):
        return compressed(SCENES[k % 40], stamp)

    maps = drive(segmenter(("rgb",)), schedule(0.5, ("rgb",)), make)
    assert len(maps) >= 14 and maps[-1][1].used == ("rgb",)


def overflowing(names=ALL, *, only: str | None = None) -> EagerEngine:
    """Finite weights that overflow at run time; `only`: where this sensor is in the set."""
    model = checkpoint.untrained(checkpoint.default_spec(names, size=SIZE, stem="per_modality"))
    with torch.no_grad():
        if only is None:
            model.head.classifier.weight.fill_(3e38)
            model.head.norm.bias.fill_(3.0)
        else:
            model.encoder.stages[0].embed.norm[0].weight.fill_(1.0)
            model.encoder.stages[0].embed.proj[names.index(only)].weight.fill_(3e38)
    assert all(p.isfinite().all() for p in model.parameters())
    return EagerEngine(model, pick_device("cpu"))


def made_of(engine: EagerEngine, names=ALL) -> Segmenter:
    made = segmenter(names)
    made._engine = engine
    return made


def test_logits_that_are_not_finite_make_no_mask_and_are_named():
    made = made_of(overflowing())
    assert drive(made, schedule(0.5)) == []
    assert made.masks == 0 and made.refused.total() > 5
    assert "internal: the network's logits of rgb" in made.trouble
    assert "are not finite" in made.trouble and f"({made.refused.total()} sets)" in made.trouble


def test_one_sensor_that_overflows_costs_its_masks_and_no_others():
    """Held readings are in most sets; once the sensor is dead, masks come and nothing is wrong."""
    names = ("rgb", "depth")
    made = made_of(overflowing(names, only="depth"), names)
    rows = [row for row in schedule(2.0, names) if row[1] == "rgb" or row[0] < SECOND]
    maps = drive(made, rows)
    assert maps and all(m.used == ("rgb",) for _, m in maps)
    ((who, finding, count),) = made.refused
    assert who == "rgb depth" and finding.fault is Fault.INTERNAL and count > 1
    assert str(finding) == (
        "internal: the network's logits of rgb, depth are not finite, so no mask was made; use "
        "other weights"
    )
    assert made.trouble == ""
    healthy = segmenter(names)
    drive(healthy, rows)
    assert len(maps) + made.refused.total() == healthy.masks
    assert not healthy.refused and healthy.trouble == ""


@pytest.fixture
def needing_rgb(monkeypatch):
    """The network makes no mask without the camera."""
    needs = classmethod(lambda cls, spec: ("rgb",))
    monkeypatch.setattr(AnyModalSegmenter, "needs_of", needs)


def test_a_network_that_needs_the_camera_makes_no_mask_without_it_and_says_why(needing_rgb):
    made = segmenter()
    made.warm_up()
    rows = [r for r in schedule(3) if r[1] != "rgb" or not SECOND < r[0] < 2 * SECOND]
    split = next(i for i, row in enumerate(rows) if row[0] > 1.9 * SECOND)
    before = drive(made, rows[:split])
    assert before and all("rgb" in m.used for _, m in before)
    said = "rgb is out (silent), and the network (m_segformer) makes no mask without it"
    assert made.trouble.startswith(f"silent: {said}") and made.refused.total() > 5
    assert any(remark.startswith(said) for remark in made.remarks())
    after = drive(made, rows[split:])
    assert after and after[-1][1].used == ALL and made.trouble == "", "and it goes on"


@pytest.mark.slow
def test_nothing_is_compiled_while_masks_are_made():
    done = run_program(
        """
        import gc
        from robustseg_core.codecs.fields import Compiled
        from support import drives

        def compiled():
            kernels = [one for one in gc.get_objects() if isinstance(one, Compiled)]
            return {one.python.__qualname__: one._native and len(one._native.signatures)
                    for one in kernels}

        rows = drives.rows(1.0)
        made = drives.segmenter()
        made.warm_up()
        before = compiled()
        masks = [mask for _, mask in drives.drive(made, rows)]
        late = [name for name, count in compiled().items() if count != before.get(name)]
        print(len(masks) > 10, late)
        """
    )
    assert done.stdout == "True []\n"


def test_a_robot_without_the_camera_that_its_network_needs_is_refused(needing_rgb):
    with pytest.raises(RobustsegError, match=r"no mask without rgb, and the robot has depth; set"):
        segmenter(("depth",))


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(0, 38))
@settings(max_examples=25, deadline=None)
def test_a_mask_is_made_of_finite_logits_or_not_at_all(seed, exponent):
    """Any scale of the last layer: what leaves the engine is what its logits say."""
    model = checkpoint.untrained(checkpoint.default_spec(("rgb",), size=(32, 32)), seed=seed % 3)
    with torch.no_grad():
        model.head.classifier.weight.mul_(10.0**exponent)
    frame = Frame("rgb", 0, np.random.default_rng(seed).normal(size=(3, 32, 32)).astype("f4"))
    engine = EagerEngine(model, pick_device("cpu"))
    with torch.inference_mode():
        images, alive = {"rgb": torch.from_numpy(frame.array)[None]}, torch.ones(1, 1).bool()
        logits = model.folded()(images, alive).logits
    try:
        ids, confidence = engine(Bundle(0, {"rgb": frame}))
    except NotFiniteError:
        assert not logits.isfinite().all() or logits.abs().max() > 1e38
    else:
        assert logits.isfinite().all()
        assert ids.max() < 19 and confidence.min() >= 255 // 19


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "meta", "CPU", "cuda:99999"])
def test_a_device_that_is_none_is_explained(name):
    with pytest.raises(RobustsegError, match="device is "):
        pick_device(name)


PICTURES = {"depth": {"representation": "hha"}, "lidar": {"representation": "deliver_picture"}}
"""Encodings of a network that learned from a data set's own pictures."""


def test_what_a_network_cannot_be_fed_is_left_out_and_told():
    spec = checkpoint.default_spec(size=SIZE, encodings=PICTURES)
    made = Segmenter(
        config.parse(RobotConfig, {"streams": {n: {"topic": f"/{n}"} for n in ("rgb", "depth")}}),
        spec,
        EagerEngine(checkpoint.untrained(spec), pick_device("cpu")),
    )
    assert made.streams == ("rgb",)
    masks = []
    for k in range(20):
        stamp = EPOCH + k * 33 * MS
        made.push("rgb", message("rgb", stamp, k), stamp)
        masks.append(made.step(stamp))
    last = [mask for mask in masks if mask][-1]
    assert last.used == ("rgb",)
    why = "the network learned from its data set's own pictures (hha), no sensor's"
    assert sentence(last.reasons["depth"]) == f"disabled: {why}"
    assert sentence(last.reasons["lidar"]) == "disabled: not configured"
    assert made.remarks() == [f"depth is ignored: {why}"]


def test_a_robot_of_which_nothing_can_be_fed_is_refused():
    spec = checkpoint.default_spec(size=SIZE, encodings=PICTURES)
    robot = config.parse(RobotConfig, {"streams": {"depth": {"topic": "/depth"}}})
    with pytest.raises(RobustsegError, match=r"no configured stream can be fed .*depth: the netw"):
        Segmenter(robot, spec, ENGINE)
