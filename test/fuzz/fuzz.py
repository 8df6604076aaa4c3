"""Seeded mutations of every kind of message, through the whole product; none may break a promise.

    python test/fuzz/fuzz.py --cases 100000 --seed 0
    python test/fuzz/fuzz.py --bags 200 --seed 0
    python test/fuzz/fuzz.py --only 4711 --seed 0     # one case again, with its traceback

Promises: no exception (one that the safety net caught counts as well), no NumPy warning, finite
frames, labels below K or 255, masks that serialize, and no more memory than `--headroom-mb` for
whatever size a few bytes may claim. Case i depends on the seed and on i alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

from fuzz.mutate import damaged, pick, tampered
from fuzz.robot import Robot, memory_mb
from fuzz.seeds import Kind, kind_called, kinds
from robustseg_core.bag.codec import codec_of
from robustseg_core.bag.typestore import typestore
from robustseg_core.types import Rejection
from support import drives

LIFE = 200
"""Cases that one robot has to survive in a row."""
NETWORK_LIFE = 25
"""Of so many robots, one runs the real network; the others a sum over their frames."""
NAMED = 20
"""Crashes that are described; all are counted."""


def parsed(kind: Kind, wire: bytes) -> Any:
    """The message in damaged CDR, as a bag's reader would give it.

    Raises:
        Rejection: it does not parse.
    """
    nothing = MessageDefinition(MessageDefinitionFormat.NONE, "")
    extra = ConnectionExtRosbag2("cdr", [])
    return codec_of(Connection(1, "/t", kind.msgtype, nothing, "", 0, extra, None)).message(wire)


def one(robot: Robot, number: int, seed: int, only: Kind | None = None) -> tuple[str, str]:
    """Run case `number`: (its kind and way, what became of it).

    Raises:
        Exception: the product broke a promise.
    """
    random = np.random.default_rng([seed, number])
    kind = only or pick(random, kinds())
    message = robot.dress(kind.message(int(random.integers(100))))
    way = "bytes" if random.random() < 0.5 else "fields"
    stream = kind.stream
    if stream == "camera_info":
        stream += f":{pick(random, ('rgb', 'depth', 'event'))}"
    try:
        if way == "bytes":
            wire = bytes(typestore().serialize_cdr(message, kind.msgtype))
            message = parsed(kind, damaged(wire, random))
        else:
            message = tampered(message, random)
    except Rejection as rejection:
        return f"{kind.name}, {way}", f"no CDR: {rejection.finding.fault.value}"
    finding = robot.tell(stream, message)
    return f"{kind.name}, {way}", "accepted" if finding is None else finding.fault.value


def fuzz(
    cases: int,
    seed: int,
    *,
    network: bool = True,
    only: Kind | None = None,
    first: int = 0,
    life: int = LIFE,
) -> dict[str, Any]:
    """Run cases `first` to `first + cases`; a summary that JSON can hold."""
    outcomes: dict[str, Counter[str]] = {}
    crashes: list[dict[str, Any]] = []
    count = masks = 0
    slowest = (0.0, -1)
    robot = None
    for number in range(first, first + cases):
        if robot is None or number % life == 0:
            masks += robot.masks if robot else 0
            real = network and number // life % NETWORK_LIFE == 0
            robot = Robot(drives.engine() if real else None)
        start = time.process_time()
        try:
            name, outcome = one(robot, number, seed, only)
        except Exception as error:
            name, outcome = "crashed", type(error).__name__
            count += 1
            if len(crashes) < NAMED:
                last = traceback.extract_tb(error.__traceback__)[-1]
                crashes.append(
                    {
                        "case": number,
                        "error": f"{type(error).__name__}: {str(error)[:300]}",
                        "at": f"{Path(last.filename).name}:{last.lineno}",
                    }
                )
            masks, robot = masks + robot.masks, None  # what broke is not to be trusted
        slowest = max(slowest, (time.process_time() - start, number))
        outcomes.setdefault(name, Counter())[outcome] += 1
    masks += robot.masks if robot else 0
    total: Counter[str] = sum(outcomes.values(), Counter())
    return {
        "cases": cases,
        "seed": seed,
        "crashes": count,
        "masks": masks,
        "slowest_cpu_ms": round(slowest[0] * 1e3, 1),
        "slowest_case": slowest[1],
        "outcomes": dict(total.most_common()),
        "crashed": crashes,
        "kinds": {name: dict(c.most_common()) for name, c in sorted(outcomes.items())},
    }


def again(number: int, seed: int) -> None:
    """Live the life of the robot that met case `number`, up to it, and let what happens happen."""
    start = number // LIFE * LIFE
    real = number // LIFE % NETWORK_LIFE == 0
    robot = Robot(drives.engine() if real else None)
    for earlier in range(start, number):
        try:
            one(robot, earlier, seed)
        except Exception:
            robot = Robot(drives.engine() if real else None)
    print(one(robot, number, seed))


def fence(headroom_mb: int) -> None:
    """From here on, a claim of more memory than this is a MemoryError, and so a crash."""
    limit = int((memory_mb("VmSize") + headroom_mb) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


@contextmanager
def quiet() -> Iterator[None]:
    """The image libraries complain to file descriptor 2 about every damaged picture."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--cases", type=int, default=100_000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--bags", type=int, default=0, help="damaged bags of each format instead")
    words.add_argument("--kind", help="only this kind of message, e.g. 'cloud ring'")
    words.add_argument("--only", type=int, help="this one case again")
    words.add_argument("--headroom-mb", type=int, default=512)
    words.add_argument("--out", type=Path, help="write the summary there, too")
    given = words.parse_args()
    warnings.simplefilter("error")
    if given.only is not None:
        logging.basicConfig(level=logging.ERROR)  # the safety net logs what it catches
        again(given.only, given.seed)
        return 0
    logging.disable(logging.CRITICAL)
    with quiet():
        fuzz(50, given.seed)  # everything is loaded and compiled before memory is fenced in
        for decoder in Robot().segmenter.intake.modalities.values():
            decoder.warm_up()
        fence(given.headroom_mb)
        before_mb, start = memory_mb("VmRSS"), time.perf_counter()
        if given.bags:
            from fuzz.bags import fuzz_bags

            summary = fuzz_bags(given.bags, given.seed)
        else:
            only = kind_called(given.kind) if given.kind else None
            summary = fuzz(given.cases, given.seed, only=only)
    summary["seconds"] = round(time.perf_counter() - start, 1)
    summary["rss_mb"] = {
        "before": round(before_mb),
        "after": round(memory_mb("VmRSS")),
        "peak": round(memory_mb("VmHWM")),
    }
    summary["headroom_mb"] = given.headroom_mb
    summary["jit"] = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
    text = json.dumps(summary, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)
    return 1 if summary["crashes"] else 0


if __name__ == "__main__":
    sys.exit(main())
