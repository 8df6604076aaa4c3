"""One recording as material: its name, whether it changed, and its sets as the node closes them."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from robustseg_core.bag import Bag, Recorded
from robustseg_core.bag.files import find_files
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.replay import replay
from robustseg_core.segmenter import Segmenter
from robustseg_core.storage.budget import read_json
from robustseg_core.types import SECOND, LabelMap

Progress = Callable[[float, int], None]
"""Called with the share of the work that is done, in [0, 1], and the samples or masks so far."""


def scene_of(path: Path) -> str:
    """What a recording is called in folders and tables: its file's or folder's name."""
    name = path.resolve().name
    if not path.is_dir():
        name = re.sub(r"(\.(mcap|db3|bag))?(\.zstd?)?$", "", name)
    return re.sub(r"[^\w.+-]+", "_", name).strip(".")[:80] or "recording"


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells a recording from another one under the same name: its files and their sizes.

    Raises:
        RobustsegError: there is no recording.
    """
    files = find_files(path, [])
    return {"name": scene_of(path), "files": [[f.name, f.stat().st_size] for f in files]}


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
    would be; a set's number does not depend on the options.

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

    for number, label_map in enumerate(replay(bag, segmenter, on_message=clock)):
        if end_ns is not None and now_ns >= end_ns:
            return
        if now_ns >= begin_ns and number % every == 0:
            yield number, label_map


def for_each(
    job: Callable[..., dict[str, Any]],
    paths: Sequence[Path],
    *,
    jobs: int = 1,
    on_progress: Progress = lambda share, samples: None,
) -> list[dict[str, Any]]:
    """`job(path)` of every recording, in order; in processes of their own where `jobs` > 1.

    A recording that fails does not stop the others.

    Args:
        job: picklable; takes a path, and `on_progress` where it runs in this process; its account
            has `samples`.
        paths: recordings of different names.
        jobs: processes.
        on_progress: over all recordings.

    Raises:
        RobustsegError: no recording, two of one name, or one that failed, after all were tried.
    """
    _expect_distinct(paths)
    done: dict[Path, dict[str, Any]] = {}
    failed: dict[Path, str] = {}

    def show(share: float, samples: int) -> None:
        so_far = sum(account["samples"] for account in done.values())
        on_progress((len(done) + len(failed) + share) / len(paths), so_far + samples)

    if jobs <= 1 or len(paths) == 1:
        for path in paths:
            try:
                done[path] = job(path, on_progress=show)
            except RobustsegError as error:
                failed[path] = str(error)
            show(0, 0)
    else:
        # A forked child of a process with threads (OpenCV's, PyTorch's) may never wake up.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, len(paths)), mp_context=context) as pool:
            running = {pool.submit(partial(job, path)): path for path in paths}
            for future in as_completed(running):
                path = running[future]
                try:
                    done[path] = future.result()
                except RobustsegError as error:
                    failed[path] = str(error)
                except BrokenProcessPool:
                    failed[path] = "its process was killed; is memory short? use fewer jobs"
                show(0, 0)
    if failed:
        path, text = next(iter(failed.items()))
        more = "" if len(paths) == 1 else f"{len(failed)} of {len(paths)} recordings failed; "
        raise RobustsegError(f"{more}{path}: {text}" if more else text)
    return [done[path] for path in paths]


def _expect_distinct(paths: Sequence[Path]) -> None:
    if not paths:
        raise RobustsegError("no recording was given; give bag folders, .mcap, .db3 or .bag files")
    named: dict[str, Path] = {}
    for path in paths:
        other = named.setdefault(scene_of(path), path)
        if other is not path:
            raise RobustsegError(
                f"{other} and {path} are both called {scene_of(path)!r}; rename one, or take them "
                "into different folders"
            )
