"""Recordings as material: their tags, their sets as the node closes them, one task each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from robustseg_core.bag import Bag, Recorded
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import Intake
from robustseg_core.jobs import Workers, each
from robustseg_core.models import architectures
from robustseg_core.recording.replay import replay
from robustseg_core.recording.scene import expect_distinct, scene_of
from robustseg_core.segmenter import Segmenter, encode
from robustseg_core.storage.budget import read_json
from robustseg_core.sync.synchronizer import Match
from robustseg_core.types import SECOND, Finding, LabelMap, Reading

Progress = Callable[[float, int], None]
"""Called with the share of the work that is done, in [0, 1], and the samples or masks so far."""


def tags_of(path: Path) -> dict[str, str]:
    """`scene`, and the `condition` that a simulated drive's account beside it tells ("" else)."""
    condition = ""
    try:
        recipe = read_json(path.with_suffix(".json"))["recipe"]
        condition = "+".join(map(str, recipe["conditions"]))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # no simulated drive
    return {"scene": scene_of(path), "condition": condition}


def sets(
    bag: Bag,
    segmenter: Segmenter,
    *,
    every: int = 1,
    start_s: float = 0.0,
    duration_s: float = 0.0,
    on_message: Callable[[Recorded], None] = lambda recorded: None,
) -> Iterator[tuple[int, LabelMap]]:
    """(number, label map) of every `every`-th set that the node would have closed.

    What lies before `start_s` is played as well, so that health and synchronizer are what they
    would be; a set's number does not depend on the options. What is left out is not encoded, and no
    network looks at it.

    Args:
        bag: open.
        segmenter: fresh.
        every: 1 keeps all.
        start_s: from the beginning of the recording, on its log's clock.
        duration_s: 0: to the end.
        on_message: called with every message read.
    """
    begin_ns = bag.start_ns + round(start_s * SECOND)
    end_ns = begin_ns + round(duration_s * SECOND) if duration_s else None
    now_ns = bag.start_ns

    def clock(recorded: Recorded) -> None:
        nonlocal now_ns
        now_ns = recorded.time_ns
        on_message(recorded)

    player = _NowAndThen(segmenter, every)
    for label_map in replay(bag, player, on_message=clock):
        if end_ns is not None and now_ns >= end_ns:
            return
        if now_ns >= begin_ns:
            yield player.number, label_map


class _NowAndThen:
    """A segmenter that makes every n-th mask; of the other sets it is only seen whether they would
    have made one, which one sensor tells.

    Args:
        segmenter: fresh.
        every: 1: it makes all.
    """

    def __init__(self, segmenter: Segmenter, every: int) -> None:
        self._segmenter, self._every = segmenter, every
        self._needs = architectures.needs(segmenter.spec)
        self._next = 0

    @property
    def number(self) -> int:
        """Of the newest set."""
        return self._next - 1

    @property
    def intake(self) -> Intake:
        """The segmenter's."""
        return self._segmenter.intake

    def push(self, modality: str, message: Any, now_ns: int) -> Finding | None:
        """As `Segmenter.push`."""
        return self._segmenter.push(modality, message, now_ns)

    def wake_ns(self, now_ns: int) -> int | None:
        """As `Segmenter.wake_ns`."""
        return self._segmenter.wake_ns(now_ns)

    def step(self, now_ns: int) -> LabelMap | None:
        """As `Segmenter.step`, of every n-th set that makes a mask."""
        if self._next % self._every == 0:
            label_map = self._segmenter.step(now_ns)
            self._next += label_map is not None
            return label_map
        match = self.intake.poll(now_ns)
        if match is None:
            return None
        rest = [name for name in match.items if name not in self._needs]
        needed = [name in match.items and self._seen(match, name) for name in self._needs]
        if all(needed) and (needed or any(self._seen(match, name) for name in rest)):
            self._next += 1
        elif not needed:
            self._segmenter.lost += 1
        return None

    def _seen(self, match: Match[Reading], name: str) -> bool:
        """Whether a sensor would be in the bundle: it can be placed, and looks where we look."""
        decoder, view = self.intake.modalities[name], self.intake.view
        readings = [item.payload for item in match.items[name]]
        try:
            if encode(decoder, readings, view, match.stamp_ns).array.any():
                return True
        except Exception:  # told of the sets that are kept
            return False
        return not any(
            decoder.astray(reading, view, match.stamp_ns)
            and decoder.timely(reading, match.stamp_ns)
            for reading in readings
        )


def for_each(
    job: Callable[..., dict[str, Any]],
    paths: Sequence[Path],
    workers: Workers,
    *,
    on_progress: Progress = lambda share, samples: None,
) -> list[dict[str, Any]]:
    """`job(path)` of every recording, in order of the paths.

    A recording that fails does not stop the others.

    Args:
        job: picklable; takes a path, and `on_progress` where it runs in this process; its account
            has `samples`.
        paths: recordings of different names.
        workers: who does it; one recording is one task.
        on_progress: over all recordings.

    Raises:
        RobustsegError: no recording, two of one name, or one that failed, after all were tried.
    """
    expect_distinct(paths)
    done: dict[int, dict[str, Any]] = {}
    failed: dict[int, str] = {}

    def show(share: float, samples: int) -> None:
        so_far = sum(account["samples"] for account in done.values())
        on_progress((len(done) + len(failed) + share) / len(paths), so_far + samples)

    few = workers.for_tasks(len(paths))
    with closing(each(job, paths, few, inline=partial(job, on_progress=show))) as outcomes:
        for outcome in outcomes:
            if outcome.result is None:
                failed[outcome.number] = outcome.error
            else:
                done[outcome.number] = outcome.result
            show(0, 0)
    if failed:
        number, text = min(failed.items())
        more = "" if len(paths) == 1 else f"{len(failed)} of {len(paths)} recordings failed; "
        raise RobustsegError(f"{more}{paths[number]}: {text}" if more else text)
    return [done[number] for number in range(len(paths))]
