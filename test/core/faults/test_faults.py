"""Every fault there is, done to healthy sensors: what it changes, and who finds it."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core import faults
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.events.evt3 import Evt3Decoder
from robustseg_core.codecs.image import FORMATS, decode_compressed, decode_image
from robustseg_core.codecs.points import decode_points
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import FaultSpec, Injector, parse_fault, read_fault
from robustseg_core.faults.kinds import depth
from robustseg_core.faults.kinds import image as image_faults
from robustseg_core.types import SECOND, Fault, Rejection
from support import ROOT
from support.drives import EPOCH, TOPICS, message, rows, through
from support.makers import cloud, compressed, image, make

PAIRS = [(m, n) for n in faults.available() for m in faults.reached(n)]


def changed(text: str, sent):
    """One message as a fault leaves it."""
    name = parse_fault(text).target
    (_, _, out), *_ = through(text, [(0, name, sent)])
    return out


# -- the spelling ---------------------------------------------------------------------------------


def test_a_fault_names_victim_kind_options_start_and_duration():
    assert parse_fault("rgb:stuck@12s+5s") == FaultSpec("rgb", "stuck", {}, 12.0, 5.0)
    spec = parse_fault("/cam:covered(share=0.5, level=0)")
    assert spec == FaultSpec("/cam", "covered", {"share": "0.5", "level": "0"}, 0.0, None)
    assert spec.model().share == 0.5


@given(
    st.sampled_from(["rgb:blurred(sigma=3)", "lidar:off", "all:offset(seconds=-2.5)"]),
    st.floats(0, 1e6).map(lambda s: round(s, 3)),
    st.none() | st.floats(0.001, 1e6).map(lambda s: round(s, 3)),
)
def test_what_a_fault_prints_parses_back(text, start_s, duration_s):
    spec = parse_fault(text)
    spec = FaultSpec(spec.target, spec.name, spec.options, start_s, duration_s)
    again = parse_fault(str(spec))
    assert (again.target, again.name, again.options) == (spec.target, spec.name, spec.options)
    assert again.start_s == pytest.approx(start_s, rel=1e-5)
    assert (again.duration_s is None) == (duration_s is None)
    assert (again.duration_s or 0) == pytest.approx(duration_s or 0, rel=1e-5)


@pytest.mark.parametrize(
    "text, said",
    [
        ("rgb", "TARGET:FAULT(key=value)@START+DURATION"),
        ("rgb:black@-1", "TARGET:FAULT(key=value)@START+DURATION"),
        ("rgb:black@1+0", "positive duration"),
        ("rgb:blak@1", "no fault called 'blak'; did you mean 'black'?"),
        ("rgb:noise", "did you mean 'gaussian_noise'? `robustseg list` names all"),
        ("rgb:zzz", "no fault called 'zzz'; `robustseg list` names all"),
        ("rbg:black", "no modality and no /topic; did you mean 'rgb'?"),
        ("lidar:black", "black cannot be done to lidar, only to rgb; `robustseg list` says"),
        ("all:black", "black cannot be done to all"),
        ("rgb:covered(shar=1)", "unknown key 'rgb:covered.shar'; did you mean 'share'?"),
        ("rgb:black(severity=9)", "unknown key 'rgb:black.severity'; there are none"),
        ("rgb:covered(share=2)", "rgb:covered.share is '2': input should be less than or equal"),
        ("rgb:covered(share)", "'share' in fault 'rgb:covered(share)' is no option"),
    ],
)
def test_a_misspelt_fault_says_what_was_expected(text, said):
    with pytest.raises(RobustsegError) as error:
        parse_fault(text)
    assert said in str(error.value)


def test_the_grammar_alone_asks_for_no_target_and_no_fault():
    """Whose words mean more targets (`info`: every CameraInfo) read them by the same grammar."""
    assert read_fault("info:off@2+1") == FaultSpec("info", "off", {}, 2.0, 1.0)
    assert read_fault("nir:odd(a=1, b=x)") == FaultSpec("nir", "odd", {"a": "1", "b": "x"})
    for text in ("rgb", "rgb:holes(share)", "rgb:off@1+0"):
        with pytest.raises(RobustsegError):
            read_fault(text)


def test_the_pages_say_how_many_faults_there_are():
    count = f"{len(faults.available())} faults"
    for page in ("docs/get_started.md", "CHANGELOG.md"):
        said = re.findall(r"\b\d\d faults\b", (ROOT / page).read_text())
        assert said and set(said) == {count}, f"{page}: write {count}"


def test_a_fault_of_a_sensor_that_the_robot_lacks_is_refused():
    with pytest.raises(RobustsegError, match="names no sensor of this robot; have"):
        Injector([parse_fault("lidar:off")], topics={"rgb": "/rgb"})
    with pytest.raises(RobustsegError, match="black cannot be done to lidar"):
        Injector([parse_fault("/lidar:black")], topics=TOPICS)


ONLY_PEERS_TELL = ("misaligned", "mirrored")
"""Found by cross-sensor evidence: one sensor alone says nothing of it."""


def test_faults_and_health_speak_one_language():
    same = {fault.value for fault in Fault} & set(faults.available())
    assert same >= {"black", "saturated", "flat", "covered", "blurred", "stuck", "offset", "slow"}
    for name in same:
        told = Fault(name) in faults.load(name).finds
        assert told or name in ("stuck", "frame_id", *ONLY_PEERS_TELL), name
    for name in faults.available():
        assert faults.describe(name)[0].isupper()


# -- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("modality, name", PAIRS)
def test_a_fault_leaves_the_message_that_it_was_given_as_it_was(modality, name):
    arrivals = rows(0.5, (modality,))
    before = copy.deepcopy(arrivals)
    through(f"{modality}:{name}" + "(rate_hz=1e6)" * (name == "event_flood"), arrivals)
    for (_, _, ours), (_, _, theirs) in zip(arrivals, before, strict=True):
        assert ours.header == theirs.header
        payload = "events" if modality == "event" else "data"
        assert np.array_equal(getattr(ours, payload), getattr(theirs, payload))


@pytest.mark.parametrize("encoding", sorted(FORMATS))
def test_an_image_of_any_encoding_can_be_painted(encoding):
    form = FORMATS[encoding]
    lines = 48 * form.rows[0] // form.rows[1]
    raw = np.random.default_rng(0).integers(0, 255, (lines, 64 * form.channels * form.bits // 8))
    sent = image(raw.astype(np.uint8), encoding, width=64)
    sent.height = 48
    flat = image_faults.edited(sent, lambda rgb: np.full_like(rgb, 200))
    assert flat.encoding == encoding and flat.data.shape == sent.data.shape
    assert np.abs(decode_image(flat).astype(int) - 200).max() <= 2
    ramp = np.repeat(np.linspace(40, 200, 48).astype(np.uint8)[:, None], 64, 1)
    shown = decode_image(image_faults.edited(sent, lambda rgb: np.dstack([ramp] * 3)))
    assert np.abs(shown.astype(int) - ramp[..., None]).max() <= 4


def test_row_padding_survives_painting():
    padded = np.full((48, 64 * 3 + 8), 7, np.uint8)
    sent = image(padded, "rgb8", step=200, width=64)
    out = image_faults.edited(sent, lambda rgb: rgb + 100)
    table = out.data.reshape(48, 200)
    assert (table[:, :192] == 107).all() and (table[:, 192:] == 7).all()


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_a_compressed_image_stays_of_its_kind(form):
    picture = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    sent = compressed(picture, form=form)
    out = changed("rgb:covered(share=0.5,level=0)", sent)
    assert out.format == sent.format and bytes(out.data[:2]) == bytes(sent.data[:2])
    rgb = decode_compressed(out).astype(int)
    assert rgb[:, :28].max() < 12 and np.abs(rgb[:, 40:] - (50, 100, 200)).max() < 12


def depth_png(form: str, raw: np.ndarray, head: bytes):
    sent = compressed(raw, form="png")
    sent.format, sent.data = form, np.frombuffer(head + sent.data.tobytes(), np.uint8)
    return sent


def depth_messages():
    metres = np.random.default_rng(0).uniform(1.5, 4, (48, 64))
    head = np.array([0, 0, 0], "<i4").tobytes()
    scale = np.array([0], "<i4").tobytes() + np.array([100, 1], "<f4").tobytes()
    mm = (metres * 1000).astype(np.uint16)
    return {
        "16UC1": image(mm, "16UC1"),
        "16UC1 big": image(mm.astype(">u2"), "16UC1", is_bigendian=1),
        "32FC1": image(metres.astype("<f4"), "32FC1"),
        "png": depth_png("16UC1; png", mm, b""),
        "compressedDepth": depth_png("16UC1; compressedDepth png", mm, head),
        "quantized": depth_png(
            "32FC1; compressedDepth png", (100 / metres + 1).astype(np.uint16), scale
        ),
    }


@pytest.mark.parametrize("kind", sorted(depth_messages()))
def test_depth_of_any_encoding_gets_holes_goes_blind_and_changes_its_unit(kind):
    sent = depth_messages()[kind]
    before = decode_depth(sent)
    holes = decode_depth(changed("depth:holes(share=0.5,side=4)", sent))
    lost = np.isnan(holes)
    assert 0.2 < lost.mean() < 0.8 and np.array_equal(holes[~lost], before[~lost])
    assert np.isnan(decode_depth(changed("depth:invalid_depth", sent))).all()
    assert np.isnan(decode_depth(changed("depth:invalid_depth(value=zero)", sent))).all()
    ratio = np.median(decode_depth(changed("depth:depth_unit", sent))) / np.median(before)
    assert ratio == pytest.approx(1000, rel=0.01) or ratio == pytest.approx(0.001, rel=0.5)


@pytest.mark.parametrize("kind", sorted(depth_messages()))
@pytest.mark.parametrize("text", ["misaligned(deg=0)", "wrong_calibration(scale=1)"])
def test_depth_of_any_encoding_keeps_its_metres_where_nothing_moves(kind, text):
    sent = depth_messages()[kind]
    ours, theirs = (decode_depth(m) for m in (changed(f"depth:{text}", sent), sent))
    assert np.array_equal(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("name", ["misaligned", "fouling", "half_frozen", "mirrored"])
def test_rvl_is_passed_on_and_told(name):
    sent = depth_png("16UC1; compressedDepth rvl", np.zeros((4, 4), np.uint16), b"\0" * 12)
    injector = Injector([parse_fault(f"depth:{name}")], topics=TOPICS)
    assert injector.feed("/depth", sent, 5) == [("/depth", sent, 5)]
    assert "read, not written" in next(iter(injector.refused))


def test_what_cannot_be_changed_is_passed_on_and_told():
    sent = depth_png("16UC1; compressedDepth rvl", np.zeros((4, 4), np.uint16), b"\0" * 12)
    injector = Injector([parse_fault("depth:holes")], topics=TOPICS)
    assert injector.feed("/depth", sent, 5) == [("/depth", sent, 5)]
    assert "read, not written" in next(iter(injector.refused))
    assert injector.feed("/depth", object(), 6)[0].time_ns == 6
    with pytest.raises(Rejection):
        depth.edited(sent, lambda raw: raw)


def test_lost_returns_are_those_of_the_sector_and_the_rings():
    sent = message("lidar", 0)
    seen = decode_points(changed("lidar:sector(start_deg=10,width_deg=30)", sent)).xyz
    angle = np.degrees(np.arctan2(seen[:, 1], seen[:, 0]))
    assert not ((angle > 10.01) & (angle < 39.99)).any()
    assert len(seen) == pytest.approx(3000 * (1 - 30 / 172), rel=0.05)
    kind = [("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("ring", ">u2"), ("pad", "u1")]
    table = np.ones(64 * 30, kind)
    table["ring"] = np.repeat(np.arange(64), 30)
    left = decode_points(changed("lidar:rings(share=0.25)", cloud(table, row_padding=3)))
    assert len(set(left.ring.tolist())) == 48 and len(left.xyz) == 48 * 30


def test_jitter_moves_returns_along_their_rays():
    before = decode_points(message("lidar", 0)).xyz
    after = decode_points(changed("lidar:jitter(metres=0.05)", message("lidar", 0))).xyz
    ranges = np.linalg.norm(after, axis=1) - np.linalg.norm(before, axis=1)
    assert ranges.std() == pytest.approx(0.05, rel=0.1)
    assert np.allclose(np.cross(after, before), 0, atol=1e-3)


@pytest.mark.parametrize(
    "text", ["event:hot_pixels(rate_hz=20000)", "event:event_flood(rate_hz=1e5)"]
)
def test_added_events_take_no_real_one_away_and_do_not_spoil_the_next_packet(text):
    arrivals = rows(1.0, ("event",))
    clean, noisy = Evt3Decoder(64, 48), Evt3Decoder(64, 48)
    added = 0
    disturbed = through(text + "@0.3+0.4", arrivals)
    for (_, _, ours), (_, _, theirs) in zip(disturbed, arrivals, strict=True):
        a, b = noisy.decode(ours.events), clean.decode(theirs.events)
        real = set(zip(b.x.tolist(), b.y.tolist(), b.p.tolist(), b.t.tolist(), strict=True))
        found = list(zip(a.x.tolist(), a.y.tolist(), a.p.tolist(), a.t.tolist(), strict=True))
        assert real <= set(found) and (np.diff(a.t) >= 0).all()
        assert (a.unknown, a.outside, a.early) == (0, 0, 0)
        added += len(found) - len(b.t)
    assert added > 0


def test_exchanged_polarities_change_nothing_else():
    ours = Evt3Decoder(64, 48).decode(changed("event:wrong", message("event", 3)).events)
    theirs = Evt3Decoder(64, 48).decode(message("event", 3).events)
    assert np.array_equal(ours.p, ~theirs.p) and np.array_equal(ours.x, theirs.x)
    assert np.array_equal(ours.t, theirs.t)


def test_a_delay_moves_the_arrival_and_not_the_stamp():
    arrivals = rows(1.0, ("rgb", "depth"))
    late = through("rgb:delayed(seconds=0.12)@0.5", arrivals)
    assert [at for at, *_ in late] == sorted(at for at, *_ in late)
    for at, name, sent in late:
        stamp = sent.header.stamp.sec * SECOND + sent.header.stamp.nanosec - EPOCH
        delayed = name == "rgb" and stamp >= SECOND // 2
        assert at - stamp == (120_000_000 if delayed else 0)
    assert len(late) == len(arrivals)


def test_overtaken_messages_are_all_delivered():
    arrivals = rows(1.05, ("rgb",))
    out = through("rgb:out_of_order@0.2+0.55", arrivals)
    stamps = [m.header.stamp.nanosec + m.header.stamp.sec * SECOND for *_, m in out]
    assert sorted(stamps) == [EPOCH + at for at, *_ in arrivals]
    assert (np.diff(stamps) < 0).sum() == 5


def test_a_fault_added_to_another_one_leaves_its_dice_alone():
    arrivals = rows(1.0)
    alone = Injector([parse_fault("rgb:salt_pepper")], seed=3, topics=TOPICS, start_ns=0)
    two = [parse_fault("lidar:jitter"), parse_fault("rgb:salt_pepper")]
    both = Injector(two, seed=3, topics=TOPICS, start_ns=0)
    for at, name, sent in arrivals:
        if name == "rgb":
            ours, theirs = (i.feed("/rgb", sent, at)[0].message for i in (alone, both))
            assert np.array_equal(ours.data, theirs.data)
        else:
            both.feed(TOPICS[name], sent, at)


def test_live_messages_keep_their_kind_of_buffer():
    import array

    sent = copy.copy(message("rgb", 0))
    sent.data = array.array("B", sent.data.tobytes())
    out = changed("rgb:black", sent)
    assert isinstance(out.data, array.array) and out.data.typecode == "B"


def test_a_stamp_before_the_beginning_of_time_is_zero():
    out = changed("rgb:offset(seconds=-1e10)", message("rgb", 0))
    assert out.header.stamp == make("builtin_interfaces/msg/Time", sec=0, nanosec=0)
