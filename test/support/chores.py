"""Tasks for `robustseg_core.jobs`, where other processes can import them."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from robustseg_core.errors import RobustsegError


def chore(task: tuple[str, int]) -> int:
    """What a word says."""
    word, number = task
    if word == "fail":
        raise RobustsegError(f"number {number} cannot be done")
    if word == "defect":
        raise ZeroDivisionError("of ours")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word.startswith("die once in "):
        mark = Path(word.removeprefix("die once in ")) / str(number)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if word.startswith("ask "):
        _ask(word.removeprefix("ask "), number)
    if word == "wait":
        signal.pause()
    return number * number


def _ask(path: str, number: int) -> None:
    """Say over a socket which node of a Ray cluster this is, and wait for leave to go on."""
    import ray

    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.sendall(f"{number} {ray.get_runtime_context().get_node_id()}\n".encode())
        assert line.recv(1) == b"!"
