"""The rows of the fault matrix as data (docs/robustness.md), and none is lost silently.

A row is measured here, on any drive with truth, or names the tests that prove it elsewhere: over
DDS, by fuzzing, by soaking, in the core.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from robustseg_core.errors import RobustsegError
from robustseg_core.faults import ALL, parse_fault
from robustseg_core.robustness.case import INFO, SENSORS, Bit, Case, Limit, Span
from robustseg_core.types import Fault, State

DEAD = frozenset({State.DEAD})
THREE = Limit(messages=3)
SILENCE = Limit(seconds=0.17, messages=3)
"""Three periods; silence of less than 150 ms is none (docs/specs/health.md)."""
FREEZE = Limit(seconds=0.5, messages=5)
ROWS_TOTAL = 51


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the matrix."""

    number: int
    fault: str
    expected: str
    deadline: str
    cases: tuple[Case, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Tests that prove it, or the rest of it: file::test."""


def _on(sensors: Iterable[str], fault: str, **expected: Any) -> list[Case]:
    """A fault done to each of these sensors; what it finds is the fault's own promise."""
    made = []
    for name in sensors:
        told = parse_fault(f"{name}:{fault}").model()
        known = {"finds": told.found_on(name), "may": told.may | told.finds, **expected}
        made.append(Case(0, name, (Span(f"{name}:{fault}"),), **known))
    return made


def _row(
    number: int, fault: str, expected: str, deadline: str, *cases: list[Case], see: str = ""
) -> Row:
    own = tuple(replace(case, row=number) for group in cases for case in group)
    return Row(number, fault, expected, deadline, own, tuple(see.split()))


def _flapping() -> list[Case]:
    """One second off, one second on, twice: with back-off the second pardon takes a second."""
    spans = {name: tuple(Span(f"{name}:off", k, 1.0) for k in (0.0, 2.0)) for name in SENSORS}
    return [
        Case(
            0,
            name,
            spans[name],
            finds=frozenset({Fault.SILENT}),
            may=frozenset({Fault.SEQUENCE_GAP, Fault.LOSSY}),
            within=SILENCE,
            transitions=3,
            lasts_s=3.9,
            scored=False,
        )
        for name in SENSORS
    ]


def _blackout() -> list[Case]:
    """All die; after a second and a half one returns."""
    return [
        Case(
            0,
            name,
            tuple(Span(f"{n}:off", 0.0, 1.5 if n == name else 4.0) for n in SENSORS),
            finds=frozenset({Fault.SILENT}),
            may=frozenset({Fault.SEQUENCE_GAP}),
            within=SILENCE,
            reaches=State.DEAD,
            lasts_s=1.5,
            after_s=1.5,
            goes_on=False,
            dark_s=(0.5, 1.5),
            back_s=1.0,
            scored=False,
        )
        for name in SENSORS
    ]


def _everywhere(words: str, lasts: float | None = None, **expected: Any) -> list[Case]:
    """Something that happens to all sensors at once, for so many seconds."""
    spans = (Span(words, duration_s=lasts),) if words else ()
    return [Case(0, ALL, spans, scored=False, **expected)]


OUT: dict[str, Any] = {"bit": Bit.OUT, "within": THREE}
DOUBTED: dict[str, Any] = {
    "bit": Bit.USED,
    "within": Limit(seconds=1.0),
    "never": DEAD,
    "reaches": State.DEGRADED,
}

MATRIX: tuple[Row, ...] = (
    _row(1, "drop-out, permanent", "DEAD (silent)", "3 periods + 20 ms",
         _on(SENSORS, "off", bit=Bit.OUT, within=SILENCE, reaches=State.DEAD, lasts_s=2.0),
         see="test/ros/test_matrix_live.py::"
         "test_a_dying_camera_costs_one_deadline_and_no_period_without_a_mask"),
    _row(2, "drop-out, brief", "held or absent for that frame, stays LIVE", "",
         _on(SENSORS, "off", finds=frozenset(), may=frozenset({Fault.SEQUENCE_GAP}), never=DEAD,
             lasts_s=0.12, after_s=0.8, scored=False)),
    _row(3, "intermittent, half of the messages", "named; at most two transitions",
         "2 s or 20 messages",
         _on(SENSORS, "intermittent", within=Limit(seconds=2.0, messages=20), transitions=2,
             lasts_s=2.5)),
    _row(4, "flapping, 1 s off and 1 s on", "pardons take longer each time",
         "3 periods + 20 ms", _flapping(),
         see="test/core/health/test_health.py::test_a_flapping_sensor_is_trusted_less_each_time"),
    _row(5, "frozen, new stamps", "DEAD (stuck)", "0.5 s or 5 messages",
         _on(SENSORS, "stuck", bit=Bit.OUT, within=FREEZE, reaches=State.DEAD, lasts_s=2.0)),
    _row(6, "frozen, same stamp", "rejected as repeated", "5 messages",
         _on(SENSORS, "stuck(same_stamp=true)", bit=Bit.OUT, within=Limit(messages=5)),
         _on(SENSORS, "repeated_stamp", bit=Bit.OUT, within=Limit(messages=5))),
    _row(7, "rate falls to a third", "named (slow); used where young enough",
         "2 s or 12 messages",
         _on(SENSORS, "slow", finds=frozenset({Fault.SLOW}), never=DEAD,
             within=Limit(seconds=2.0, messages=12), lasts_s=2.6)),
    _row(8, "200 ms late", "absent (late), or matched", "1 s",
         _on(SENSORS, "delayed(seconds=0.2)", finds=frozenset({Fault.LATE, Fault.SILENT}),
             within=Limit(seconds=1.0))),
    _row(9, "out of order", "older ones dropped and counted", "4 messages",
         _on(SENSORS, "out_of_order", within=Limit(messages=4))),
    _row(10, "zero stamp", "rejected", "3 messages", _on(SENSORS, "zero_stamp", **OUT)),
    _row(11, "one stamp far off", "rejected; the next sets are as before", "3 messages",
         _on(SENSORS, "stamp_jump", within=THREE, bit=Bit.USED, never=DEAD, scored=False),
         _on(SENSORS, "stamp_jump(seconds=-60)", within=THREE, bit=Bit.USED, never=DEAD,
             scored=False)),
    _row(12, "one sensor's clock 3 s off", "rejected, with the offset", "3 messages",
         _on(SENSORS, "offset(seconds=3)", **OUT), _on(SENSORS, "offset(seconds=-3)", **OUT)),
    _row(13, "all clocks leap 60 s ahead", "one reset, masks within 1 s", "1 s",
         _everywhere("all:offset(seconds=60)", jumps=1)),
    _row(14, "the bag is looped", "one reset, as many sets again", "1 s",
         _everywhere("", jumps=1, passes=2, begins_s=0.0, lasts_s=5.0, goes_on=False),
         see="test/core/test_segmenter.py::test_a_bag_loop_keeps_the_number_of_sets "
         "test/ros/test_matrix_live.py::test_a_bag_in_a_loop_gives_as_many_masks_in_each_pass"),
    _row(15, "/clock stops", "watchdog alive, named", "2 s",
         see="test/ros/test_clock_live.py::"
         "test_a_clock_that_is_missing_stops_or_goes_back_is_named_and_masks_go_on "
         "test/ros/test_life.py::test_a_clock_that_stops_and_jumps_stops_nobody"),
    _row(16, "/clock missing", "named, masks go on", "5 s",
         see="test/ros/test_clock_live.py::"
         "test_a_clock_that_is_missing_stops_or_goes_back_is_named_and_masks_go_on"),
    _row(17, "bag paused for 10 s", "DEAD meanwhile, back without restart", "1 s",
         _everywhere("all:delayed(seconds=10)", lasts=math.inf, lasts_s=10.0, after_s=2.0,
                     goes_on=False, dark_s=(0.5, 10.0), reaches=State.DEAD),
         see="test/core/sync/test_stamps.py::test_a_paused_bag_is_no_jump "
         "test/ros/test_matrix_live.py::test_a_paused_bag_is_silence_and_then_goes_on"),
    _row(18, "depth all invalid", "rejected", "3 messages",
         _on(["depth"], "invalid_depth", **OUT),
         _on(["depth"], "invalid_depth(value=zero)", **OUT)),
    _row(19, "depth of the wrong unit or encoding", "rejected, with a suggestion", "3 messages",
         _on(["depth"], "depth_unit", **OUT), _on(["depth"], "encoding", **OUT)),
    _row(20, "black image", "rejected", "3 messages", _on(["rgb"], "black", **OUT)),
    _row(21, "over-exposed image", "rejected; half of it: DEGRADED", "3 messages; 1 s",
         _on(["rgb"], "saturated", **OUT), _on(["rgb"], "covered(share=0.5,level=255)", **DOUBTED)),
    _row(22, "blurred image", "DEGRADED", "1.5 s",
         _on(["rgb"], "blurred(sigma=6,ramp_s=0.5)",
             **{**DOUBTED, "within": Limit(seconds=1.5)}, lasts_s=2.5)),
    _row(23, "image partly covered", "DEGRADED from 30 %, DEAD from 95 %", "1 s",
         _on(["rgb"], "covered(share=0.25)", within=Limit(seconds=1.0), bit=Bit.USED,
             never=DEAD),
         _on(["rgb"], "covered(share=0.5)", **DOUBTED),
         _on(["rgb"], "covered(share=0.9)", **DOUBTED),
         _on(["rgb"], "covered(share=0.97)", bit=Bit.OUT, within=Limit(seconds=1.0),
             reaches=State.DEAD)),
    _row(24, "noise of a legal night", "never DEAD", "",
         _on(["rgb"], "gaussian_noise(sigma=10)", bit=Bit.USED, never=DEAD,
             within=Limit(seconds=1.0))),
    _row(25, "wrong encoding, step or size of an image", "rejected", "3 messages",
         _on(["rgb"], "encoding", within=THREE),  # a jpeg of another name is still one
         _on(["rgb", "depth"], "truncated", **OUT),
         _on(["rgb"], "garbage", **OUT),
         see="test/core/codecs/test_decode_image.py::test_no_geometry_reads_out_of_bounds"),
    _row(26, "resolution changes", "one warning, goes on", "1 s",
         see="test/core/test_segmenter.py::test_a_camera_that_changes_its_resolution_is_followed "
         "test/core/health/test_identity.py::test_a_camera_that_changes_its_resolution_is_told_once_and_goes_on"),
    _row(27, "bayer, 16 bit, yuv", "supported, or named", "at once",
         see="test/core/codecs/test_decode_image.py::"
         "test_bayer_patterns_are_read_as_ros_names_them "
         "test/core/codecs/test_decode_image.py::test_yuv_layouts_follow_bt601"),
    _row(28, "broken clouds", "rejected, or decoded properly", "3 messages",
         _on(["lidar"], "truncated", **OUT), _on(["lidar"], "empty_cloud", **OUT),
         _on(["lidar"], "garbage", **OUT),
         see="test/core/codecs/test_decode_points.py::test_every_layout_reads_as_a_slow_reader_reads_it"),
    _row(29, "LiDAR sector blocked, rings dead, covered", "DEGRADED; DEAD if all is gone", "1 s",
         _on(["lidar"], "sector", **DOUBTED), _on(["lidar"], "rings", **DOUBTED),
         _on(["lidar"], "sector(start_deg=-90,width_deg=180)",  # nothing is left for the camera
             **{**DOUBTED, "bit": Bit.EITHER},
             may=frozenset({Fault.COVERED, Fault.SPARSE_CLOUD, Fault.OUTSIDE})),
         _on(["lidar"], "sector(width_deg=360)", bit=Bit.OUT, within=Limit(seconds=1.0),
             reaches=State.DEAD, finds=frozenset({Fault.EMPTY_CLOUD, Fault.SPARSE_CLOUD}))),
    _row(30, "event flood, 50 M/s", "sub-sampled, named", "0.5 s",
         _on(["event"], "event_flood", bit=Bit.USED, never=DEAD, within=Limit(seconds=0.5),
             lasts_s=0.7, scored=False)),
    _row(31, "event silence", "no packets: DEAD; empty packets: DEGRADED", "1 s",
         _on(["event"], "off", bit=Bit.OUT, within=SILENCE, reaches=State.DEAD),
         _on(["event"], "no_events", **DOUBTED)),
    _row(32, "corrupt event words, gaps", "no crash, named", "3 messages; 1 s",
         _on(["event"], "undecodable", **OUT), _on(["event"], "garbage", **OUT),
         _on(["event"], "truncated", within=Limit(seconds=0.5)),
         _on(["event"], "sequence_gap", within=Limit(seconds=1.0), never=DEAD),
         see="test/core/codecs/test_decode_evt3.py::test_random_bytes_never_leave_the_sensor"),
    _row(33, "unknown event encoding", "DEAD, naming it", "1 message",
         _on(["event"], "encoding", bit=Bit.OUT, within=Limit(messages=1), reaches=State.DEAD)),
    _row(34, "frame_id changes", "rejected until placed", "1 message",
         _on(SENSORS, "frame_id", bit=Bit.OUT, within=Limit(messages=1))),
    _row(35, "CameraInfo absent", "image used; what must be projected: no_calib", "2 s",
         [Case(0, "lidar", (Span(f"{INFO}:off"),), finds=frozenset({Fault.NO_CALIB}),
               bit=Bit.OUT, within=Limit(seconds=2.0), begins_s=0.0, lasts_s=3.0, scored=False)],
         see="test/core/geometry/test_view.py::test_an_uncalibrated_camera_info_is_refused_and_the_last_good_one_stays"),
    _row(36, "TF comes late", "WAITING (no_tf), then LIVE", "1 s",
         [Case(0, "lidar", (Span("/tf_static:delayed(seconds=2)"),),
               finds=frozenset({Fault.NO_TF}), bit=Bit.OUT, within=Limit(seconds=1.0),
               reaches=State.WAITING, begins_s=0.0, lasts_s=2.0, after_s=1.5, back_s=1.0,
               scored=False)]),
    _row(37, "QoS does not match", "both policies and the fix named", "1 s",
         see="test/ros/test_inputs.py::test_a_mismatch_names_both_sides_and_the_parameter_that_mends_it"),
    _row(38, "wrong type on the topic", "both types named", "2 s",
         see="test/ros/test_life.py::test_the_node_says_what_is_wrong_on_the_wire"),
    _row(39, "publisher killed and restarted", "DEAD, then LIVE", "1 s",
         see="test/ros/test_drive.py::test_a_camera_that_is_shot_and_reborn_is_used_again "
         "test/ros/test_matrix_live.py::test_a_driver_that_is_shot_and_restarted_finds_one_subscription"),
    _row(40, "two publishers on one topic", "named", "2 s",
         see="test/ros/test_life.py::test_the_node_says_what_is_wrong_on_the_wire"),
    _row(41, "our node killed and restarted", "masks again, nobody else restarted", "",
         see="test/ros/test_matrix_live.py::test_our_node_is_shot_and_restarted_and_nobody_else_has_to_be"),
    _row(42, "lifecycle x100", "nothing leaks", "",
         see="test/ros/test_life.py::test_transitions_leave_nothing_behind "
         "test/ros/test_matrix_live.py::test_a_hundred_lives_leave_nothing_behind"),
    _row(43, "parameter storm, invalid values", "refused as a whole, with a sentence", "",
         see="test/ros/test_parameters.py::test_a_batch_with_one_bad_value_changes_nothing"),
    _row(44, "slow network (300 ms)", "latest only, counted", "",
         see="test/core/sync/test_sync.py::"
         "test_a_slow_consumer_gets_the_newest_reference_and_the_rest_is_counted"),
    _row(45, "GPU lost or out of memory", "named, masks from the CPU, retried", "1 s",
         see="test/core/engines/test_fallback.py::"
         "test_a_gpu_without_memory_costs_no_mask_and_is_named "
         "test/ros/test_matrix_live.py::test_a_network_without_memory_is_named_retried_and_blocks_nothing"),
    _row(46, "exception in decoder or model", "caught and counted", "",
         see="test/core/test_segmenter.py::"
         "test_a_mistake_of_our_own_in_a_decoder_costs_the_message_and_nothing_else"),
    _row(47, "all dead, then one returns", "no stale mask; goes on with the one", "1 s",
         _blackout()),
    _row(48, "garbage payloads", "no exception, no NaN, labels of the classes", "",
         see="test/fuzz/test_fuzz.py::test_a_thousand_hostile_messages_break_no_promise"),
    _row(49, "damaged recordings", "partial read with notice", "",
         see="test/fuzz/test_fuzz.py::"
         "test_a_damaged_recording_is_read_as_far_as_it_goes_and_says_so"),
    _row(50, "an hour and more", "bounded memory, flat latency, roll-overs", "",
         see="test/fuzz/test_soak.py::test_a_minute_of_random_faults_leaks_nothing"),
    _row(51, "fed faster than it can think", "OVERLOADED named, no sensor blamed", "2 s",
         see="test/core/test_offers.py::test_who_is_too_slow_says_so_and_blames_nobody "
         "test/core/test_offers.py::test_who_keeps_up_is_not_overloaded "
         "test/core/health/test_backlog.py::"
         "test_it_is_named_within_two_seconds_and_gone_within_two_of_relief "
         "test/ros/test_overload.py::"
         "test_a_node_fed_faster_than_it_can_think_says_so_and_blames_no_sensor"),
)  # fmt: skip


def cases(rows: Iterable[int] = ()) -> list[Case]:
    """All cases of these rows (none named: of all) that are measured on drives.

    Raises:
        RobustsegError: no such row, or one that is not measured on drives.
    """
    wanted = set(rows)
    if strange := sorted(wanted - {row.number for row in MATRIX if row.cases}):
        known = ", ".join(str(row.number) for row in MATRIX if row.cases)
        raise RobustsegError(f"row {strange[0]} is not measured on drives; have {known}")
    return [case for row in MATRIX if not wanted or row.number in wanted for case in row.cases]


def pairs(singles: Iterable[Case]) -> list[Case]:
    """Each case of one sensor again, while another sensor falls silent at the same moment.

    The partner is the next sensor in turn, so that every pair of sensors occurs.
    """
    made = []
    for number, case in enumerate(singles):
        if case.target not in SENSORS or case.begins_s == 0 or len(case.broken) > 1:
            continue
        others = [name for name in SENSORS if name != case.target]
        partner = others[number % len(others)]
        spans = (*case.spans, Span(f"{partner}:off", 0.0, case.lasts_s + case.after_s))
        made.append(replace(case, spans=spans, partner=partner, scored=False))
    return made
