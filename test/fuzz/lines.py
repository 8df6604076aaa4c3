"""Hostile command lines: which words, in which environment, and what is damaged before.

A line is a good one of `GOOD`, spoiled in one of `WAYS`. Case i depends on the seed and on i alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.household import ODD_NAMES

Random = np.random.Generator

WHOLE = {
    "run": ("result.json", "report.html", "overlay.webm", "mcap/metadata.yaml"),
    "inject": ("metadata.yaml",),
    "extract": ("drive/index.json",),
    "label": ("drive/labels.json",),
    "eval": ("results.json", "counts.npz", "report.html"),
    "train": ("best.safetensors", "result.json"),
    "robustness": ("robustness.json", "report.html"),
}
"""What says that a result is whole, below the output."""
GOOD = {
    "inspect": "inspect {bag}",
    "run": "run {bag} --weights {weights} --params {params} --out {out} --set device=cpu",
    "inject": "inject {bag} {out} --fault rgb:black",
    "extract": "extract {bag} --out {out} --size 64x32 --jobs 1 --params {params} "
    "--class-map {map} --labels /camera/label",
    "extract labels": "extract {bag} --out {out} --size 64x32 --jobs 1 --labels {labels}",
    "label": "label {bag} --weights {weights} --out {out} --set device=cpu",
    "train": "train teacher {recipe} --out {out} --device cpu",
    "eval": "eval {weights} {shards} --protocol subsets --out {out} --device cpu",
    "compare": "eval --compare {results} {results}",
    "sim": "sim {out} --preset tiny --seconds 0.2",
    "split": "sim {out} --split {split} --jobs 1",
    "robustness": "robustness {bag} --out {out} --rows 1 --no-score --no-pairs --jobs 1",
    "doctor": "doctor {bag} --params {params} --set device=cpu --set weights=untrained",
    "live": "live --params {params}",
    "doctor live": "doctor --live --params {params}",
    "params": "params",
    "list": "list",
}
"""The name of a line -> its words."""
FILLED = {
    "bag": "drive", "weights": "net.safetensors", "params": "robot.yaml", "map": "classes.yaml",
    "labels": "labels", "recipe": "recipe.yaml", "shards": "shards", "split": "split.yaml",
    "results": "evaluated/results.json", "out": "out",
}  # fmt: skip
OPTIONS = {
    "inspect": ("--json", "--strict"),
    "run": ("--weights", "--params", "--out", "--kill", "--fault", "--seed", "--device", "--set"),
    "inject": ("--fault", "--seed"),
    "extract": ("--out", "--size", "--labels", "--every", "--modality", "--class-map", "--params",
                "--jobs", "--set"),
    "label": ("--weights", "--out", "--confidence", "--every", "--params", "--set"),
    "train": ("--out", "--teacher", "--device", "--set"),
    "eval": ("--out", "--kind", "--split", "--size", "--protocol", "--absent", "--batch", "--seed",
             "--device", "--set"),
    "sim": ("--seconds", "--seed", "--condition", "--size", "--preset", "--split", "--jobs"),
    "robustness": ("--out", "--jobs", "--weights", "--params", "--rows", "--seed", "--tests",
                   "--preset", "--healthy", "--minutes", "--set"),
    "doctor": ("--params", "--set", "--seconds"),
    "live": ("--params", "--set"),
}  # fmt: skip
ODD = (
    "nan", "inf", "-inf", "-1", "0", "1e400", "9" * 30, "9" * 5000, "-9223372036854775809", "0x10",
    "1_0", "1e-320", "٣", "²", "", " ", "\n", "\t", "--", "-", "--out", "--help", "-x", "=", "@",
    ":", ",", "..", "/", "~", "*", "$HOME", "$(id)", "%s%n{0}", "[/red]", "[bold]", "\x1b[31m",
    "\x07", "\u202eabc", "\ufeff", "a\u0301" * 40, "größe", "\U0001f697", "\ud7ff", "x" * 300,
    "x" * 100_000, "null", "true", "{}", "[]", "[[[[", "&a [*a]", "!!python/object:os.system x",
    "{a: {b: c}}", os.fsdecode(b"\xff\xfe"), "1x1", "0x0", "65536x65536", "64x32x3", "-64x32",
    "64X32", "1;2", "rgb", "lidar@", "rgb@nan", "rgb@-1+-1", "rgb@1e300+1e300", "rgb@0+nan",
    "rgb:stuck@nan+nan", "rgb:stuck@1e300", "rgb:salt_pepper(share=1e400)", "zzz:stuck", "rgb:",
    ":black", "rgb:black(", "rgb:black(x=1)", "rgb:delay(seconds=1e300)", "1-99999999999", "5-1",
    "1-", "tiny", "untrained", "cuda:99", "cpu", "test",
)  # fmt: skip
OVERRIDES = (
    "cpu_threads", "streams.rgb.topic", "streams.rgb.limits", "streams", "view.width", "device",
    "weights", "sync.reference", "sync.window_ms", "optim.lr", "optim.steps", "optim.batch",
    "data.workers", "data.train", "network.head_width", "network.backbone", "augment.scale",
    "data.size", "log_every", "save_every", "validate.every", "seed", "view.extrinsics", "",
    "[", "a.b",
)  # fmt: skip
WRONG = (
    "dir", "empty", "fifo", "socket", "null", "zero", "full", "random", "dangling", "loop",
    "secret.yaml", "thesis.tex", "bytes.yaml", "net.safetensors", "drive", "one.mcap", "rows",
    "old.bag", "packed.mcap.zst", "robot.yaml", "shards", "shards/000000.tar", "shards/index.json",
    "earlier", "earlier/result.json", "evaluated/results.json", "labels",
    "labels/drive/labels.json", "extracted", "masks", "recipe.yaml", "classes.yaml", "split.yaml",
    "to_outside", "to_heirloom", "to_foreign_drive", "to_net", "hard.mcap", "nowhere",
    "thesis.tex/x", "dir/", "drive/", ".", "..", "../..", "drive/../drive", "//", "x" * 256,
    "x/" * 2500, "/dev/fd/0", "/proc/self/mem", "/proc/self/environ", "/proc/kmsg", "/dev/stdin",
    *ODD_NAMES.values(),
)  # fmt: skip
PLACES = (
    "drive", "drive/", "./drive", "drive/.", "drive/..", "../w/drive", "{home}/drive",
    "dir/../drive", "to_drive", "to_drive/", "to_foreign_drive", "drive/sub", "drive/drive.mcap",
    "drive/drive.mcap/x", "one.mcap", "hard.mcap", "DRIVE", ".", "./", "..", "../..", "../../",
    "masks", "to_masks", "shards", "shards/x", "shards/000000.tar", "net.safetensors", "to_net",
    "net.safetensors/x", "robot.yaml", "thesis.tex", "classes.yaml", "recipe.yaml", "earlier",
    "earlier/", "earlier/masks", "earlier/mcap", "earlier/.robustseg", "earlier/.robustseg/partial",
    "labels", "labels/drive", "extracted", "extracted/drive", "evaluated", "to_outside",
    "to_outside/new", "to_outside/kept", "to_heirloom", "dangling", "dangling/x", "loop", "fifo",
    "socket", "null", "full", "zero", "dir", "new/deep/er", "empty", "x" * 255, "x" * 256, "a\nc",
    "[/blue]", "\u202ec", os.fsdecode(b"new\xff"), "größe", "", " ", "~", "new ", ".hidden",
    "-dash", "x" * 250, "/dev/fd/1", "/proc/self/x", "*", "new\\", "CON", "out.mcap", "drive.mcap",
    *ODD_NAMES.values(),
)  # fmt: skip
BAGS = ("to_drive", "drive/drive.mcap", "one.mcap", "rows", "hard.mcap", "{home}/drive",
        "to_foreign_drive")  # fmt: skip
READ_BY = {
    "drive/drive.mcap": ("inspect", "run", "inject", "extract", "label", "doctor", "robustness"),
    "drive/metadata.yaml": ("inspect", "run", "inject", "extract", "doctor"),
    "one.mcap": ("inspect", "run", "inject", "doctor"),
    "packed.mcap.zst": ("inspect", "inject", "doctor"),
    "rows/rows.db3": ("inspect", "run", "inject", "doctor"),
    "rows/metadata.yaml": ("inspect", "doctor"),
    "old.bag": ("inspect", "inject", "doctor"),
    "net.safetensors": ("run", "label", "eval"),
    "shards/index.json": ("eval", "train"),
    "shards/000000.tar": ("eval", "train"),
    "robot.yaml": ("run", "extract", "doctor", "live"),
    "classes.yaml": ("extract",),
    "recipe.yaml": ("train",),
    "split.yaml": ("split",),
    "labels/drive/labels.json": ("extract labels",),
    "labels/.robustseg/manifest.json": ("extract labels", "label"),
    "earlier/result.json": ("run",),
    "earlier/.robustseg/manifest.json": ("run",),
    "evaluated/results.json": ("compare", "eval"),
    "evaluated/.robustseg/manifest.json": ("eval",),
    "extracted/drive/index.json": ("extract", "eval"),
}
"""A file that we read -> the lines that read it."""
AGAIN = {"earlier": "run", "evaluated": "eval", "extracted": "extract", "labels": "label"}
"""A folder with an earlier result -> the line that made it."""
_BOUND = 'exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"'
"""Root is everybody's: from here on rights count."""
SHELLS = {
    "stdin closed": 'exec "$@" <&-', "stdout closed": 'exec "$@" >&-',
    "stderr closed": 'exec "$@" 2>&-', "all closed": 'exec "$@" <&- >&- 2>&-',
    "stdout full": 'exec "$@" >/dev/full', "stderr full": 'exec "$@" 2>/dev/full',
    "reader gone": '"$@" | true; exit ${PIPESTATUS[0]}',
    "small files": 'ulimit -f 8; exec "$@"', "no files": 'ulimit -f 0; exec "$@"',
    "few files": 'ulimit -n 24; exec "$@"', "very few files": 'ulimit -n 8; exec "$@"',
    "little memory": 'ulimit -v 1500000; exec "$@"', "some memory": 'ulimit -v 4000000; exec "$@"',
    "no core, small stack": 'ulimit -s 512; exec "$@"',
    "read-only": f"chmod -R a-w . && {_BOUND}", "no rights": _BOUND,
    "cwd gone": 'mkdir gone; cd gone; rmdir ../gone; exec "$@"',
    "umask": 'umask 777; exec "$@"',
}  # fmt: skip
"""Streams, limits and rights, by the shell that sets them."""
VARIABLES: dict[str, dict[str, str | None]] = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX": {"LC_ALL": "POSIX"},
    "C.UTF-8": {"LC_ALL": "C.UTF-8"},
    "no such locale": {"LC_ALL": "xx_YY.KOI8-R"},
    "latin": {"PYTHONIOENCODING": "latin-1"},
    "no home": {"HOME": None},
    "home is gone": {"HOME": "/nowhere/at/all"},
    "tmp is gone": {"TMPDIR": "/nowhere/at/all"},
    "tmp is a file": {"TMPDIR": "thesis.tex"},
    "no terminal": {"TERM": "dumb", "COLUMNS": "1"},
    "odd terminal": {"TERM": "\x1b[31m", "COLUMNS": "-7", "LINES": "x"},
    "bad limit": {"ROBUSTSEG_UNPACK_LIMIT": "nan"},
    "small limit": {"ROBUSTSEG_UNPACK_LIMIT": "1MiB", "ROBUSTSEG_UNPACK_RATIO": "1"},
    "bad threads": {"OMP_NUM_THREADS": "-1"},
    "bad thread count": {"OMP_NUM_THREADS": "[/red]"},
    "torchrun's, half": {"RANK": "x", "WORLD_SIZE": "2"},
    "no path": {"PATH": None},
}
"""Environment variables; None: unset."""


@dataclass(frozen=True)
class Case:
    """One hostile command line and all that belongs to it."""

    way: str
    line: str
    """Its name in `GOOD`."""
    words: tuple[str, ...]
    note: str = ""
    shell: str = 'exec "$@"'
    variables: dict[str, str | None] = field(default_factory=dict)
    damage: tuple[str, str] = ("", "")
    """The file that is damaged, and how."""
    signal: int = 0
    after_s: float = 0.0

    @property
    def command(self) -> str:
        """The robustseg command."""
        return self.words[0]

    @property
    def out(self) -> str:
        """Its output, as it is written there; empty: none."""
        if self.command in ("sim", "inject"):
            return self.words[1 if self.command == "sim" else 2]
        spots = [k for k, word in enumerate(self.words) if word == "--out"]
        return self.words[spots[-1] + 1] if spots and spots[-1] + 1 < len(self.words) else ""


def pick(random: Random, options: Sequence[Any]) -> Any:
    """One of them."""
    return options[int(random.integers(len(options)))]


def good(name: str, **filled: str) -> tuple[str, ...]:
    """The words of a line, with other words in some of its places."""
    out = {"sim": "out.mcap"}.get(name, "out")
    table = FILLED | {"out": out} | filled
    return tuple(word.format_map(table) for word in GOOD[name].split())


def places(name: str) -> list[str]:
    """What a line leaves open: `bag`, `out` and so on."""
    return [word[1:-1] for word in GOOD[name].split() if word.startswith("{")]


def case(number: int, seed: int) -> Case:
    """Case `number`."""
    random = np.random.default_rng([seed, number])
    way = WAYS[number % len(WAYS)]
    return _SPOILERS[way](random)


def _odd_value(random: Random) -> Case:
    name = pick(random, list(GOOD))
    words = list(good(name))
    options = OPTIONS.get(words[0], ("--verbose", "--unpack-limit", "--unpack-ratio"))
    for _ in range(int(random.geometric(0.7))):
        value = pick(random, ODD)
        how = random.random()
        if how < 0.15:
            words.insert(int(random.integers(len(words) + 1)), value)
            continue
        option = pick(random, options)
        if option == "--set" or how < 0.35:
            option, value = "--set", f"{pick(random, OVERRIDES)}={value}"
        words += [f"{option}={value}"] if random.random() < 0.4 else [option, value]
    if random.random() < 0.1:
        words = [pick(random, ("--unpack-limit", "--unpack-ratio")), pick(random, ODD), *words]
    return Case("odd value", name, tuple(words))


def _wrong_file(random: Random) -> Case:
    names = [name for name in GOOD if set(places(name)) - {"out"}]
    name = pick(random, names)
    place = pick(random, [p for p in places(name) if p != "out"])
    wrong = pick(random, WRONG)
    return Case("wrong file", name, good(name, **{place: wrong}), f"{place} is {wrong!r:.40}")


def _odd_output(random: Random) -> Case:
    name = pick(random, [name for name in GOOD if "out" in places(name)])
    filled = {"out": pick(random, PLACES)}
    if random.random() < 0.3 and "bag" in places(name):
        filled["bag"] = pick(random, BAGS)
    return Case("odd output", name, good(name, **filled), f"out is {filled['out']!r:.40}")


def _damaged(random: Random) -> Case:
    path = pick(random, list(READ_BY))
    name = pick(random, READ_BY[path])
    filled: dict[str, str] = {}
    top = path.split("/")[0]
    if "bag" in places(name) and top in ("one.mcap", "packed.mcap.zst", "rows", "old.bag"):
        filled["bag"] = top
    elif top in AGAIN and path != "evaluated/results.json" and name == AGAIN[top]:
        filled["out"] = top
    elif top == "extracted" and name == "eval":
        filled["shards"] = "extracted/drive"
    how = pick(random, DAMAGES)
    return Case("damaged", name, good(name, **filled), f"{path}: {how}", damage=(path, how))


def _environment(random: Random) -> Case:
    name = pick(random, [*GOOD, "run", "eval", "extract", "label", "inject"])
    if random.random() < 0.55:
        note = pick(random, list(SHELLS))
        made = Case("environment", name, good(name), note, shell=SHELLS[note])
    else:
        note = pick(random, list(VARIABLES))
        made = Case("environment", name, good(name), note, variables=VARIABLES[note])
    if random.random() < 0.3 and "bag" in places(name):
        odd = pick(random, list(ODD_NAMES.values())[:4])
        made = replace(made, words=good(name, bag=odd), note=f"{note}, {odd!r:.20}")
    return made


def _killed(random: Random) -> Case:
    name = pick(random, [name for name in GOOD if "out" in places(name)])
    tops = [top for top, line in AGAIN.items() if line == name and random.random() < 0.5]
    filled = {"out": tops[0]} if tops else {}
    number = pick(random, (2, 9, 15))
    after_s = float(random.uniform(1, 9))
    return Case("killed", name, good(name, **filled), f"signal {number}", signal=number,
                after_s=round(after_s, 2))  # fmt: skip


_SPOILERS = {
    "odd value": _odd_value, "wrong file": _wrong_file, "odd output": _odd_output,
    "damaged": _damaged, "environment": _environment, "killed": _killed,
}  # fmt: skip
WAYS = ("odd value", "wrong file", "odd output", "damaged", "environment", "odd value",
        "wrong file", "odd output", "damaged", "environment", "odd value", "wrong file",
        "odd output", "damaged", "killed")  # fmt: skip
"""The way of each case, in turn."""
DAMAGES = ("flip", "flips", "cut", "empty", "swap", "twice", "zeros", "noise", "text", "tail",
           "digit")  # fmt: skip


def damage(path: Path, how: str, random: Random) -> None:  # noqa: C901  # a branch for each of a list
    """Damage a file in one of `DAMAGES`."""
    data = bytearray(path.read_bytes())
    at = int(random.integers(max(1, len(data))))
    if how in ("flip", "flips"):
        for spot in random.integers(0, len(data), 1 if how == "flip" else 30):
            data[spot] ^= 1 << int(random.integers(8))
    elif how == "digit":  # a number that is another, which no syntax forbids
        spots = [k for k, byte in enumerate(data) if 48 <= byte <= 57]
        for spot in random.choice(spots, 3) if spots else ():
            data[spot : spot + 1] = pick(random, (b"9", b"0", b"999999999", b"-1", b"1e99", b"NaN"))
    elif how == "cut":
        del data[at:]
    elif how == "empty":
        data.clear()
    elif how == "swap":
        data = data[at:] + data[:at]
    elif how == "twice":
        data *= 2
    elif how == "zeros":
        data[at : at + 500] = bytes(len(data[at : at + 500]))
    elif how == "noise":
        data[at : at + 500] = random.bytes(len(data[at : at + 500]))
    elif how == "text":
        data[at:at] = pick(
            random, (b"[/red]\x1b[31m", b"\xff\xfe", b'": [[[[', b"\0\0", b"\n- &a [*a]\n")
        )
    elif how == "tail":
        data += random.bytes(3000)
    path.write_bytes(bytes(data))
