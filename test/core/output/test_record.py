"""What a run leaves behind, above all when there is nothing to leave."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import parse_kill
from robustseg_core.geometry.transforms import TransformTree
from robustseg_core.models import checkpoint
from robustseg_core.output import report
from robustseg_core.output.film import VideoWriter
from robustseg_core.output.recorder import (
    masks_line,
    score_line,
    silence_notices,
    unused_notices,
)
from robustseg_core.output.topics import of_a_mask
from robustseg_core.recording.run import run_bags
from robustseg_core.sim.sheet import draw_drive
from robustseg_core.types import MS, SECOND
from support import drives
from support.films import frames, lasts_s, moments
from support.makers import image, scenes
from support.programs import run_program

pytestmark = pytest.mark.slow

IMAGE = "sensor_msgs/msg/Image"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run_bags` with a network so small that it costs nothing."""
    weights = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint.save(weights, checkpoint.untrained(checkpoint.default_spec(size=drives.SIZE)))

    def run_small(bags, out, *words, **options):
        return run_bags(bags, out=out, overrides=[f"weights={weights}", *words], **options)

    return run_small


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    """Six seconds of truth; all four sensors die after one."""
    path = tmp_path_factory.mktemp("bag") / "dead"
    return drives.write_drive(path, 1.0, drives.truths(6.0))


@pytest.fixture(scope="module")
def out(dead, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    run([dead], out, "points.recorded=true")
    return out


@pytest.fixture(scope="module")
def result(out):
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    path = tmp_path_factory.mktemp("bag") / "healthy"
    return drives.write_drive(path, 2.0, drives.truths(2.0))


def test_truth_without_a_mask_is_missed(result):
    truth = result["truth"]
    assert truth["labels"] == 60 and 8 <= truth["with_mask"] <= 11
    assert result["totals"]["label_coverage"] == pytest.approx(truth["with_mask"] / 60, abs=1e-4)


def test_gaps_and_rates_reach_to_the_end_of_the_recording(result):
    sums = result["totals"]
    assert sums["duration_s"] == pytest.approx(5.9)
    assert 4700 < sums["longest_gap_ms"] < 5100
    assert sums["rate_hz"] == pytest.approx(len(result["masks"]) / 5.9, abs=0.01)
    assert 0.1 < sums["coverage"] < 0.25


def test_a_notice_says_from_when_to_when_and_why(result):
    (notice,) = result["notices"]
    assert notice.startswith("no mask from 0.9") and " s to 5.90 s: rgb silent: nothing" in notice
    for name in drives.ALL:
        assert (
            f"{name} silent: nothing for 4" in notice or f"{name} silent: nothing for 5" in notice
        )


def test_the_film_lasts_as_long_as_the_recording_and_shows_that_no_mask_came(out):
    shown = frames(out / "overlay.webm")
    assert len(shown) == pytest.approx(5.9 * 30, abs=1)
    assert shown[-1][:10].mean() < 0.6 * shown[20][:10].mean()
    assert abs(shown[60].astype(int) - shown[-1]).mean() < 5, "the banner stands still"


def test_the_table_of_changes_does_not_end_with_a_mask(result, out):
    last = report.changes(result)[-1]
    assert last["used"] == [] and "rgb silent" in last["reasons"]["all"]
    page = (out / "report.html").read_text()
    assert "no mask from 0.9" in page and "of 60 labels have a mask" in page
    assert masks_line(result) in page and "absent classes are left out of the mean" in page


def test_curves_and_lanes_stop_where_no_mask_came(result, monkeypatch):
    kept = []
    monkeypatch.setattr(report.plt, "close", kept.append)
    gap = {**result, "masks": [*result["masks"]]}
    late = {**result["masks"][-1], "at_s": 5.5, "miou": 0.5}
    gap["masks"].append(late)
    report.poster(gap)
    lanes, latency, score = kept[0].subfigs[-1].axes[:3]
    for axes in (latency, score):
        x, y = axes.lines[0].get_data()
        places = np.flatnonzero(np.isnan(y))
        assert len(places) and x[places[-1] + 1] == 5.5, "broken before the late mask"
    bars = [b for b in lanes.collections if len(b.get_paths())]
    ends = [p.vertices[:, 0] for b in bars for p in b.get_paths()]
    assert not any(x.min() < 2 and x.max() > 2 for x in ends), "no lane crosses the silence"
    assert lanes.get_xlim()[1] == pytest.approx(5.9)


def test_the_legend_names_every_state_that_is_drawn(result, monkeypatch):
    kept = []
    monkeypatch.setattr(report.plt, "close", kept.append)
    unheard = {**result, "modalities": ["rgb", "radar"]}  # no mask says anything of the second
    report.poster(unheard)
    lanes = kept[0].subfigs[-1].axes[0]
    told = [text.get_text() for text in lanes.get_legend().get_texts()]
    assert "LIVE" in told and "DISABLED" in told


def test_a_healthy_drive_raises_no_notice_and_misses_nothing(healthy, run, tmp_path):
    result = run([healthy], tmp_path)
    assert result["notices"] == [] and result["totals"]["silences"] == []
    assert result["totals"]["coverage"] > 0.95
    assert result["truth"]["labels"] == 20 and result["truth"]["with_mask"] >= 19
    assert result["totals"]["rate_hz"] == pytest.approx(20, rel=0.1)


def test_a_pass_that_is_killed_is_missed_and_the_others_are_not(healthy, run, tmp_path):
    kills = [parse_kill(f"{name}@2.1+1.9") for name in drives.ALL]
    result = run([healthy] * 3, tmp_path, faults=kills)
    assert result["truth"]["labels"] == 60
    assert 30 <= result["truth"]["with_mask"] <= 40, "until 2.1 s, and from 5 s"
    (silence,) = result["totals"]["silences"]
    assert 1.9 <= silence["from_s"] < 2.4 and 3.8 < silence["to_s"] < 5.1
    assert {(one["modality"], one["fault"]) for one in silence["why"]} == {
        (name, "silent") for name in drives.ALL
    }
    assert all(one["value"] > one["limit"] > 0 and one["unit"] == "ms" for one in silence["why"])
    at_s = [row["at_s"] for row in result["masks"]]
    assert at_s == sorted(at_s) and at_s[-1] > 5.5
    assert len(frames(tmp_path / "overlay.webm")) / 30 == pytest.approx(
        result["totals"]["duration_s"], abs=1 / 30
    )


def camera(path: Path, times_s, *, stamp_s=0.0, labels=False):
    """A camera whose messages are logged at these times; `stamp_s` is added to their stamps."""
    pictures = scenes(len(times_s), seed=5)
    with BagWriter(path) as writer:
        for k, t in enumerate(times_s):
            at = drives.EPOCH + round(t * SECOND)
            stamp = at + round(stamp_s * SECOND)
            writer.write("/camera/image_raw", IMAGE, image(pictures[k], "rgb8", stamp), at)
            if labels:
                ids = image(np.full((96, 128), k % 19, np.uint8), "mono8", stamp)
                writer.write("/camera/label", IMAGE, ids, at + 2 * MS)
    return path


@pytest.mark.parametrize("stamp_s", [-1_699_999_000.0, 0.6])
def test_stamps_of_another_clock_are_no_silence(run, tmp_path, stamp_s):
    times_s = [k / 20 for k in range(40)]
    bag = camera(tmp_path / "bag", times_s, stamp_s=stamp_s, labels=True)
    result = run([bag], tmp_path / "out")
    assert result["notices"] == [] and result["totals"]["coverage"] > 0.9
    assert result["truth"]["with_mask"] >= 38, "found by stamp, scored at the truth's size"
    assert result["truth"]["scored_at"] == [96, 128]
    assert len(frames(tmp_path / "out" / "overlay.webm")) == pytest.approx(1.95 * 30, abs=2)


def test_an_hours_pause_is_told_and_does_not_make_a_film_of_an_hour(run, tmp_path):
    times_s = [k / 20 for k in range(20)] + [3600 + k / 20 for k in range(20)]
    result = run([camera(tmp_path / "bag", times_s)], tmp_path / "out")
    assert result["totals"]["longest_gap_ms"] == pytest.approx(3_599_500, abs=1000)
    assert "no mask from 0.95 s to 3600." in result["notices"][0]
    assert 60 < len(frames(tmp_path / "out" / "overlay.webm")) / 30 < 64


def test_truth_before_and_after_a_jump_of_all_stamps_is_found(run, tmp_path):
    """NTP sets the clock back by 100 s in mid-drive, the camera's and the labels'."""
    with BagWriter(tmp_path / "bag") as writer:
        pictures = scenes(80, seed=5)
        for k in range(80):
            at = drives.EPOCH + k * 50 * MS
            stamp = at - (100 * SECOND if k >= 40 else 0)
            writer.write("/camera/image_raw", IMAGE, image(pictures[k], "rgb8", stamp), at)
            ids = image(np.full((48, 64), k % 19, np.uint8), "mono8", stamp)
            writer.write("/camera/label", IMAGE, ids, at + 2 * MS)
    result = run([tmp_path / "bag"], tmp_path / "out")
    assert result["truth"]["labels"] == 80 and result["truth"]["with_mask"] > 70
    assert result["totals"]["coverage"] > 0.9


def test_one_wild_stamp_of_the_truth_blocks_nothing(run, tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        pictures = scenes(40, seed=5)
        for k in range(40):
            at = drives.EPOCH + k * 50 * MS
            writer.write("/camera/image_raw", IMAGE, image(pictures[k], "rgb8", at), at)
            stamp = at + (9000 * SECOND if k == 10 else 0)
            ids = image(np.full((48, 64), k % 19, np.uint8), "mono8", stamp)
            writer.write("/camera/label", IMAGE, ids, at + 2 * MS)
    result = run([tmp_path / "bag"], tmp_path / "out")
    assert result["truth"]["labels"] == 40 and result["truth"]["with_mask"] >= 37


def test_strict_ends_with_3_where_masks_are_missing(dead, tmp_path, capsys):
    words = ["run", str(dead), "--out", str(tmp_path), "--strict"]
    assert guarded(lambda: app(words)) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "notice: no mask from 0.9" in said and "labels have a mask, the others are missed" in said
    )
    assert "% of 5.90 s" in said
    assert "no mask since 0.9" in said and " used" not in said.partition("at the end")[2], (
        "all dead"
    )


def test_many_silences_are_told_in_four_sentences():
    silences = [{"from_s": float(k), "to_s": k + 0.6 + k / 100, "why": []} for k in range(9)]
    told = silence_notices({"silences": silences})
    assert told[0] == "no mask from 6.00 s to 6.66 s"
    assert told[3] == "no mask in 6 other pauses either, at most 0.65 s long and 3.75 s in all"


@pytest.mark.parametrize("apart_s", [60.0, -3600.0])
def test_labels_that_no_mask_can_meet_are_told(run, tmp_path, apart_s):
    with BagWriter(tmp_path / "bag") as writer:
        pictures = scenes(40, seed=5)
        for k in range(40):
            at = drives.EPOCH + k * 50 * MS
            writer.write("/camera/image_raw", IMAGE, image(pictures[k], "rgb8", at), at)
            stamp = at + round(apart_s * SECOND)
            ids = image(np.full((48, 64), k % 19, np.uint8), "mono8", stamp)
            writer.write("/camera/label", IMAGE, ids, at + 2 * MS)
    result = run([tmp_path / "bag"], tmp_path / "out")
    (told,) = [text for text in result["notices"] if "/camera/label" in text]
    assert told.startswith("40 of 40 labels") and "another clock or rate" in told


def _row(at_s, state, used=()):
    reasons = {} if used else {"rgb": ["late"]}
    return {"at_s": at_s, "used": list(used), "states": {"rgb": state}, "reasons": reasons}


def test_a_sensor_that_is_believed_and_never_fits_is_told():
    rows = [_row(0.0, "LIVE", ["rgb"]), *(_row(float(k), "LIVE") for k in range(1, 5))]
    late = {"modality": "rgb", "fault": "late", "from_s": 1.0, "to_s": 4.0, "text": "by 4"}
    assert unused_notices(rows, [late]) == [
        "rgb was believed, and in no mask from 1.00 s to 4.00 s: late: by 4"
    ]
    assert unused_notices(rows[1:]) == [], "never used at all: that is another sentence"
    dead = [_row(0.0, "LIVE", ["rgb"]), *(_row(float(k), "DEAD") for k in range(1, 5))]
    assert unused_notices(dead) == [] and unused_notices([]) == []


def test_a_run_without_truth_has_no_score(run, tmp_path):
    result = run([camera(tmp_path / "bag", [0, 0.05, 0.1, 0.15])], tmp_path / "out")
    assert score_line(result) == "" and "truth" not in result
    assert "label_coverage" not in result["totals"]


# -- the MCAP -------------------------------------------------------------------------------------


def test_the_mcap_carries_what_the_node_publishes(out, result):
    with Bag(out / "mcap") as bag:
        topics = {t.name: t for t in bag.topics if t.name != "/tf_static"}
        assert {name.removeprefix("/robustseg/") for name in topics} == {"label_info", *of_a_mask()}
        assert topics["/robustseg/label_info"].latched
        messages = {name: list(bag.messages({name})) for name in topics}
        (names,) = messages.pop("/robustseg/label_info")
        assert len(names.message().class_map) == 20
        stamps = {
            name: [(r.time_ns, r.header()[0]) for r in rows] for name, rows in messages.items()
        }
        expected = [(row["stamp_ns"], row["stamp_ns"]) for row in result["masks"]]
        for name, output in of_a_mask().items():
            found = stamps[f"/robustseg/{name}"]
            assert found == expected if output.sure else {*found} <= {*expected}, name
        far = {"depth", "lidar"}
        far_ns = [row["stamp_ns"] for row in result["masks"] if far & set(row["used"])]
        assert [stamp for stamp, _ in stamps["/robustseg/points"]] == far_ns
        assert all(len(row.message().header.frame_id) for rows in messages.values() for row in rows)
        mask = messages["/robustseg/label_mask"][3].message()
        sure = messages["/robustseg/confidence"][3].message()
        assert (sure.encoding, sure.height, sure.width) == ("mono8", mask.height, mask.width)
    with next((out / "mcap").glob("*.mcap")).open("rb") as file:
        topics = [channel.topic for _, channel, _ in make_reader(file).iter_messages()][:2]
    assert topics == ["/tf_static", "/robustseg/label_info"], "before the first mask"


def test_the_mcap_says_where_each_cloud_and_picture_is(out):
    tree = TransformTree()
    with Bag(out / "mcap") as bag:
        (static,) = bag.messages({"/tf_static"})
        assert tree.add(static.message())[1] is None
        frames = {
            name: {row.message().header.frame_id for row in bag.messages({f"/robustseg/{name}"})}
            for name in ("points", "camera_info")
        }
    assert frames["camera_info"] == {"camera"} and "lidar" in frames["points"]
    for frame in frames["points"]:
        assert tree.route("camera", frame) is not None


# -- the film -------------------------------------------------------------------------------------

COLORS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


def flat(color):
    return np.full((64, 96, 3), color, np.uint8)


def test_frames_are_at_their_stamps(tmp_path):
    at_s = (0.0, 0.213, 0.4)
    with VideoWriter(tmp_path / "a.webm") as film:
        for color, t in zip(COLORS, at_s, strict=True):
            film.add(flat(color), t)
        film.finish(0.6)
    shown = moments(tmp_path / "a.webm")
    assert [t for t, _ in shown] == pytest.approx(at_s, abs=1e-6)
    for (_, picture), color in zip(shown, COLORS, strict=True):
        assert np.abs(picture[32, 48, ::-1].astype(int) - color).max() < 25
    assert lasts_s(tmp_path / "a.webm") == pytest.approx(0.6, abs=0.01)


@given(
    steps_ms=st.lists(st.integers(1, 90_000), max_size=30),
    first_ms=st.integers(0, 3000),
    tail_ms=st.integers(0, 5000),
)
@example(steps_ms=[1], first_ms=0, tail_ms=3)  # out of date before it was seen
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_picture_stands_at_its_own_time_whatever_the_times(
    tmp_path, steps_ms, first_ms, tail_ms
):
    """Less what pauses were shortened by, and to a sixtieth of a second where they come faster."""
    at_ms = [first_ms, *(first_ms + s for s in np.cumsum(steps_ms, dtype=int).tolist())]
    with VideoWriter(tmp_path / "a.webm") as film:
        for t in at_ms:
            film.add(flat((200, 200, 200)), t / 1000)
        film.finish((at_ms[-1] + tail_ms) / 1000)
    shown = moments(tmp_path / "a.webm")
    bright = {round(1000 * t) for t, picture in shown if picture[2, 2].mean() > 150}
    left_out = 0
    for before, t in zip([at_ms[0], *at_ms], at_ms, strict=False):
        left_out += max(0, t - before - 60_000)
        due = t - left_out
        assert bright & {*range(max(0, due - 17), due + 1)}, (t, due)
    assert all(b > a for (a, _), (b, _) in pairwise(shown)) and shown[0][0] == 0


def test_masks_faster_than_the_film_are_the_newest_of_each_frame(tmp_path):
    with VideoWriter(tmp_path / "a.webm") as film:
        for k in range(200):
            film.add(flat(COLORS[k % 3]), k / 200)
        film.finish(1.0)
    assert len(moments(tmp_path / "a.webm")) == 60


def test_one_picture_makes_a_film(tmp_path):
    with VideoWriter(tmp_path / "a.webm") as film:
        film.add(flat(COLORS[0]), 0.0)
    assert len(moments(tmp_path / "a.webm")) == 1


def test_before_the_first_picture_it_is_dimmed(tmp_path):
    with VideoWriter(tmp_path / "a.webm") as film:
        film.add(flat((200, 200, 200)), 1.0)
        film.finish(1.2)
    (at_s, dark), (then_s, bright) = moments(tmp_path / "a.webm")
    assert (at_s, then_s) == (0.0, 1.0)
    assert dark[2, 2].max() < 110 < 170 < bright[2, 2].min()


def test_a_film_that_was_killed_plays_as_far_as_it_goes(tmp_path):
    film = VideoWriter(tmp_path / "a.webm")
    for k in range(100):
        film.add(flat(COLORS[k % 3]), k / 10)
    film.abandon()
    assert 75 <= len(moments(tmp_path / "a.webm")) <= 100


def test_a_film_that_cannot_be_written_is_an_error(tmp_path):
    film = VideoWriter(tmp_path / "gone" / "a.webm")
    with pytest.raises(RobustsegError, match=r"cannot write .*a\.webm"):
        film.add(flat(COLORS[0]), 0.0)


def test_a_film_for_which_the_disk_is_too_small_is_an_error(tmp_path):
    program = f"""
        import resource, signal
        from pathlib import Path
        import numpy as np
        from robustseg_core.errors import RobustsegError
        from robustseg_core.output.film import VideoWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
        rng = np.random.default_rng(0)
        film = VideoWriter(Path({str(tmp_path / "a.webm")!r}))
        for k in range(30):
            film.add(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8), k / 30)
        try:
            film.finish(1.0)
        except RobustsegError as error:
            print(error)
    """
    assert "is the disk full?" in run_program(program).stdout


def test_the_film_of_a_drive_lasts_as_long_as_the_drive(healthy, tmp_path):
    sheet, film = draw_drive(healthy, tmp_path)
    assert sheet.exists()
    assert lasts_s(film) == pytest.approx(1.975, abs=0.05)
