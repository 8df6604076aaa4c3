"""What a frame of the film shows: the mask, the time, the classes, and what is wrong with whom.

mask over the picture                | seconds
                                     | classes, those that are in the mask in white
                                     | what a sensor in doubt says, or said last
one line for each sensor: state, and the reason in words
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core.output import draw
from robustseg_core.text import visible
from robustseg_core.types import IGNORE, Frame, LabelMap, ModelSpec, State, kind_of, sentence

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

GROUND = 22
FAINT = (110, 110, 110)
"""RGB of the name of a class that is not in the mask; `GROUND` is gray."""
PANEL, LINE, ROW = 0.36, 26, 17
"""Width of the side panel, of the picture's; heights of a sensor's and of a class's line, in pixels
per 480 rows of picture."""
COLUMNS = 2
"""Of classes."""
LETTERS, SMALL = 0.42, 0.36
"""Sizes of the text, as OpenCV counts it."""
PAST = 0.5
"""Brightness of what a sensor said once."""


class Screen:
    """Draws the frames of a film.

    Args:
        spec: the network's.
        duration_s: of the recording.
    """

    def __init__(self, spec: ModelSpec, duration_s: float) -> None:
        self._spec = spec
        self._duration_s = duration_s
        self._past: dict[str, tuple[float, Frame]] = {}
        """modality -> when a mask was made of it last, and what that one saw."""
        self._drawn: dict[str, tuple[Frame, Picture]] = {}
        self._legend: tuple[tuple[int, ...], Picture] | None = None
        """Classes of the newest mask, and how the panel names them."""
        self._size = (0, 0)
        """(H, W) of the newest mask."""
        self._classes: list[int] = []
        """That were in a mask so far, in the order in which they came."""

    def frame(
        self,
        label_map: LabelMap,
        overlay: Picture,
        at_s: float,
        seen: Mapping[str, Picture] | None = None,
    ) -> Picture:
        """(H + lines, W + panel, 3) RGB.

        Args:
            label_map: the mask, (H, W).
            overlay: as `draw.overlay` makes it; its first H rows are shown.
            at_s: seconds since the start.
            seen: modality -> what a sensor that is not used says now.
        """
        self._size = height, width = label_map.ids.shape
        scale = draw.scale_of(height)
        line = round(LINE * scale)
        names = label_map.streams(self._spec.modalities)
        lines = line * len(names)
        frame = np.full((height + lines, width + round(PANEL * width), 3), GROUND, np.uint8)
        frame[:height, :width] = overlay[:height]
        for place, name in enumerate(names):
            top = height + place * line
            self._say(frame[top : top + line], name, label_map, scale)
        panel = frame[:height, width:]
        self._past |= {name: (at_s, seen) for name, seen in label_map.bundle.frames.items()}
        below = self._show_doubted(panel, label_map, at_s, seen or {}, scale)
        self._name_classes(panel[round(30 * scale) : below], label_map.ids, scale)
        self._write_time(panel, at_s, scale)
        return frame

    def idle(self, frame: Picture, at_s: float, banner: str) -> Picture:
        """The last frame while there is no newer one: dimmed, below a banner, and time goes on."""
        dark = draw.idle(frame, banner)
        height, width = self._size
        scale, panel = draw.scale_of(height), dark[:, width:]
        panel[: round(28 * scale)] = 0
        self._write_time(panel, at_s, scale)
        return dark

    def _write_time(self, panel: Picture, at_s: float, scale: float) -> None:
        text = f"{at_s:.2f} s of {self._duration_s:.2f}"
        at = (round(8 * scale), round(20 * scale))
        draw.write(panel, text, at, 0.5 * scale, boxed=False)

    def _say(self, row: Picture, name: str, label_map: LabelMap, scale: float) -> None:
        """A chip, as in the overlay's strip, and the reason."""
        state = label_map.states.get(name, State.DISABLED)
        used, margin = name in label_map.used, max(2, round(3 * scale))
        chip = round(150 * scale)
        corner, opposite = (margin, margin), (chip, row.shape[0] - margin)
        thickness = cv2.FILLED if used else max(1, round(2 * scale))
        cv2.rectangle(row, corner, opposite, draw.STATE_COLORS[state], thickness)
        size, line = LETTERS * scale, row.shape[0] - round(9 * scale)
        shown = state.value if used or state is not State.LIVE else "not in this mask"
        draw.write(row, f"{name} {shown}", (3 * margin, line), size, boxed=False)
        reason = visible(sentence(label_map.reasons.get(name, ())))
        room = row.shape[1] - chip - 5 * margin
        draw.write(row, _fitting(reason, room, size), (chip + 3 * margin, line), size, boxed=False)

    def _show_doubted(
        self,
        panel: Picture,
        label_map: LabelMap,
        at_s: float,
        seen: Mapping[str, Picture],
        scale: float,
    ) -> int:
        """Pictures of sensors that are not LIVE, from below; returns where they begin."""
        height, width = panel.shape[:2]
        margin, line = round(6 * scale), round(18 * scale)
        tall = round((width - 2 * margin) * self._spec.size[0] / self._spec.size[1])
        top: int = height
        for name in label_map.streams(self._spec.modalities):
            state = label_map.states.get(name, State.DISABLED)
            if state.usable and state is not State.DEGRADED:
                continue
            picture, past_s = seen.get(name), at_s
            if picture is None and kind_of(name) in self._past:
                past_s, frame = self._past[kind_of(name)]
                picture = self._seen_by(frame)
            if picture is None or top - tall - line < height // 2:
                continue
            top -= tall + line
            fitted = cv2.resize(picture, (width - 2 * margin, tall), interpolation=cv2.INTER_AREA)
            text = name
            if past_s < at_s:
                fitted = cv2.convertScaleAbs(fitted, alpha=PAST)
                text = f"{name}, {at_s - past_s:.1f} s ago"
            panel[top + line : top + line + tall, margin:-margin] = fitted
            color = draw.STATE_COLORS[state]
            corners = (margin, top + line), (width - margin - 1, top + line + tall - 1)
            cv2.rectangle(panel, *corners, color, max(1, round(2 * scale)))
            at = (margin, top + line - round(5 * scale))
            draw.write(panel, text, at, SMALL * scale, boxed=False)
        return top

    def _seen_by(self, frame: Frame) -> Picture:
        """As `draw.seen_by`; what stands for long is drawn once."""
        drawn = self._drawn.get(frame.modality)
        if drawn is None or drawn[0] is not frame:
            drawn = self._drawn[frame.modality] = frame, draw.seen_by(frame, self._spec)
        return drawn[1]

    def _name_classes(self, panel: Picture, ids: NDArray[np.uint8], scale: float) -> None:
        """Squares of the classes' colors beside their names, as many as there is room for."""
        counts = cv2.calcHist([ids], [0], None, [IGNORE], [0, IGNORE])
        here = tuple(counts.ravel().nonzero()[0].tolist())
        if self._legend is None or self._legend[0] != here or len(self._legend[1]) != len(panel):
            self._draw_classes(panel, here, scale)
            self._legend = here, panel.copy()
        panel[:] = self._legend[1]

    def _draw_classes(self, panel: Picture, here: tuple[int, ...], scale: float) -> None:
        self._classes += [one for one in here if one not in self._classes]
        names, row = self._spec.classes, round(ROW * scale)
        rows = panel.shape[0] // row
        shown = list(range(len(names)))
        if len(shown) > COLUMNS * rows:
            shown = [one for one in self._classes if one < len(names)][: COLUMNS * rows]
        rows = min(rows, -(-len(shown) // COLUMNS))
        pitch, side = panel.shape[1] // COLUMNS, round(11 * scale)
        for place, one in enumerate(shown):
            left, top = place // rows * pitch + round(6 * scale), place % rows * row
            color = self._spec.palette[one] if one in here else _dimmed(self._spec.palette[one])
            corner, opposite = (left, top + 2), (left + side, top + 2 + side)
            cv2.rectangle(panel, corner, opposite, color, cv2.FILLED)
            name = _fitting(visible(names[one]), pitch - side - round(14 * scale), SMALL * scale)
            at = (left + side + round(5 * scale), top + side)
            white = (255, 255, 255) if one in here else FAINT
            draw.write(panel, name, at, SMALL * scale, boxed=False, color=white)


def _dimmed(color: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (round(0.45 * level) for level in color)
    return red, green, blue


def _fitting(text: str, room: int, size: float) -> str:
    """As much of a text as has room in so many pixels."""
    if draw.width_of(text, size) <= room:
        return text
    for end in range(len(text) - 1, 0, -1):
        if draw.width_of(cut := f"{text[:end].rstrip()}...", size) <= room:
            return cut
    return ""
