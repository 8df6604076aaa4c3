"""Pictures for people: the mask over what the robot saw, and a strip that says who saw it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.types import IGNORE, Bundle, Frame, LabelMap, ModelSpec, State

BLEND = 0.5
"""Share of the label color over the picture."""
STRIP = 28
"""Height of the strip below the picture, in pixels, per 480 rows of picture."""
UNTRAINED = "UNTRAINED: random weights, plumbing only"
FONT = cv2.FONT_HERSHEY_SIMPLEX
DIMMED = 0.35
"""Brightness of the last picture while there is no newer one."""

STATE_COLORS: dict[State, tuple[int, int, int]] = {
    State.LIVE: (46, 160, 67),
    State.DEGRADED: (210, 153, 34),
    State.RECOVERING: (56, 139, 253),
    State.WAITING: (110, 118, 129),
    State.DEAD: (218, 54, 51),
    State.DISABLED: (48, 54, 61),
}
"""RGB of each state; reports use the same."""


def state_color(state: State) -> tuple[float, float, float]:
    """As matplotlib wants it: each channel 0..1."""
    red, green, blue = STATE_COLORS[state]
    return red / 255, green / 255, blue / 255


@lru_cache(maxsize=8)
def lookup(palette: tuple[tuple[int, int, int], ...]) -> NDArray[np.uint8]:
    """(256, 3) RGB by class id; ids beyond the palette and `IGNORE` are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = 0
    return table


def colorize(ids: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of the class ids."""
    return np.take(lookup(spec.palette), ids, axis=0)  # a quarter of what [ids] takes


def background(bundle: Bundle, spec: ModelSpec) -> NDArray[np.uint8]:
    """(h, w, 3) RGB of the best surviving sensor, in the network's size: the camera, or another."""
    order = modalities.ranked(name for name in spec.modalities if name in bundle.frames)
    if not order:
        return np.zeros((*spec.size, 3), np.uint8)
    return seen_by(bundle.frames[order[0]], spec)


def seen_by(frame: Frame, spec: ModelSpec) -> NDArray[np.uint8]:
    """(h, w, 3) RGB of what the network saw of one sensor."""
    decoder = modalities.load(frame.modality)(encoding=spec.encodings.get(frame.modality))
    return decoder.picture(frame.array)


def blend(picture: NDArray[np.uint8], ids: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: the (H, W) mask over a picture of any size.

    A mask that was enlarged from the network's size has soft edges, no steps: colors are enlarged
    here, which may be mixed, where ids may not.
    """
    height, width = ids.shape
    seen = _enlarged(picture, ids.shape)
    coarse = ids
    if height > spec.size[0] and width > spec.size[1]:
        small = cv2.resize(ids, spec.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        coarse = small.astype(np.uint8, copy=False)
    colors = _enlarged(colorize(coarse, spec), ids.shape)
    labelled = coarse != IGNORE
    if not labelled.all():  # what is not is black in `colors`
        share = np.repeat(labelled[..., None] * np.uint8(255), 3, axis=2)
        left = _enlarged(share, ids.shape)
        taken = cv2.multiply(seen, left, scale=BLEND / 255)
        seen = cv2.subtract(seen, taken).astype(np.uint8, copy=False)
        mixed = np.asarray(cv2.addWeighted(seen, 1.0, colors, BLEND, 0.0), np.uint8)
    else:
        mixed = np.asarray(cv2.addWeighted(seen, 1 - BLEND, colors, BLEND, 0.0), np.uint8)
    if not spec.trained:
        scale = scale_of(height)
        write(mixed, UNTRAINED, (round(8 * scale), round(24 * scale)), 0.6 * scale)
    return mixed


def overlay(
    label_map: LabelMap, spec: ModelSpec, picture: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """(H', W, 3) RGB: the mask blended over the picture, above a strip with one chip per sensor.

    A filled chip was used for this mask; a hollow one was not. Its color is the sensor's state.

    Args:
        label_map: the mask.
        spec: the network's.
        picture: (h, w, 3) RGB; None: what the best surviving sensor saw.
    """
    below = background(label_map.bundle, spec) if picture is None else picture
    mixed = blend(below, label_map.ids, spec)
    height, width = label_map.ids.shape
    scale = scale_of(height)
    strip = np.full((round(STRIP * scale), width, 3), 22, np.uint8)
    _chips(strip, label_map, spec, scale)
    return np.vstack([mixed, strip])


def idle(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: a picture that is out of date, dimmed below a banner that says so."""
    dark = cv2.convertScaleAbs(picture, alpha=DIMMED).astype(np.uint8, copy=False)
    height, width = dark.shape[:2]
    scale = scale_of(height)
    at = (max(0, (width - width_of(text, scale)) // 2), height // 2)
    cv2.rectangle(
        dark,
        (0, at[1] - round(40 * scale)),
        (width, at[1] + round(24 * scale)),
        STATE_COLORS[State.DEAD],
        cv2.FILLED,
    )
    write(dark, text, at, scale, boxed=False)
    return dark


def scale_of(height: int) -> float:
    """Size of letters and strips in a picture so high, beside 480 rows."""
    return max(height / 480, 0.5)


def _chips(strip: NDArray[np.uint8], label_map: LabelMap, spec: ModelSpec, scale: float) -> None:
    height, width = strip.shape[:2]
    names = label_map.streams(spec.modalities)
    pitch = width // len(names)
    margin = max(2, round(3 * scale))
    for column, name in enumerate(names):
        state = label_map.states.get(name, State.DISABLED)
        corner = (column * pitch + margin, margin)
        opposite = ((column + 1) * pitch - margin, height - margin)
        thickness = cv2.FILLED if name in label_map.used else max(1, round(2 * scale))
        cv2.rectangle(strip, corner, opposite, STATE_COLORS[state], thickness)
        shown = state.value if name in label_map.used or state is not State.LIVE else "absent"
        at = (corner[0] + 2 * margin, height - 3 * margin)
        write(strip, f"{name} {shown}", at, 0.42 * scale, boxed=False)


def write(
    image: NDArray[np.uint8],
    text: str,
    at: tuple[int, int],
    size: float,
    *,
    boxed: bool = True,
    color: tuple[int, int, int] = (255, 255, 255),
) -> None:
    """Text at (x, y) of its left end, on the line; a dark box keeps it legible on any picture.

    Of a letter that OpenCV's font lacks (4 has ASCII only), a ? is shown.
    """
    weight = _weight(size)
    if boxed:
        (width, height), below = cv2.getTextSize(text, FONT, size, weight)
        pad = below // 2 + 1
        corner = (at[0] - pad, at[1] - height - pad)
        opposite = (at[0] + width + pad, at[1] + below + pad)
        cv2.rectangle(image, corner, opposite, (22, 22, 22), cv2.FILLED)
    cv2.putText(image, text, at, FONT, size, color, weight, cv2.LINE_AA)


def width_of(text: str, size: float) -> int:
    """Pixels that `write` needs for it."""
    return int(cv2.getTextSize(text, FONT, size, _weight(size))[0][0])


def _weight(size: float) -> int:
    return max(1, round(1.6 * size))


def _enlarged(picture: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W, 3), whatever size it had."""
    resized = cv2.resize(picture, size[1::-1], interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False)
