"""What a film shows, and when: read by OpenCV's FFmpeg, which has no part in writing it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def moments(path: Path) -> list[tuple[float, np.ndarray]]:
    """(seconds, (H, W, 3) BGR) of every frame."""
    film = cv2.VideoCapture(str(path))
    found = []
    while (read := film.read())[0]:
        found.append((film.get(cv2.CAP_PROP_POS_MSEC) / 1000, read[1]))
    film.release()
    return found


def lasts_s(path: Path) -> float:
    """How long a player says that it is; to the rounding of half a frame."""
    film = cv2.VideoCapture(str(path))
    count, rate_hz = film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)
    film.release()
    return count / rate_hz


def frames(path: Path, rate_hz: float = 30.0) -> list[np.ndarray]:
    """What is seen at each tick of a rate, to the end."""
    shown, found = moments(path), []
    ticks = round(lasts_s(path) * rate_hz)
    place = 0
    for tick in range(ticks):
        while place + 1 < len(shown) and shown[place + 1][0] <= tick / rate_hz + 1e-6:
            place += 1
        found.append(shown[place][1])
    return found
