"""Where commands write: a folder that is theirs alone, in which nobody else's file is ever touched.

A folder is claimed under a lock, filled in a fresh staging folder below it, and published when all
of it is there: killed at any time, the old result or the new one is named by the manifest, and the
next run makes it whole. Only files that the manifest lists, unchanged, are ever removed.

    FOLDER/.robustseg/manifest.json   the command, and each file with its size and time
    FOLDER/.robustseg/partial/        what is being made
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import read_json

META = ".robustseg"
"""The folder's own account, below it."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Stamp = list[int]
"""Size in bytes, and modification time in ns: what tells whether somebody has changed a file."""


class OutputFolder:
    """A folder that this process holds; made by `claimed`.

    Args:
        path: the folder.
        command: who writes here; another command's folder is refused.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path = path
        self._command = command
        self._files: dict[str, list[Stamp]] = {}

    def admit(self, *, replace: bool = True) -> None:
        """Refuse a folder that holds what is not ours to replace.

        Args:
            replace: False: also what is ours.

        Raises:
            RobustsegError: files that nobody of us wrote, another command's results, or results
                that somebody has changed.
        """
        manifest = self._read()
        if manifest is None:
            _refuse_foreign(self.path)
            return
        entries = _entries(self.path)
        if entries and not replace:
            raise RobustsegError(f"{self.path} exists already; choose another name")
        if entries and manifest["command"] != self._command:
            raise RobustsegError(
                f"{self.path} holds the results of `robustseg {manifest['command']}`, which "
                f"`{self._command}` does not replace; choose another folder"
            )
        self._files = manifest["files"]
        if changed := self._changed(self._files):
            raise RobustsegError(
                f"{self.path / changed[0]} was changed since robustseg wrote it; "
                "move it away, or choose another folder"
            )

    def open(self) -> None:
        """Say whose folder this is before anything is written in place (runs that are resumed)."""
        self._write("open")

    def fresh(self) -> Path:
        """The staging folder, empty: what is put there becomes the result with `publish`."""
        staging = self._staging
        shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
        staging.mkdir()
        return staging

    def publish(self) -> None:
        """Move everything out of the staging folder; the earlier result goes, foreign files stay.

        Raises:
            RobustsegError: a file that is not ours stands where one of the result's belongs; then
                nothing is replaced, and the text says where the new result lies.
        """
        staging = self._staging
        made = sorted(_files(staging), key=_last_the_summary)
        new = {name: _stamp(staging / name) for name in made}
        if blocked := self._changed(self._files) or [name for name in made if self._foreign(name)]:
            aside = _unused(self.path / META / "unpublished")
            staging.rename(aside)
            raise RobustsegError(
                f"{self.path / blocked[0]} is not robustseg's to replace, so the new result is in "
                f"{aside}; move one of them away"
            )
        old = self._files
        both = {
            name: [*old.get(name, []), *([new[name]] if name in new else [])]
            for name in {**old, **new}
        }
        self._files = both  # whichever of the two a killed process leaves, it is ours
        self._write("publishing")
        # Remove what the new result no longer has, then put each file in its place
        for name in old.keys() - new.keys():
            self._remove(name)
        for name in made:
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(target)
        self._files = {name: [stamp] for name, stamp in new.items()}
        self._write("done")
        shutil.rmtree(staging, ignore_errors=True)

    def clean_up(self, *, made: bool) -> None:
        """Drop the staging folder; and the folder itself, if it was `made` and is empty still."""
        shutil.rmtree(self._staging, ignore_errors=True)
        if not self._manifest.exists() and not (self.path / META / "unpublished").exists():
            with suppress(OSError):
                (self.path / META).rmdir()
                if made:
                    self.path.rmdir()

    @property
    def _staging(self) -> Path:
        return self.path / META / "partial"

    @property
    def _manifest(self) -> Path:
        return self.path / META / "manifest.json"

    def _read(self) -> dict[str, Any] | None:
        try:
            tree = read_json(self._manifest)
            files = {str(k): [[int(a), int(b)] for a, b in v] for k, v in tree["files"].items()}
            command, state = str(tree["command"]), str(tree["state"])
            return {"command": command, "state": state, "files": files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise RobustsegError(
                f"{self._manifest} is damaged, so nothing says whose files these are; "
                "choose another folder"
            ) from None

    def _write(self, state: str) -> None:
        tree = {"command": self._command, "state": state, "files": self._files}
        with replacing(self._manifest) as path:
            path.write_text(json.dumps(tree) + "\n")

    def is_mixed(self) -> bool:
        """Whether who published here was killed meanwhile: old and new files lie side by side."""
        manifest = self._read()
        return manifest is not None and manifest["state"] == "publishing"

    def is_whole(self) -> bool:
        """Whether a result of the command is there, published to its end, and as it was left."""
        manifest = self._read()
        if manifest is None or (manifest["command"], manifest["state"]) != (self._command, "done"):
            return False
        files = manifest["files"]
        there = all(os.path.lexists(self.path / name) for name in files)
        return there and not self._changed(files)

    def _changed(self, files: Mapping[str, list[Stamp]]) -> list[str]:
        """Those of these files of ours that are there, and not as we left them."""
        return [
            name
            for name, stamps in files.items()
            if os.path.lexists(self.path / name)
            and (self._through_link(name) or _stamp(self.path / name) not in stamps)
        ]

    def _foreign(self, name: str) -> bool:
        """Whether something that is not ours is where the file `name` belongs."""
        if name in self._files:
            return False
        parents = [self.path / parent for parent in list(Path(name).parents)[:-1]]
        blocked = any(os.path.lexists(p) and (p.is_symlink() or not p.is_dir()) for p in parents)
        return blocked or os.path.lexists(self.path / name)

    def _through_link(self, name: str) -> bool:
        parts = (Path(name), *list(Path(name).parents)[:-1])
        return any((self.path / part).is_symlink() for part in parts)

    def _remove(self, name: str) -> None:
        """One file of the earlier result, and the folders that it leaves empty."""
        (self.path / name).unlink(missing_ok=True)
        for parent in list(Path(name).parents)[:-1]:
            with suppress(OSError):
                (self.path / parent).rmdir()


@contextmanager
def claimed(
    folder: Path,
    *,
    command: str,
    inputs: Iterable[Path | str] = (),
    replace: bool = True,
    wait: bool = False,
    target: Path | None = None,
) -> Iterator[OutputFolder]:
    """Hold `folder` for this process; the system lets go of it when we die.

    Args:
        folder: made if missing.
        command: who writes.
        inputs: what is read meanwhile; none may lie in `folder`.
        replace: whether an earlier result of the same command may be replaced.
        wait: for another process that holds the folder; else that is an error.
        target: what a full disk keeps from being written, in the sentence; None: `folder`.

    Raises:
        RobustsegError: it is or contains an input, is no folder, cannot be written, is held by
            another process, or holds what is not ours to replace; or the disk becomes full.
    """
    folder = Path(folder)
    check_apart(folder, inputs)
    try:
        with _locked(folder, wait=wait) as made:
            held = OutputFolder(folder, command)
            try:
                held.admit(replace=replace)
                yield held
            finally:
                held.clean_up(made=made)
    except OSError as error:
        ours = str(error.filename or "").startswith(str(folder))
        if error.errno not in _FULL and not ours:
            raise  # not of our writing
        way_out = "make room" if error.errno in _FULL else "choose a folder that can be written"
        raise RobustsegError(
            f"cannot write {target or folder}: {error.strerror}; {way_out}"
        ) from error


@contextmanager
def staged(
    folder: Path,
    *,
    command: str,
    inputs: Iterable[Path | str] = (),
    replace: bool = True,
) -> Iterator[Path]:
    """A fresh folder to write into; what is in it becomes the content of `folder` at the end.

    If the block raises, `folder` stays as it was.

    Args:
        folder, command, inputs, replace: as in `claimed`.

    Raises:
        RobustsegError: as in `claimed`.
    """
    with claimed(folder, command=command, inputs=inputs, replace=replace) as held:
        yield held.fresh()
        held.publish()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`; it takes its place at the end, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def expect_free(path: Path) -> None:
    """Refuse a name for a new file that cannot become one.

    Raises:
        RobustsegError: something is there, or there is no such folder.
    """
    if os.path.lexists(path):
        raise _taken(path)
    if not path.parent.is_dir():
        raise RobustsegError(f"there is no folder {path.parent} for {path.name}; make it first")


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet: whole or not at all, and never over another one.

    Raises:
        RobustsegError: something is there, or it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
        place(unfinished, path)
    except OSError as error:
        way_out = "make room" if error.errno in _FULL else "choose another name"
        raise RobustsegError(f"cannot write {path}: {error.strerror}; {way_out}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _taken(path: Path) -> RobustsegError:
    return RobustsegError(f"{path} is there already; move it away, or choose another name")


def place(source: Path, target: Path) -> None:
    """Move a file to a name that is free, never over another file.

    Raises:
        RobustsegError: something is there.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise _taken(target) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise _taken(target) from None
        source.rename(target)
    else:
        source.unlink()


def check_apart(folder: Path, inputs: Iterable[Path | str]) -> None:
    """Refuse an output that is, or contains, what is read.

    Raises:
        RobustsegError: names the input.
    """
    try:
        there = folder.stat()
    except OSError:
        return  # what does not exist contains nothing
    for path in map(Path, inputs):
        for place_ in {path.absolute(), path.resolve()}:
            for above in (place_, *place_.parents):
                with suppress(OSError):
                    if os.path.samestat(above.stat(), there):
                        what = "is" if above == place_ else "contains"
                        raise RobustsegError(
                            f"{folder} {what} the input {path}; choose another folder"
                        )


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether `folder` was made by us and is empty; its lock is held until the block ends."""
    meta = folder / META
    while True:
        there = os.path.lexists(folder)
        if there and not folder.is_dir():
            raise RobustsegError(f"{folder} is no folder; choose another name")
        marked = meta.is_dir()  # by a process that was killed, or is at it
        if there and not marked:
            _refuse_foreign(folder)  # before even a mark of ours is left there
        meta.mkdir(parents=True, exist_ok=True)
        number = _lock(meta, wait=wait)
        if number is not None:
            break
    try:
        yield (marked or not there) and os.listdir(folder) == [META]
    finally:
        os.close(number)


def _lock(meta: Path, *, wait: bool) -> int | None:
    """The file descriptor that holds `meta`; None: it was removed meanwhile by whoever held it."""
    try:
        number = os.open(meta, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.path.samestat(os.fstat(number), meta.stat()):
            return number
    except FileNotFoundError:
        pass
    except BlockingIOError:
        os.close(number)
        raise RobustsegError(
            f"another robustseg is writing to {meta.parent}; wait for it, or choose another folder"
        ) from None
    os.close(number)
    return None


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder of somebody else's."""
    if entries := _entries(folder):
        raise RobustsegError(
            f"{folder} holds {min(entries)!r}, which robustseg did not write; "
            "choose another folder, or an empty one"
        )


def _entries(folder: Path) -> list[str]:
    """What is in it, but for our account of it."""
    return [entry.name for entry in folder.iterdir() if entry.name != META]


def _files(folder: Path) -> list[str]:
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()]


def _last_the_summary(name: str) -> tuple[bool, bool, str]:
    """What says that a result is whole comes last: the JSON of the top level."""
    path = Path(name)
    top = len(path.parts) == 1
    return top, top and path.suffix == ".json", name


def _stamp(path: Path) -> Stamp:
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


def _unused(path: Path) -> Path:
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}-{number}")):
        number += 1
    return path.with_name(f"{path.name}-{number}")
