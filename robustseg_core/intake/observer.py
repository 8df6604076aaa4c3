"""Who watches an intake from outside: told what comes in, and what becomes of it."""

from __future__ import annotations

from typing import Any

from robustseg_core.types import Finding, LabelMap


class Observer:
    """Watches an intake, or the segmenter that has it: is told what it took, and what became of it.

    Derive from it and override what you want to hear; the rest does nothing. It is called in the
    thread that pushes or steps, and may ask the segmenter whatever it likes; what it raises reaches
    whoever pushed or stepped.
    """

    def arriving(self, modality: str, now_ns: int) -> None:
        """A message has come, and nothing has been done with it yet."""

    def pushed(self, modality: str, message: Any, now_ns: int, finding: Finding | None) -> None:
        """It was rejected for that finding, or is used or under consideration (None).

        The message is None where its serialized form did not parse. One that was offered, and not
        pushed, is under consideration: nobody has looked into it.
        """

    def calibrated(self, modality: str, message: Any, finding: Finding | None) -> None:
        """A CameraInfo was refused for that finding, or is used."""

    def placed(self, message: Any, finding: Finding | None) -> None:
        """Transforms, static or moving, were refused for that finding, or are used."""

    def stepped(self, now_ns: int, label_map: LabelMap | None) -> None:
        """The segmenter was stepped, and made this mask, or none."""


NOBODY = Observer()
