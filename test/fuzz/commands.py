"""Hostile command lines in a user's folder, as real processes; none may break a promise.

    python test/fuzz/commands.py --cases 200 --seed 0
    python test/fuzz/commands.py --only 17 --seed 0     # one case again, with what it prints

Each case has a fresh household (`fuzz.household`) and one spoiled line (`fuzz.lines`). Promises: an
exit code that a user knows, no traceback, 1.5 GB at most, an end within two minutes, every byte of
the user's as before, and no half result where the code says that it failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from fuzz import household, lines
from fuzz.lines import Case
from robustseg_core.storage.output_folder import META

ROOT = Path(__file__).resolve().parents[2]
CODES = (0, 1, 2, 3, 130, 141)
LIMIT_MB, LIMIT_S = 1500, 120
LIVE_S = 15
"""How long a node lives, which would go on for ever."""
IN_PLACE = {"train", "robustness"}
"""Commands whose unfinished folders are resumed."""

MUTE = tuple(lines.SHELLS[name] for name in ("stdout full", "stderr full", "reader gone"))
"""Where a whole result cannot be told, which is a failure."""
EACH_WHOLE = ("index.json", "labels.json")
"""Says that a recording's shards or masks are whole: they stay, though another's failed."""


@dataclass
class Ended:
    """How a process ended."""

    code: int
    peak_mb: float
    seconds: float
    shown: bytes
    late: bool = False


@dataclass
class Outcome:
    """What became of a case."""

    number: int
    case: Case
    codes: list[int] = field(default_factory=list)
    peak_mb: float = 0.0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)
    shown: str = ""


def built(folder: Path) -> Path:
    """The household that every case copies; built by another process, so that this one stays small.

    Args:
        folder: an empty one.
    """
    path = folder / "built"
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.household", path],
        capture_output=True,
        check=False,
        env=_environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'test'}"},
    )
    if done.returncode:
        raise SystemExit(done.stderr.decode(errors="replace"))
    return path


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def called(case: Case, place: Path, *, interrupt: bool) -> Ended:
    """Call the command line of a case.

    Args:
        case: the case.
        place: its folder, as `move_in` made it.
        interrupt: whether to send the signal of the case.
    """
    home = place / "a" / "w"
    variables = {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), **case.variables}
    env = {k: v for k, v in (_environment() | variables).items() if v is not None}
    words = [word.replace("{home}", str(home)) for word in case.words]
    line = [
        "/bin/bash",
        "-c",
        case.shell,
        "bash",
        sys.executable,
        "-m",
        "robustseg_core.cli",
        *words,
    ]
    start = time.monotonic()
    with (place / "shown").open("w+b") as shown:
        process = subprocess.Popen(
            [os.fsencode(word) for word in line],
            cwd=home,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=shown,
            start_new_session=True,
        )
        ended = threading.Event()
        overdue = threading.Event()

        def watch() -> None:
            number = case.signal if interrupt else signal.SIGTERM
            after_s = case.after_s if interrupt else LIVE_S
            if (interrupt or case.command == "live") and not ended.wait(after_s):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            if not ended.wait(LIMIT_S):
                overdue.set()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

        watcher = threading.Thread(target=watch)
        watcher.start()
        # The largest of it and of all its children that have ended
        _, status, usage = os.wait4(process.pid, 0)
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        with suppress(ProcessLookupError):  # what a killed one left behind
            os.killpg(process.pid, signal.SIGKILL)
        shown.seek(0)
        text = shown.read(1 << 20)
    return Ended(
        process.returncode, usage.ru_maxrss / 1024, time.monotonic() - start, text, overdue.is_set()
    )


def examined(number: int, seed: int, source: Path, place: Path) -> Outcome:
    """Run a case and say what is wrong.

    Args:
        number, seed: which.
        source: what `built` made.
        place: a new folder for it.
    """
    case = lines.case(number, seed)
    home = household.move_in(source, place)
    if case.damage[0]:
        random = np.random.default_rng([seed, number, 1])
        lines.damage(home / case.damage[0], case.damage[1], random)
    outcome = Outcome(number, case)
    users = household.held(place).keys()
    for interrupt in (True, False) if case.signal else (False,):
        before, ours = household.held(place), household.ours(place)
        ended = called(case, place, interrupt=interrupt)
        if read_only := case.shell == lines.SHELLS["read-only"]:
            subprocess.run(["chmod", "-R", "u+w", home], check=True)
        after = household.held(place)
        if read_only:  # its modes are the shell's doing
            before, after = (
                {path: what[0] + what[10:] for path, what in table.items()}
                for table in (before, after)
            )
        outcome.codes.append(ended.code)
        outcome.peak_mb = round(max(outcome.peak_mb, ended.peak_mb))
        outcome.seconds = round(outcome.seconds + ended.seconds, 1)
        outcome.shown += ended.shown.decode(errors="backslashreplace")
        signals = (-case.signal,) if interrupt else (-15,) if case.command == "live" else ()
        ours |= before.keys() - users  # made by the first call
        outcome.findings += [
            *_of_process(ended, signals),
            *_of_files(case, ended, before, after, ours),
        ]
    if case.signal and outcome.codes[-1] == 0:
        outcome.findings += [
            f"missing after the second call: {name}"
            for name in lines.WHOLE.get(case.command, ())
            if not (home / case.out / name).exists()
        ]
    if case.signal and outcome.codes[-1] not in (0, 1) and not _kept_by_intent(case, outcome):
        outcome.findings.append(f"the second call ended with {outcome.codes[-1]}")
    return outcome


def _kept_by_intent(case: Case, outcome: Outcome) -> bool:
    """Whether the second call rightly refuses: a whole recording is there, none overwrites it."""
    if case.line == "robustness":
        return outcome.codes[-1] == 2  # this drive is too short for the matrix
    return outcome.codes[:1] == [0] and outcome.codes[-1] == 2 and case.line in ("sim", "inject")


def _of_process(ended: Ended, signals: tuple[int, ...]) -> list[str]:
    found = []
    if ended.late:
        found.append(f"still running after {LIMIT_S} s")
    elif ended.code not in (*CODES, *signals):
        found.append(f"exit code {ended.code}")
    for word in (b"Traceback", b"Exception ignored", b"core dumped"):
        if word in ended.shown:
            found.append(word.decode())
    if ended.peak_mb > LIMIT_MB:
        found.append(f"{ended.peak_mb:.0f} MB")
    return found


def _of_files(
    case: Case, ended: Ended, before: dict[str, str], after: dict[str, str], ours: Set[str]
) -> list[str]:
    found = []
    interrupted = ended.code < 0 or ended.code == 130
    for path, what in before.items():
        if after.get(path) == what or META in Path(path).parts:
            continue
        if path in ours and (ended.code in (0, 1, 3) or interrupted):
            continue  # an earlier result of ours makes room for a new one
        found.append(f"{'changed' if path in after else 'gone'}: {path}")
    if ended.code in (0, 1, 3) or case.shell in MUTE:
        return found
    names = {Path(name).name for name in lines.WHOLE.get(case.command, ())}
    for path in sorted(after.keys() - before.keys()):
        if META in Path(path).parts or after[path].startswith("d"):
            continue
        if any(str(Path(path).parent / name) in after for name in EACH_WHOLE):
            continue
        drive = {str(Path(path).with_suffix(suffix)) for suffix in (".mcap", ".json")}
        if case.line == "sim" and drive <= after.keys():
            continue  # a whole drive, whose pictures the next call adds
        resumed = interrupted or case.command in IN_PLACE
        if not resumed or (Path(path).name in names and ended.code != -9):
            found.append(f"left: {path}")
    return found


def fuzz(
    numbers: list[int], seed: int, source: Path, folder: Path, *, jobs: int = 2
) -> list[Outcome]:
    """Run these cases below `folder`, in copies of the household `source`; what becomes of each."""

    done: list[Outcome] = []

    def one(number: int) -> None:
        # One folder more: a command line may climb two levels up
        place = folder / f"case{number}"
        try:
            done.append(_told(examined(number, seed, source, place)))
        finally:
            shutil.rmtree(place, ignore_errors=True)

    with ThreadPoolExecutor(jobs) as pool:
        started = [pool.submit(one, number) for number in numbers]
        try:
            for future in started:
                future.result()
        except KeyboardInterrupt:  # enough: what was done is told
            pool.shutdown(cancel_futures=True)
    return sorted(done, key=lambda outcome: outcome.number)


def _told(outcome: Outcome) -> Outcome:
    if outcome.findings:
        print(f"{outcome.number}: {outcome.findings}", file=sys.stderr, flush=True)
    return outcome


def summary(outcomes: list[Outcome], seed: int) -> dict[str, Any]:
    """What JSON can hold of it."""
    codes = Counter(str(code) for outcome in outcomes for code in outcome.codes)
    largest = max(outcomes, key=lambda outcome: outcome.peak_mb)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    return {
        "cases": len(outcomes),
        "seed": seed,
        "found": sum(bool(o.findings) for o in outcomes),
        "codes": dict(codes.most_common()),
        "ways": dict(Counter(outcome.case.way for outcome in outcomes).most_common()),
        "peak_mb": largest.peak_mb,
        "peak_case": largest.number,
        "slowest_s": slowest.seconds,
        "slowest_case": slowest.number,
        "seconds_of": {outcome.number: outcome.seconds for outcome in outcomes},
        "findings": [
            {
                "case": o.number,
                "findings": o.findings,
                "codes": o.codes,
                "peak_mb": o.peak_mb,
                "seconds": o.seconds,
                **_brief(asdict(o.case)),
                "shown": ascii(o.shown[-1500:]),
            }
            for o in outcomes
            if o.findings
        ],
    }


def _brief(case: dict[str, Any]) -> dict[str, Any]:
    return case | {"words": [ascii(word)[:200] for word in case["words"]]}


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--cases", type=int, default=200)
    words.add_argument("--first", type=int, default=0, help="number of the first case")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--way", choices=sorted(set(lines.WAYS)), help="only cases of this way")
    words.add_argument("--only", type=int, nargs="+", help="these cases; one tells what it prints")
    words.add_argument("--jobs", type=int, default=2, help="cases at once")
    words.add_argument("--out", type=Path, help="write the summary there, too")
    given = words.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs ignore the first
        signal.signal(number, signal.default_int_handler)
    numbers = [
        number
        for number in range(given.first, given.first + given.cases)
        if given.way in (None, lines.case(number, given.seed).way)
    ]
    if given.only:
        numbers = given.only
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="robustseg-fuzz-") as folder:
        source = built(Path(folder))
        outcomes = fuzz(numbers, given.seed, source, Path(folder), jobs=given.jobs)
    if given.only and len(given.only) == 1:
        print(ascii(outcomes[0].case), outcomes[0].shown, sep="\n")
    table = summary(outcomes, given.seed)
    table["seconds"] = round(time.monotonic() - start, 1)
    text = json.dumps(table, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)
    return 1 if table["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
