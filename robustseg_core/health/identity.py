"""What a sensor calls itself: frame, size, encoding; the first message teaches, changes are told.

A new size or encoding is one warning, and the stream goes on. A new frame is another matter: data
in an unknown place is worse than none, so it is refused until something places that frame.
"""

from __future__ import annotations

from typing import Any

from robustseg_core.geometry.view import View
from robustseg_core.types import Fault, Finding, Reading, Rejection


class Identity:
    """Of one stream; a pure function of the messages that it was shown."""

    def __init__(self) -> None:
        self._frame_id: str | None = None
        self._size: tuple[int, int] | None = None
        self._encoding: str | None = None

    def refuse(self, reading: Reading, view: View) -> Finding | None:
        """FRAME_ID, while the message is in another frame than before that nothing places.

        With a usable transform, or a CameraInfo that names it, the new frame is learned instead.
        """
        new, old = reading.frame_id, self._frame_id
        if old is None or new == old or _placed(reading.modality, new, view):
            self._frame_id = new
            return None
        text = (
            f"frame_id changed from {old!r} to {new!r}, and no transform joins {new!r} to "
            f"{view.frame_id!r}; publish it on /tf_static, or reset"
        )
        return Finding(Fault.FRAME_ID, fatal=True, text=text, final=True)

    def changes(self, message: Any, size: tuple[int, int] | None) -> list[Finding]:
        """RESOLUTION, or FORMAT for another encoding that decodes as well: harmless, but told."""
        encoding = getattr(message, "format", None) or getattr(message, "encoding", None)
        found = []
        if self._size is not None and size is not None and size != self._size:
            text = f"changed from {_by(self._size)} to {_by(size)}"
            found.append(Finding(Fault.RESOLUTION, fatal=False, text=text, score=1.0))
        if self._encoding is not None and encoding is not None and encoding != self._encoding:
            text = f"encoding changed from {self._encoding!r} to {encoding!r}; it decodes"
            found.append(Finding(Fault.FORMAT, fatal=False, text=text, score=1.0))
        self._size, self._encoding = size or self._size, encoding or self._encoding
        return found


def _placed(modality: str, frame_id: str, view: View) -> bool:
    own = view.camera_of(modality)
    if own is not None and own.frame_id == frame_id:
        return True
    try:
        view.view_from(modality, frame_id)
    except Rejection:
        return False
    return True


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
