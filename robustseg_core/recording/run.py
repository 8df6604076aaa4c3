"""`robustseg run` without the terminal: recordings in, a folder of results out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from robustseg_core import config
from robustseg_core.bag import Bag, Recorded
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults import FaultSpec
from robustseg_core.output import draw, report
from robustseg_core.output.reasons import UNFIT, PauseLog
from robustseg_core.output.recorder import Recorder, silence_notices, totals, unused_notices
from robustseg_core.output.timeline import SILENCE_S, Timeline
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.labels import Score, open_truth
from robustseg_core.recording.replay import replay
from robustseg_core.recording.survey import survey
from robustseg_core.robot.config import RobotConfig, parse_robot
from robustseg_core.segmenter import UNTRAINED, Segmenter, weights_file
from robustseg_core.storage.output_folder import check_apart, staged
from robustseg_core.text import visible
from robustseg_core.types import SECOND, LabelMap, Reasons, sentence


def run_bags(
    paths: Sequence[Path],
    *,
    params: Path | None = None,
    overrides: Iterable[str] = (),
    out: Path,
    faults: Sequence[FaultSpec] = (),
    seed: int = 0,
    on_progress: Callable[[int, int, int], None] = lambda done, total, masks: None,
) -> dict[str, Any]:
    """Segment recordings and write masks, video, MCAP, `result.json` and `report.html`.

    Args:
        paths: recordings, played one after the other.
        params: robot.yaml; without it the streams are guessed from the recording.
        overrides: `key=value` words; they win over `params`.
        out: folder of the results; those of an earlier run are replaced, other files stay.
        faults: what is done to sensors on purpose.
        seed: of the faults.
        on_progress: called with (messages read, messages in all, masks made).

    Returns:
        The content of `result.json`.

    Raises:
        RobustsegError: the recording, the configuration, the checkpoint or `out` cannot be used,
            or no mask came of them (then the results, which say why, are written all the same).
    """
    check_apart(out, paths)
    with Bag(paths) as bag:
        if not bag.message_count:
            raise RobustsegError(f"{bag.paths[0]} holds no message; record it again")
        robot = robot_for(bag, params, overrides)
        check_streams(bag, robot)
        source = _disturbed(bag, robot, faults, seed) if faults else bag
        weights = [] if robot.weights in ("", UNTRAINED) else [weights_file(robot.weights)]
        inputs = [*paths, *([params] if params else []), *weights]
        with staged(out, command="run", inputs=inputs) as folder:
            segmenter = Segmenter.from_config(robot)
            timeline = Timeline(bag.spans)
            silence = _Silence(segmenter, timeline.duration_ns)
            read = 0

            def count(recorded: Recorded) -> None:
                nonlocal read
                read += 1
                on_progress(read, bag.message_count, segmenter.masks)

            with (
                Recorder(
                    folder, segmenter.spec, start_ns=bag.start_ns, timeline=timeline
                ) as recorder,
                open_truth(paths) as truth,
            ):
                score = Score(truth, len(segmenter.spec.classes), segmenter.spec)
                last: LabelMap | None = None
                for label_map in replay(source, segmenter, on_message=count, on_time=silence.watch):
                    at_ns = recorder.place_ns(label_map)
                    silence.broken(at_ns)
                    last = label_map
                    overlay = draw.overlay(label_map, segmenter.spec)
                    recorder.add(label_map, overlay, at_ns, score.add(label_map, at_ns))
                score.finish()
            sums = totals(
                recorder.rows,
                timeline.duration_s,
                labels=score.coverage,
                why=silence.log.why([row["at_s"] for row in recorder.rows]),
            )
            account = _account(bag, segmenter, recorder, sums, last) | score.account()
            account["confidence"] = score.confidence()
            account["notices"] += score.notices(sums["coverage"])
            result = recorder.write_result(
                kills=[fault.kill for fault in faults if fault.kill],
                faults=[str(fault) for fault in faults],
                **account,
            )
            title = f"robustseg run {' '.join(path.name for path in paths)}"
            report.write(folder, result, title=title, moments=recorder.moments, broken=faults)
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


def check_streams(bag: Bag, robot: RobotConfig) -> None:
    """Refuse what cannot give a mask, before anything is written.

    Raises:
        RobustsegError: no configured topic is in the recording, or one cannot be decoded.
    """
    recorded = {topic.name: topic for topic in bag.topics}
    streams = robot.topics
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


def _disturbed(bag: Bag, robot: RobotConfig, faults: Sequence[FaultSpec], seed: int) -> FaultyBag:
    topics = robot.topics
    return FaultyBag(bag, faults, seed=seed, topics=topics)


class _Silence:
    """Notes what is wrong with the sensors whenever no mask has come for a while.

    Args:
        segmenter: the one that is replayed.
        end_ns: when the recording ends, since the start.
    """

    def __init__(self, segmenter: Segmenter, end_ns: int) -> None:
        self.log = PauseLog()
        """What was wrong: as soon as most was, or, of a silence that lasts, at the end."""
        self._segmenter, self._end_ns = segmenter, end_ns
        self._since_ns = self._masks = 0

    def broken(self, at_ns: int) -> None:
        """A mask came."""
        self._since_ns = at_ns
        self._masks += 1

    def watch(self, now_ns: int, at_ns: int) -> None:
        """Time passes, on the segmenter's clock and since the start."""
        if at_ns - self._since_ns > SILENCE_S * SECOND:
            healths = self._segmenter.health(now_ns)
            self.log.add(self._masks, healths, newest=at_ns >= self._end_ns)


def _account(
    bag: Bag, segmenter: Segmenter, recorder: Recorder, sums: dict[str, Any], last: LabelMap | None
) -> dict[str, Any]:
    """Where every message went: the top level of `result.json` beside the masks."""
    rows = recorder.rows
    health = segmenter.health(bag.start_ns)
    intake = segmenter.intake
    used = {name for row in rows for name in row["used"]}
    late = {} if last is None else last.reasons
    silent = silence_notices(sums) if rows else []  # no mask at all is said by itself
    return {
        "bags": [visible(path.name) for path in bag.paths],
        "config": segmenter.config.model_dump(mode="json"),
        "notices": [
            *notices(bag, segmenter, absent(bag, segmenter, used, late)),
            *silent,
            *unused_notices(rows, recorder.reasons),
        ],
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
            "lost_sets": segmenter.lost,
        },
        "novelty": {name: round(peak, 2) for name, peak in segmenter.novelty.peaks.items()},
    }


def notices(bag: Bag, segmenter: Segmenter, unused: Reasons) -> list[str]:
    """What people should know of a replay that is over, a sentence each.

    Damage of the recording, the segmenter's remarks, and why sensors were never used.

    Args:
        bag: the recording.
        segmenter: that it was played through.
        unused: as `absent` has them.
    """
    told = (f"{name} was never used: {sentence(found)}" for name, found in unused.items())
    return [*bag.notices, *segmenter.remarks(), *told]


def absent(
    bag: Bag, segmenter: Segmenter, used: Collection[str], reasons: Reasons | None = None
) -> Reasons:
    """Modality -> why it made no mask, of those that are not in `used`.

    Args:
        bag: the recording.
        segmenter: that it was played through.
        used: the sensors that made a mask.
        reasons: why sensors were not in the newest mask: of one that is believed, and still late
            for every set, health knows none.
    """
    return {
        name: health.findings or (reasons or {}).get(name, ()) or (UNFIT,)
        for name, health in segmenter.health(bag.start_ns).items()
        if name not in used
    }
