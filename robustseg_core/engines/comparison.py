"""Engines side by side: each in a process of its own, asked in turn, so that a busy machine hits
all alike.

`python -m robustseg_core.engines.comparison ENGINE WEIGHTS THREADS` is one of them; anything that
`serve`s the same lines is a variant, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from robustseg_core.errors import RobustsegError


@dataclass
class Times:
    """Of one variant and one number of sensors, in milliseconds."""

    cpu: list[float] = field(default_factory=list)
    """Of all threads of its process."""
    wall: list[float] = field(default_factory=list)

    def account(self) -> dict[str, float]:
        """Medians."""
        return {"cpu_ms": median(self.cpu), "wall_ms": median(self.wall)}


def command(engine: str, weights: Path | str, threads: int) -> list[str]:
    """What starts a variant: an engine that runs a checkpoint, an artifact, or a spec's JSON."""
    return [sys.executable, "-m", __name__, engine, str(weights), str(threads)]


def compare(
    variants: Mapping[str, Sequence[str]],
    counts: Sequence[int],
    *,
    rounds: int,
    threads: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[int, Times]]:
    """Each variant's times for each number of sensors.

    Args:
        variants: name -> command, which `serve`s.
        counts: how many sensors are alive, one after the other.
        rounds: times that each is asked.
        threads: of each variant.
        on_progress: called with (rounds done, in all).

    Raises:
        RobustsegError: a variant does not start, or stops.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    running = {
        name: subprocess.Popen(
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name, words in variants.items()
    }
    times: dict[str, dict[int, Times]] = {n: {c: Times() for c in counts} for n in variants}
    try:
        for name, process in running.items():
            _ask(name, process, counts)  # it warms up
        for done in range(rounds):
            for count in counts:
                for name, process in running.items():
                    cpu, wall = _ask(name, process, [count])
                    times[name][count].cpu.append(cpu)
                    times[name][count].wall.append(wall)
            on_progress(done + 1, rounds)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    return times


def _ask(name: str, process: subprocess.Popen[str], counts: Sequence[int]) -> tuple[float, float]:
    assert process.stdin is not None and process.stdout is not None
    answer: Any = None
    for count in counts:
        try:
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise RobustsegError(
                f"{name} stopped (exit code {process.wait()}); what it says is above"
            ) from None
        if isinstance(answer, str):
            raise RobustsegError(answer)
    return answer[0], answer[1]


Runner = Callable[[int], Callable[[], object]]
"""Of a number of sensors, what is measured; what is made up for it before is not."""


def serve(prepare: Callable[[], Runner]) -> None:
    """Answer each line of standard input, a number of sensors, with [CPU ms, wall ms]."""
    runner: Runner | None = None
    for line in sys.stdin:
        try:
            runner = runner or prepare()
            call = runner(int(line))
        except RobustsegError as error:
            print(json.dumps(str(error)), flush=True)  # noqa: T201  # the protocol
            continue
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        spent = (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
        print(json.dumps(spent), flush=True)  # noqa: T201


def _engine_of(engine: str, weights: str, threads: int) -> Runner:
    import numpy as np

    from robustseg_core.engines.artifact import Exported, load
    from robustseg_core.engines.opening import open_engine
    from robustseg_core.engines.parity import noise
    from robustseg_core.models import checkpoint
    from robustseg_core.types import Bundle, Frame, ModelSpec

    if weights.startswith("{"):
        exported = Exported(checkpoint.untrained(ModelSpec.model_validate_json(weights)))
    else:
        exported = load(Path(weights))
    made = open_engine(exported, device="cpu", engine=engine, cpu_threads=threads)
    (full,) = noise(exported.spec, 1)
    arrays = {name: frame.array.astype(np.float32) for name, frame in full.frames.items()}

    def news(count: int) -> Callable[[], object]:
        """All frames are new, so that all are encoded."""
        names = exported.spec.modalities[:count]
        bundle = Bundle(0, {name: Frame(name, 0, arrays[name], 1.0) for name in names})
        return lambda: made(bundle)

    return news


def main(words: Sequence[str]) -> None:
    """Serve the engine that is named."""
    engine, weights, threads = words
    serve(lambda: _engine_of(engine, weights, int(threads)))


if __name__ == "__main__":
    main(sys.argv[1:])
