"""Faults of five severities: each measures one thing, and what it measures is what it does."""

from __future__ import annotations

import array
import copy
import itertools
import re
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core import faults, modalities
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.events.evt3 import Evt3Decoder
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.codecs.points import decode_points
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import Injector, parse_fault
from robustseg_core.faults._base import Creeping, Graded
from robustseg_core.faults.kinds import image as images
from robustseg_core.faults.kinds import mount
from robustseg_core.learn.shipped import held_out
from robustseg_core.types import MS, SECOND
from support import ROOT
from support.drives import ALL, EPOCH, RATES, TOPICS, message, rows, through, write_drive
from support.makers import compressed, image

KINDS = [name for name in faults.available() if issubclass(faults.load(name), Graded)]
PAIRS = [(m, name) for name in KINDS for m in faults.reached(name)]
BEFORE_S, SECONDS = 0.5, 1.0


def full(name: str, **options: object) -> str:
    """The words of a fault that is at its worst from the start on."""
    if "minutes" in faults.load(name).model_fields:
        options.setdefault("minutes", 0)
    return f"{name}({','.join(f'{key}={value}' for key, value in options.items())})"


def alive(seconds: float, name: str, form: str = "raw") -> list:
    """A healthy sensor, raw or compressed."""
    if form == "raw":
        return rows(seconds, (name,))
    return [(at, kind, squeezed(kind, sent)) for at, kind, sent in rows(seconds, (name,))]


@cache
def _squeezed(name: str, stamp_ns: int):
    k = round((stamp_ns - EPOCH) / SECOND * RATES[name])
    sent = message(name, k)
    if name == "rgb":
        bgr = cv2.cvtColor(images.decoded(sent), cv2.COLOR_RGB2BGR)
        made = compressed(bgr, form="jpg")
    else:
        mm = np.frombuffer(bytes(sent.data), "<u2").reshape(48, 64)
        made = compressed(mm, form="png")
        made.format = "16UC1; compressedDepth png"
        made.data = np.frombuffer(bytes(12) + made.data.tobytes(), np.uint8)
    made.header = sent.header
    return made


def squeezed(name: str, sent):
    return _squeezed(name, stamp_of(sent))


def seen(name: str, sent, decoder: Evt3Decoder | None = None):
    """What is in a message; an error: it does not decode."""
    if name == "rgb":
        return images.decoded(sent).astype(float)
    if name == "depth":
        return decode_depth(sent)
    if name == "lidar":
        return decode_points(sent).xyz
    return (decoder or Evt3Decoder(sent.width, sent.height)).decode(sent.events)


def payload(sent) -> bytes:
    return bytes(getattr(sent, modalities.payload_name(sent)))


# -- all of them ----------------------------------------------------------------------------------


def test_each_measures_an_option_and_a_worse_one_is_worse():
    assert len(KINDS) == 16
    for name in KINDS:
        kind = faults.load(name)
        field = kind.model_fields[kind.measures]
        assert field.default is None and field.description and len(kind.levels) == 5
        assert all(a <= b for a, b in itertools.pairwise(kind.levels)), name
        assert kind.levels[0] < kind.levels[2] and kind().amount == kind.levels[2]
        for severity, level in enumerate(kind.levels, 1):
            told = parse_fault(f"rgb:{name}(severity={severity})")
            assert told.model().amount == level
            both = kind(severity=severity, **{kind.measures: kind.levels[0]})
            assert both.amount == kind.levels[0], "what is given wins"
        assert issubclass(kind, Creeping) == ("minutes" in kind.model_fields)


@pytest.mark.parametrize(
    "text", ["rgb:dew(severity=0)", "rgb:dew(severity=6)", "rgb:dew(severity=x)"]
)
def test_other_severities_are_refused(text):
    with pytest.raises(RobustsegError, match="severity"):
        parse_fault(text)


FORMS = [(m, n, "raw") for m, n in PAIRS]
FORMS += [(m, n, "compressed") for m, n in PAIRS if m in ("rgb", "depth")]


@pytest.mark.parametrize("modality, name, form", FORMS)
def test_what_comes_of_it_decodes_is_repeatable_and_leaves_what_it_was_given(modality, name, form):
    arrivals = alive(SECONDS, modality, form)
    before = copy.deepcopy(arrivals)
    text = f"{modality}:{full(name)}@{BEFORE_S}"
    once, again = through(text, arrivals, seed=3), through(text, arrivals, seed=3)
    decoder = Evt3Decoder(64, 48)
    for (at, _, ours), (at_again, _, theirs) in zip(once, again, strict=True):
        assert at == at_again and ours.header == theirs.header and payload(ours) == payload(theirs)
        found = seen(modality, ours, decoder)
        if modality == "event":
            assert (found.unknown, found.outside, found.early) == (0, 0, 0)
    for (_, _, ours), (_, _, theirs) in zip(arrivals, before, strict=True):
        assert ours.header == theirs.header and payload(ours) == payload(theirs)
    untouched = [sent for at, _, sent in once if at < BEFORE_S * SECOND]
    assert [id(m) for m in untouched] == [id(m) for at, _, m in arrivals if at < BEFORE_S * SECOND]


def test_faults_of_one_stream_and_of_several_go_together():
    """Pairs and triples, in any order: nothing is refused, all decodes, each is repeatable."""
    told = random_schedules(24)
    assert {len(words) for words in told} == {2, 3}
    for words in told:
        runs = []
        for _ in range(2):
            injector = Injector([parse_fault(w) for w in words], seed=1, topics=TOPICS, start_ns=0)
            out = [s for at, n, m in rows(0.6) for s in injector.feed(TOPICS[n], m, at)]
            out += injector.flush()
            assert not injector.refused, words
            assert all(injector.changed[str(parse_fault(word))] for word in words), words
            runs.append([(s.topic, s.time_ns, payload(s.message)) for s in out])
            decoder = Evt3Decoder(64, 48)
            for sample in out:
                seen(sample.topic[1:], sample.message, decoder)
        assert runs[0] == runs[1], words


def random_schedules(count: int) -> list[list[str]]:
    rng = np.random.default_rng(5)
    lethal = {"off", "flapping", "burst", "intermittent", "slow"}  # may leave nothing to the others
    able = [(m, n) for m, n in PAIRS if n not in lethal]
    made = []
    for k in range(count):
        picked = [able[i] for i in rng.choice(len(able), 2 + k % 2, replace=False)]
        if k % 3 == 0:  # all on one stream
            pool = [n for m, n in able if m == picked[0][0]]
            picked = [(picked[0][0], n) for n in rng.choice(pool, len(picked), replace=False)]
        made.append([f"{m}:{full(n)}@{0.1 + 0.1 * j:g}" for j, (m, n) in enumerate(picked)])
    return made


def test_a_fault_beside_another_is_what_it_is_alone():
    arrivals = rows(0.8, ("rgb", "lidar"))
    words = ["rgb:misaligned@0.2", "lidar:fouling(minutes=0)@0.3", "lidar:shifted_in_time@0.4"]
    injector = Injector([parse_fault(w) for w in words], seed=2, topics=TOPICS, start_ns=0)
    both = [s for at, n, m in arrivals for s in injector.feed(TOPICS[n], m, at)]
    alone = through(words[0], [row for row in arrivals if row[1] == "rgb"], seed=2)
    ours = [s.message for s in both if s.topic == "/rgb"]
    assert list(map(payload, ours)) == [payload(m) for *_, m in alone]
    dirty = through(words[1], [row for row in arrivals if row[1] == "lidar"], seed=2)
    late = [s.message for s in both if s.topic == "/lidar"]
    assert list(map(payload, late)) == [payload(m) for *_, m in dirty]
    shift = [stamp_of(a) - stamp_of(b) for a, (*_, b) in zip(late, dirty, strict=True)]
    assert shift == [0] * 4 + [80 * MS] * 4


# -- place and optics -----------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["yaw", "pitch", "roll"])
@given(deg=st.floats(-20, 20))
@settings(max_examples=15, deadline=None)
def test_points_and_pixels_turn_alike(axis, deg):
    """A point seen by a LiDAR and by a camera in one place: both are knocked, both still agree."""
    turn = mount.rotation(deg, axis)
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)
    ahead = np.array([[8.0, 1.0, 0.5], [5.0, -2.0, -1.0], [20.0, 0.0, 1.0]])
    k = mount._intrinsics((100, 160), 0.6)

    def pixel(body):
        optical = k @ mount._OPTICAL @ body.T
        return optical[:2] / optical[2]

    fault = mount.Misaligned(deg=deg, axis=axis, focal=0.6)
    source = fault._source((100, 160), faults.FaultState(np.random.default_rng()))
    knocked = pixel(ahead @ turn)  # R^T p
    back = source @ np.vstack([knocked, np.ones(3)])
    assert np.allclose(back[:2] / back[2], pixel(ahead))


def test_axes_are_those_of_rep_103():
    """Turned to the left, what was ahead is to the right; nose down, it is up; and so on."""
    ahead, left = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    assert (ahead @ mount.rotation(10, "yaw"))[1] < 0
    assert (ahead @ mount.rotation(10, "pitch"))[2] > 0
    assert (left @ mount.rotation(10, "roll"))[2] < 0


def test_a_knocked_camera_shifts_its_picture_by_the_focal_length_times_the_tangent():
    dot = np.zeros((200, 320, 3), np.uint8)
    dot[95:105, 155:165] = 255
    sent = image(dot, "rgb8")
    for deg in (3.0, 6.0):
        (_, _, out), *_ = through(f"rgb:misaligned(deg={deg:g},focal=0.8)", [(0, "rgb", sent)])
        white = np.argwhere(images.decoded(out)[..., 0] > 128).mean(0)
        assert white[1] - 159.5 == pytest.approx(0.8 * 320 * np.tan(np.radians(deg)), abs=0.7)
        assert white[0] == pytest.approx(99.5, abs=0.7)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_knocked_depth_is_the_depth_of_the_same_wall(encoding):
    """A wall across the way, 8 m ahead: from 10 degrees aside, a ray meets it elsewhere."""
    wall = np.full((96, 128), 8.0, "<f4")
    sent = image(wall if encoding == "32FC1" else (wall * 1000).astype("<u2"), encoding)
    (_, _, out), *_ = through("depth:misaligned(deg=10)", [(0, "depth", sent)])
    found = decode_depth(out)
    across, turn = (np.arange(128) - 63.5) / (mount.FOCAL_WIDTHS * 128), np.radians(10)
    known = np.isfinite(found[48])
    assert 0.75 < known.mean() < 0.95, "on one side it looks at what nobody saw"
    met = 8 / (np.cos(turn) + across * np.sin(turn))
    assert np.abs(found[48] - met)[known].max() < 2e-3


def test_the_focal_length_is_that_of_the_simulators_cameras():
    from robustseg_core.sim.rig import focal_px

    assert focal_px(1000) / 1000 == pytest.approx(mount.FOCAL_WIDTHS, abs=5e-4)


def test_another_lens_enlarges_by_the_scale_and_leaves_the_middle_and_depth():
    dot = np.zeros((200, 320, 3), np.uint8)
    dot[95:105, 235:245] = 255  # 80 pixels to the right of the middle
    (_, _, out), *_ = through("rgb:wrong_calibration(scale=1.25)", [(0, "rgb", image(dot, "rgb8"))])
    white = np.argwhere(images.decoded(out)[..., 0] > 128).mean(0)
    assert white == pytest.approx([99.5, 159.5 + 100], abs=0.7)
    sent = message("depth", 3)
    (_, _, far), *_ = through("depth:wrong_calibration(scale=0.8)", [(0, "depth", sent)])
    ours, theirs = decode_depth(far), decode_depth(sent)
    assert ours[24, 32] == pytest.approx(theirs[24, 32], rel=0.05)
    assert np.isnan(ours[:2]).all() and np.isfinite(ours).mean() == pytest.approx(0.64, abs=0.05)


def test_a_loosening_mount_turns_by_and_by():
    arrivals = rows(1.0, ("lidar",))
    out = through("lidar:loosening(deg=9,minutes=0.01)@0.2", arrivals)  # 0.6 s
    turned = []
    for (*_, ours), (*_, theirs) in zip(out, arrivals, strict=True):
        a, b = seen("lidar", ours), seen("lidar", theirs)
        turn = np.arctan2(a[:, 1], a[:, 0]) - np.arctan2(b[:, 1], b[:, 0])
        turned.append(-np.degrees(np.median((turn + np.pi) % (2 * np.pi) - np.pi)))
    expected = [0, 0, 0, 1.5, 3, 4.5, 6, 7.5, 9, 9]
    assert turned == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("modality", ALL)
def test_a_mirror_is_wrong_and_done_twice_it_is_right(modality):
    arrivals = rows(0.3, (modality,))
    twice = through(f"{modality}:mirrored", through(f"{modality}:mirrored", arrivals))
    if modality == "event":
        one, two = Evt3Decoder(64, 48), Evt3Decoder(64, 48)
        for (*_, ours), (*_, theirs) in zip(twice, arrivals, strict=True):
            a, b = one.decode(ours.events), two.decode(theirs.events)
            assert np.array_equal(a.x, b.x) and np.array_equal(a.t, b.t)
        return
    assert [payload(m) for *_, m in twice] == [payload(m) for *_, m in arrivals]
    wrong = through(f"{modality}:wrong", arrivals)
    mirrored = through(f"{modality}:mirrored", arrivals)
    assert [payload(m) for *_, m in mirrored] == [payload(m) for *_, m in wrong]


@pytest.mark.parametrize("name", ["mirrored", "swapped_channels", "wrong_place"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.8, 1.0])
def test_as_many_messages_are_changed_as_are_named(name, share):
    arrivals = rows(2.0, ("rgb",))
    out = through(f"rgb:{name}(share={share})@0.5", arrivals)
    changed = sum(payload(a) != payload(b) for (*_, a), (*_, b) in zip(out, arrivals, strict=True))
    assert changed == pytest.approx(share * 30, abs=1)


def test_red_and_blue_are_exchanged_in_any_packing():
    rgb = np.random.default_rng(0).integers(0, 255, (8, 16, 3)).astype(np.uint8)
    for encoding, form in (("rgb8", rgb), ("bgr8", rgb[..., ::-1])):
        (_, _, out), *_ = through("rgb:swapped_channels", [(0, "rgb", image(form, encoding))])
        assert out.encoding == encoding
        assert np.array_equal(images.decoded(out), rgb[..., ::-1])
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    (_, _, out), *_ = through("rgb:swapped_channels", [(0, "rgb", compressed(flat, form="jpg"))])
    assert np.abs(images.decoded(out).astype(int) - (200, 100, 50)).max() < 8


# -- what settles, hangs and fades ----------------------------------------------------------------


@cache
def amounts(name: str, modality: str) -> list[float]:
    """What is measured of one message at severities 1 to 5: the share that is gone or changed."""
    found = []
    for severity in range(1, 6):
        arrivals = rows(0.2, (modality,))
        out = through(f"{modality}:{full(name, severity=severity)}", arrivals, seed=1)
        one, two = Evt3Decoder(64, 48), Evt3Decoder(64, 48)
        pairs = zip(out, arrivals, strict=True)
        kept = [(seen(modality, a, one), seen(modality, b, two)) for (*_, a), (*_, b) in pairs]
        found.append(float(np.mean([changed_share(name, modality, a, b) for a, b in kept])))
    return found


def changed_share(name: str, modality: str, ours, theirs) -> float:
    if modality == "event":
        return 1 - ours.t.size / theirs.t.size
    if modality == "lidar" and name == "dust":
        return float((np.linalg.norm(ours, axis=1) < 0.98 * np.linalg.norm(theirs, axis=1)).mean())
    if modality == "lidar":
        return 1 - len(ours) / len(theirs)
    if modality == "depth" and name == "dust":
        return float((ours < theirs - 0.002).mean())
    if modality == "depth":
        return 1 - float(np.isfinite(ours).sum() / np.isfinite(theirs).sum())
    if name == "fading":
        return 1 - float(ours.mean() / theirs.mean())
    if name == "dust":  # a veil takes contrast
        return float(1 - np.polyfit(theirs.ravel(), ours.ravel(), 1)[0])
    if name == "dew":
        fine = [cv2.Laplacian(a, cv2.CV_64F).std() for a in (ours, theirs)]
        return 1 - float(fine[0] / fine[1])  # the halo has nothing fine
    return float(
        (np.abs(ours - (52, 44, 36)).sum(2) < 0.5 * np.abs(theirs - (52, 44, 36)).sum(2)).mean()
    )


CREEPING = [(m, n) for m, n in PAIRS if n in ("fouling", "dew", "dust", "fading")]


@pytest.mark.parametrize("modality, name", CREEPING)
def test_a_severity_is_as_much_as_it_says(modality, name):
    levels, found = faults.load(name).levels, amounts(name, modality)
    assert all(a < b for a, b in itertools.pairwise(found))
    loose = {("depth", "dust"): 0.45, ("rgb", "dew"): 0.13}  # near things hide no cloud; a halo of
    assert found == pytest.approx(levels, abs=loose.get((modality, name), 0.08))  # three pixels


@pytest.mark.parametrize("modality, name", [p for p in CREEPING if p[1] != "dew"])
def test_it_creeps_in_from_nothing(modality, name):
    arrivals = rows(1.0, (modality,))
    out = through(f"{modality}:{name}(severity=5,minutes=0.01)@0.3", arrivals, seed=1)
    one, two = Evt3Decoder(64, 48), Evt3Decoder(64, 48)
    shares = {}
    for (at, _, ours), (*_, theirs) in zip(out, arrivals, strict=True):
        pair = seen(modality, ours, one), seen(modality, theirs, two)
        shares[at / SECOND] = changed_share(name, modality, *pair)
    early = [share for at, share in shares.items() if at <= 0.3]
    steady = [share for at, share in shares.items() if at >= 0.9]
    middle = [share for at, share in shares.items() if 0.5 < at < 0.7]
    assert max(early) < 0.03 and np.mean(early) < np.mean(middle) < np.mean(steady)


# -- earlier and elsewhere ------------------------------------------------------------------------


def test_a_replay_is_as_old_as_it_says_under_stamps_of_now():
    arrivals = rows(2.0, ("rgb",))
    out = through("rgb:replayed(seconds=0.5)@1", arrivals)
    payloads = [payload(m) for *_, m in arrivals]
    for k, (at, _, sent) in enumerate(out):
        assert stamp_of(sent) == EPOCH + at
        assert payload(sent) == payloads[k - 10 if at >= SECOND else k]


def test_a_replay_goes_back_no_further_than_messages_were_seen():
    out = through("rgb:replayed(seconds=8)@0.5", rows(1.0, ("rgb",)))
    assert payload(out[10][2]) == payload(message("rgb", 0))
    assert payload(out[-1][2]) == payload(message("rgb", 9))


@pytest.mark.parametrize("name", ["replayed(seconds=0.3)", "wrong_place"])
@pytest.mark.parametrize("modality", ALL)
def test_where_nothing_was_seen_nothing_changes_until_it_was(name, modality):
    arrivals = rows(1.0, (modality,))
    out = through(f"{modality}:{name}", arrivals)
    same = [payload(a) == payload(b) for (*_, a), (*_, b) in zip(out, arrivals, strict=True)]
    if name == "wrong_place":  # 64 messages are not there
        assert all(same)
    else:
        assert [at for (at, *_), s in zip(out, same, strict=True) if s][-1] < 0.3 * SECOND
        assert not any(same[round(0.3 * RATES[modality]) :])


@pytest.mark.parametrize("name", ["replayed(seconds=0.2)", "wrong_place"])
def test_old_events_are_told_as_events_of_now(name):
    arrivals = rows(1.0, ("event",))
    out = through(f"event:{name}@0.5+0.3", arrivals)
    decoder, plain = Evt3Decoder(64, 48), Evt3Decoder(64, 48)
    last = 0
    for (at, _, ours), (*_, theirs) in zip(out, arrivals, strict=True):
        found, real = decoder.decode(ours.events), plain.decode(theirs.events)
        assert ours.seq == theirs.seq and found.early == 0
        assert found.t[0] == real.t[0] and found.t[0] > last - 25_000
        same = found.x.size == real.x.size and np.array_equal(found.x, real.x)
        assert same == (not 0.5 <= at / SECOND < 0.8)
        last = int(found.t[-1])


def test_another_drive_is_shown_over_and_over_under_our_stamps(tmp_path):
    other = write_drive(tmp_path / "other", 0.4)
    for modality in ALL:
        arrivals = rows(1.2, (modality,))[-round(RATES[modality] * 0.8) :]  # not what it has itself
        out = through(f"{modality}:wrong_place(bag={other})", arrivals)
        count = round(0.4 * RATES[modality])
        for k, ((*_, ours), (*_, theirs)) in enumerate(zip(out, arrivals, strict=True)):
            assert ours.header == theirs.header
            expected = message(modality, k % count)
            if modality != "event":
                assert payload(ours) == payload(expected)
            else:
                a, b = (Evt3Decoder(64, 48).decode(m.events) for m in (ours, expected))
                assert np.array_equal(a.x, b.x) and np.array_equal(a.p, b.p)


def as_rclpy(sent):
    """The same as a message of rclpy: no rosbags type, and arrays for buffers."""
    kind = type(sent).__name__.rpartition("__")[2]
    package = sent.__msgtype__.partition("/")[0]
    live = type(kind, (), {"__module__": f"{package}.msg._{kind.lower()}"})()
    for name, value in vars(sent).items():
        if name == "__msgtype__":
            continue
        setattr(live, name, array.array("B", value.tobytes()) if name in BUFFERS else value)
    return live


BUFFERS = ("data", "events")


@pytest.mark.parametrize("modality", ALL)
def test_another_drive_is_shown_live_in_messages_of_rclpy(tmp_path, modality):
    other = write_drive(tmp_path / "other", 0.3)
    live = as_rclpy(message(modality, 9))
    fault = f"{modality}:wrong_place(bag={other})"
    injector = Injector([parse_fault(fault)], topics=TOPICS)
    (out,) = injector.feed(TOPICS[modality], live, 0)
    assert not injector.refused and type(out.message) is type(live)
    assert out.message.header is live.header
    assert isinstance(getattr(out.message, modalities.payload_name(live)), array.array)
    if modality != "event":
        assert payload(out.message) == payload(message(modality, 0))


def test_a_drive_that_is_not_there_is_refused():
    with pytest.raises(RobustsegError, match="does not exist; name a recording"):
        parse_fault("rgb:wrong_place(bag=nowhere.mcap)")


def test_a_drive_without_such_a_topic_is_told(tmp_path):
    other = write_drive(tmp_path / "other", 0.2, names=("depth",))
    injector = Injector([parse_fault(f"lidar:wrong_place(bag={other})")], topics=TOPICS)
    assert injector.feed("/lidar", message("lidar", 0), 0)[0].message is message("lidar", 0)
    assert "no topic of type sensor_msgs/msg/PointCloud2" in next(iter(injector.refused))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_half_stands_still_and_the_other_goes_on(side):
    arrivals = rows(0.6, ("rgb",))
    out = through(f"rgb:half_frozen(side={side})@0.3", arrivals)
    still = images.decoded(message("rgb", 5))
    for k in range(6, 12):
        found, real = images.decoded(out[k][2]), images.decoded(message("rgb", k))
        parts = (slice(32), slice(32, 64))
        frozen, moving = parts if side == "left" else parts[::-1]
        assert np.array_equal(found[:, frozen], still[:, frozen])
        assert np.array_equal(found[:, moving], real[:, moving])


def test_a_sector_of_the_scan_stands_still():
    arrivals = rows(0.6, ("lidar",))
    out = through("lidar:half_frozen(share=0.5)@0.3", arrivals)
    before, now, found = (seen("lidar", m) for m in (arrivals[2][2], arrivals[5][2], out[5][2]))
    left = found[:, 1] > 0
    assert np.array_equal(found[left], before[before[:, 1] > 0])
    assert np.array_equal(found[~left], now[~(now[:, 1] > 0)])


# -- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [80, -40.5])
def test_a_shift_moves_stamps_and_nothing_else(ms):
    arrivals = rows(0.5, ("depth",))
    for (at, _, ours), (was, _, theirs) in zip(
        through(f"depth:shifted_in_time(ms={ms})", arrivals), arrivals, strict=True
    ):
        assert at == was and payload(ours) == payload(theirs)
        assert stamp_of(ours) - stamp_of(theirs) == round(ms * MS)


def test_a_fast_clock_gains_so_much_a_second():
    out = through("rgb:drift(percent=2)@1", rows(2.0, ("rgb",)))
    gained = [(stamp_of(m) - EPOCH - at) / MS for at, _, m in out]
    assert gained[:20] == [0] * 20
    assert gained[20:] == pytest.approx([k + 1 for k in range(20)], abs=1e-3)  # 1 ms in 50


@given(st.floats(0.05, 0.95), st.floats(0.2, 3))
@settings(max_examples=20, deadline=None)
def test_it_is_dead_for_its_share_of_the_time(share, period_s):
    words = f"rgb:flapping(share={share:.3f},period_s={period_s:.3f})@1"
    injector = Injector([parse_fault(words)], topics=TOPICS, start_ns=0)
    times = [k * SECOND // 100 for k in range(100 + round(600 * period_s))]
    alive_at = [s.time_ns / SECOND for t in times for s in injector.feed("/rgb", None, t)]
    assert sum(at < 1 for at in alive_at) == 100
    lost = 1 - (len(alive_at) - 100) / (len(times) - 100)
    assert lost == pytest.approx(share, abs=0.02 + 0.01 / period_s)
    assert not [at for at in alive_at if 1 <= at < 1 + share * period_s - 0.002], "dead at first"


@given(st.floats(0.06, 2))
@settings(max_examples=20, deadline=None)
def test_a_burst_delivers_all_in_order_at_its_beats(seconds):
    words = f"rgb:burst(seconds={seconds:.3f})@0.5+3"
    injector = Injector([parse_fault(words)], topics=TOPICS, start_ns=0)
    sent = [(k, k * SECOND // 20) for k in range(120)]
    out = [s for k, t in sent for s in injector.feed("/rgb", k, t)] + injector.flush()
    held = [s for s in out if 10 <= s.message < 70]
    assert sorted(s.message for s in out) == list(range(120))
    assert [s.message for s in held] == list(range(10, 70))
    step_ns = round(round(seconds, 3) * SECOND)
    for sample in held:
        waits_ns = sample.time_ns - sent[sample.message][1]
        assert 0 < waits_ns <= step_ns and (sample.time_ns - SECOND // 2) % step_ns == 0


# -- what is written about them -------------------------------------------------------------------


def test_the_page_names_every_level():
    page = (ROOT / "docs/specs/faults.md").read_text()
    for name in KINDS:
        kind = faults.load(name)
        levels = ", ".join(f"{level:g}" for level in kind.levels)
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert f"`{kind.measures}`" in row and levels in row, f"{name}: {kind.measures} {levels}"
        assert ("held out" in row) == (name in held_out())


def test_the_list_marks_what_is_held_out():
    from typer.testing import CliRunner

    from robustseg_core.cli.main import app

    listed = CliRunner().invoke(app, ["list"]).output.splitlines()
    marked = {line.split()[1] for line in listed if re.match(r"fault .*\[held out", line)}
    assert marked == held_out() & set(faults.available())
