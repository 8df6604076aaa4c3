"""`robustseg run` without the terminal: recordings in, a folder of results out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from robustseg_core import config, draw, record, report
from robustseg_core.bag import Bag, Recorded
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults import FaultSpec
from robustseg_core.inject import DisturbedBag
from robustseg_core.kills import Kill
from robustseg_core.replay import replay
from robustseg_core.robot import RobotConfig, parse_robot
from robustseg_core.segmenter import Segmenter
from robustseg_core.survey import survey
from robustseg_core.truth import open_truth


def run_bags(
    paths: Sequence[Path],
    *,
    params: Path | None = None,
    overrides: Iterable[str] = (),
    out: Path,
    kills: Sequence[Kill] = (),
    faults: Sequence[FaultSpec] = (),
    seed: int = 0,
    on_progress: Callable[[int, int, int], None] = lambda done, total, masks: None,
) -> dict[str, Any]:
    """Segment recordings and write masks, video, MCAP, `result.json` and `report.html`.

    Args:
        paths: recordings, played one after the other.
        params: robot.yaml; without it the streams are guessed from the recording.
        overrides: `key=value` words; they win over `params`.
        out: folder of the results.
        kills: sensors silenced on purpose.
        faults: what else is done to them.
        seed: of the faults.
        on_progress: called with (messages read, messages in all, masks made).

    Returns:
        The content of `result.json`.

    Raises:
        RobustsegError: the recording, the configuration or the checkpoint cannot be used, or no
            mask came of them (then the results, which say why, are written all the same).
    """
    with Bag(paths) as bag:
        if not bag.message_count:
            raise RobustsegError(f"{bag.paths[0]} holds no message; record it again")
        robot = robot_for(bag, params, overrides)
        check_streams(bag, robot, kills)
        segmenter = Segmenter.from_config(robot)
        source = _disturbed(bag, robot, faults, seed) if faults else bag
        read = 0

        def count(recorded: Recorded) -> None:
            nonlocal read
            read += 1
            on_progress(read, bag.message_count, segmenter.masks)

        with (
            record.Recorder(out, segmenter.spec, start_ns=bag.start_ns) as recorder,
            open_truth(paths) as truth,
        ):
            for label_map in replay(source, segmenter, kills=kills, on_message=count):
                overlay = draw.overlay(label_map, segmenter.spec)
                recorder.add(label_map, overlay, truth.at(label_map.stamp_ns))
        account = _account(bag, segmenter, recorder.rows)
        result = recorder.write_result(
            kills=[str(kill) for kill in kills],
            faults=[str(fault) for fault in faults],
            **account,
        )
    title = f"robustseg run {' '.join(path.name for path in paths)}"
    report.write(out, result, title=title, moments=recorder.moments, broken=[*kills, *faults])
    if not recorder.rows:
        raise RobustsegError(f"no mask was made; {'; '.join(result['notices'])}")
    return result


def robot_for(bag: Bag, params: Path | None, overrides: Iterable[str]) -> RobotConfig:
    """The configured robot, or the one that the recording looks like.

    Raises:
        RobustsegError: a configuration that cannot be used, or no sensor was recognized.
    """
    if params is not None:
        return parse_robot(config.override(config.read_file(params), overrides))
    guessed = config.read_yaml(survey(bag).robot_yaml(), source="the guessed robot.yaml")
    robot = config.parse(RobotConfig, config.override(guessed, overrides))
    if not robot.streams:
        names = [topic.name for topic in bag.topics]
        raise RobustsegError(
            f"no sensor was recognized among the topics {names}; "
            "write a robot.yaml with streams.<modality>.topic and give it with --params"
        )
    return robot


def check_streams(bag: Bag, robot: RobotConfig, kills: Sequence[Kill] = ()) -> None:
    """Refuse what cannot give a mask, before anything is written.

    Raises:
        RobustsegError: no configured topic is in the recording, one cannot be decoded, or a kill
            names no sensor.
    """
    recorded = {topic.name: topic for topic in bag.topics}
    streams = {name: stream.topic for name, stream in robot.streams.items() if stream.topic}
    absent = {name: topic for name, topic in streams.items() if topic not in recorded}
    if absent and len(absent) == len(streams):
        name, topic = next(iter(absent.items()))
        raise RobustsegError(
            f"streams.{name}.topic is {topic!r}, and no configured topic is in the recording; "
            f"{did_you_mean(topic, recorded)}"
        )
    for name, topic in streams.items():
        if topic in recorded and not recorded[topic].decodable:
            raise RobustsegError(f"streams.{name}.topic is {topic!r}: {recorded[topic].why}")
    for kill in kills:
        if kill.target not in streams and kill.target not in streams.values():
            raise RobustsegError(
                f"kill {kill} names no sensor of this run; {did_you_mean(kill.target, streams)}"
            )


def _disturbed(
    bag: Bag, robot: RobotConfig, faults: Sequence[FaultSpec], seed: int
) -> DisturbedBag:
    topics = {name: stream.topic for name, stream in robot.streams.items() if stream.topic}
    return DisturbedBag(bag, faults, seed=seed, topics=topics)


def _account(bag: Bag, segmenter: Segmenter, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Where every message went: the top level of `result.json` beside the masks."""
    health = segmenter.health(bag.start_ns)
    intake = segmenter.intake
    sums = record.totals(rows)
    return {
        "bags": [path.name for path in bag.paths],
        "config": segmenter.config.model_dump(mode="json"),
        "notices": notices(bag, segmenter, {name for row in rows for name in row["used"]}),
        "rejected": {
            name: {fault.value: n for fault, n in sorted(stream.rejected.items())}
            for name, stream in health.items()
            if stream.rejected
        },
        "totals": {
            **sums,
            "messages": dict(intake.pushed),
            "clock_jumps": intake.jumps,
            "overtaken": intake.overtaken,
        },
    }


def notices(bag: Bag, segmenter: Segmenter, used: Collection[str]) -> list[str]:
    """What people should know of a replay that is over, a sentence each.

    Damage of the recording, calibration that was refused, sensors that come in bursts, and why some
    are not in `used`.
    """
    refused = segmenter.intake.calibration_rejected.items()
    health = segmenter.health(bag.start_ns)
    return [
        *bag.notices,
        *(f"{text} ({count} messages)" for text, count in refused),
        *(f"{name}: {finding}" for name, finding in segmenter.intake.bursts.items()),
        *(f"{name} was never used: {h.reason}" for name, h in health.items() if name not in used),
    ]
