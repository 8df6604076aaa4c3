"""A user's folder: recordings, weights, shards, earlier results with additions, and years of work.

    CASE/a/w        where commands run: the household
    CASE/outside    what the links in it point to
    CASE/home, CASE/tmp

Everything but the last two belongs to the user.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from robustseg_core.storage.output_folder import META

ODD_NAMES = {
    "newline": "a\nb",
    "red": "[/red]",
    "bytes": os.fsdecode(b"o\xff"),
    "long": "n" * 255,
    "bidi": "a\u202eb",
    "option": "--out",
}
"""Links to the drive, named in odd ways."""


def build(case: Path, *, earlier: bool = True) -> None:
    """Make a household below `case`, which is new; `earlier` results take half a minute."""
    import yaml
    from rosbags.rosbag1 import Writer as Ros1Writer
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from robustseg_core import config
    from robustseg_core.bag import Bag
    from robustseg_core.bag.typestore import typestore
    from robustseg_core.models import checkpoint
    from robustseg_core.storage.budget import zstd
    from support import drives
    from support.learn_data import make_shards, words
    from support.makers import image

    home = case / "a" / "w"
    home.mkdir(parents=True)
    for name in ("home", "tmp", "outside/kept"):
        (case / name).mkdir(parents=True)
    truth = [
        (at, name, image(drives.truth(k) % 3, "mono8", drives.EPOCH + at))
        for k, (at, name, _) in enumerate(drives.truths(0.4))
    ]
    drives.write_drive(home / "drive", 0.4, truth)
    plain = home / "drive" / "drive.mcap"
    shutil.copy(plain, home / "one.mcap")
    (home / "packed.mcap.zst").write_bytes(zstd.compress(plain.read_bytes()))
    with (
        Bag(home / "drive") as bag,
        Writer(home / "rows", version=8, storage_plugin=StoragePlugin.SQLITE3) as rows,
    ):
        known: dict[str, Any] = {}
        for one in bag.messages():
            if one.topic not in known:
                known[one.topic] = rows.add_connection(one.topic, one.type, typestore=typestore())
            rows.write(known[one.topic], one.time_ns, one.raw)
    store = get_typestore(Stores.ROS1_NOETIC)
    text = store.types["std_msgs/msg/String"](data="hello")
    with Ros1Writer(home / "old.bag") as old:
        topic = old.add_connection("/chatter", text.__msgtype__, typestore=store)
        for k in range(6):
            old.write(topic, drives.EPOCH + k, store.serialize_ros1(text, text.__msgtype__))
    make_shards(home / "shards", 6)
    spec = checkpoint.default_spec(
        size=drives.SIZE,
        classes=("road", "wall", "sky"),
        trained=True,
        palette=((128, 64, 128), (70, 70, 70), (70, 130, 180)),
    )
    checkpoint.save(home / "net.safetensors", checkpoint.untrained(spec, seed=1))
    streams = {name: {"topic": topic} for name, topic in drives.TOPICS.items()}
    (home / "robot.yaml").write_text(yaml.safe_dump({"streams": streams, "device": "cpu"}))
    (home / "classes.yaml").write_text(
        yaml.safe_dump(
            {
                "ids": {0: 0, 1: 1, 2: 2},
                "classes": ["road", "wall", "sky"],
                "palette": [[128, 64, 128], [70, 70, 70], [70, 130, 180]],
            }
        )
    )
    recipe = config.override({}, words(Path("shards"), optim__steps=2))
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (home / "split.yaml").write_text(
        yaml.safe_dump(
            {
                "first_seed": 1,
                "drives": 1,
                "seconds": 0.2,
                "preset": "tiny",
                "conditions": [["clear"]],
            }
        )
    )
    # What is the user's alone
    (home / "thesis.tex").write_text("years of work")
    (home / "masks").mkdir()
    for k in range(3):
        (home / "masks" / f"{drives.EPOCH + k}.png").write_bytes(b"annotated for a week %d" % k)
    (case / "outside" / "heirloom.txt").write_text("of my grandmother")
    (case / "outside" / "kept" / "letter.txt").write_text("of my grandfather")
    shutil.copytree(home / "drive", case / "outside" / "drive")
    if earlier:
        _earlier(home)


def _earlier(home: Path) -> None:
    """Results of ours, and what the user has put beside them."""
    from robustseg_core.cli.main import app
    from robustseg_core.cli.terminal import guarded

    net = ["--weights", "net.safetensors", "--set", "device=cpu"]
    os.chdir(home)
    for line in (
        ["run", "drive", *net, "--out", "earlier"],
        ["label", "drive", *net, "--out", "labels"],
        ["extract", "drive", "--out", "extracted", "--size", "64x32", "--jobs", "1"],
        [
            "eval",
            "net.safetensors",
            "shards",
            "--protocol",
            "subsets",
            "--out",
            "evaluated",
            "--device",
            "cpu",
        ],
    ):
        sys.argv = ["robustseg", *line]
        if guarded(app):
            raise SystemExit(f"{line} failed")
    for name in (
        "earlier/masks/mine.png",
        "earlier/notes.txt",
        "labels/drive/mine.png",
        "extracted/notes.txt",
        "evaluated/notes.txt",
    ):
        (home / name).write_text("my own addition")


def move_in(built: Path, case: Path) -> Path:
    """A copy of the household that `build` made, with links and special files; the working folder.

    Args:
        built: what `build` made.
        case: made here.
    """
    shutil.copytree(built, case, symlinks=True)
    home = case / "a" / "w"
    for name, target in {
        "to_drive": "drive",
        "to_outside": "../../outside",
        "to_heirloom": "../../outside/heirloom.txt",
        "dangling": "nowhere",
        "loop": "loop",
        "to_net": "net.safetensors",
        "to_masks": "masks",
        "to_foreign_drive": "../../outside/drive",
        **dict.fromkeys(ODD_NAMES.values(), "drive"),
    }.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).symlink_to(f"../{target}" if "/" in name else target)
    os.link(home / "one.mcap", home / "hard.mcap")
    os.mkfifo(home / "fifo")
    (home / "empty").write_bytes(b"")
    (home / "dir").mkdir()
    (home / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with socket.socket(socket.AF_UNIX) as ear, suppress(OSError):  # its path may be too long
        ear.bind(os.path.relpath(home / "socket"))
    for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8)):
        with suppress(OSError):  # who is not root makes none
            os.mknod(home / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    (home / "secret.yaml").write_text("a: 1")
    (home / "secret.yaml").chmod(0)
    return home


def held(case: Path) -> dict[str, str]:
    """Path -> what is there, of all that is the user's, and follows no link."""
    found = {}
    for top, folders, files in os.walk(os.fsencode(case)):
        if top == os.fsencode(case):
            folders[:] = [name for name in folders if name in (b"a", b"outside")]
            files.clear()
        for name in (*folders, *files):
            path = os.path.join(top, name)
            found[os.fsdecode(os.path.relpath(path, os.fsencode(case)))] = _what(path)
    return found


def _what(path: bytes) -> str:
    status = os.lstat(path)
    kind = stat.filemode(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return f"{kind} {os.fsdecode(os.readlink(path))}"
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return f"{kind} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return kind


def ours(case: Path) -> set[str]:
    """Paths that our own manifests list, and the manifests' folders."""
    found = set()
    for meta in case.rglob(META):
        found.add(str(meta.relative_to(case)))
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            tree = json.loads((meta / "manifest.json").read_bytes())
            found |= {str((meta.parent / name).relative_to(case)) for name in tree["files"]}
    return found


if __name__ == "__main__":
    build(Path(sys.argv[1]))
