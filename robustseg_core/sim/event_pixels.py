"""What one step of light makes the pixels of an event camera say: compiled loops over pixels.

Between two samples the log light is a straight line, so every crossing has a time of its own. State
is per pixel: what it remembers (`memory`, ln light) and until when it is blind (`awake_us`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustseg_core.codecs.fields import Compiled


@Compiled
def most_events(
    log0: NDArray[np.float32],
    log1: NDArray[np.float32],
    light: NDArray[np.float32],
    mean: float,
    leak: float,
    memory: NDArray[np.float64],
    on: NDArray[np.float64],
    off: NDArray[np.float64],
) -> int:
    """How many events `fire` can make at most, noise aside."""
    n = 0
    for i in range(log1.size):
        end = log1[i] + leak * on[i] * light[i] / (light[i] + mean + 1e-30)
        low = min(on[i], off[i])
        # A pixel that wakes during the step starts from anywhere between log0 and the end.
        change = max(abs(end - memory[i]), abs(end - log0[i]))
        if change >= low:
            n += int(change / low) + 1
    return n


@Compiled
def fire_noise(
    awake_us: NDArray[np.float64],
    blind_us: float,
    noise_pixel: NDArray[np.int64],
    noise_t: NDArray[np.float64],
    noise_on: NDArray[np.bool_],
    pixel: NDArray[np.int64],
    t: NDArray[np.int64],
) -> int:
    """Fill `pixel` (2 * index + ON) and `t` with shot noise; return how many.

    `noise_*` are candidates, in order of time: pixels that are blind then say nothing.
    """
    n = 0
    for k in range(noise_pixel.size):
        i = noise_pixel[k]
        if awake_us[i] <= noise_t[k]:
            pixel[n], t[n] = 2 * i + noise_on[k], int(noise_t[k])
            n += 1
            awake_us[i] = noise_t[k] + blind_us
    return n


@Compiled
def fire(
    n: int,
    log0: NDArray[np.float32],
    log1: NDArray[np.float32],
    light: NDArray[np.float32],
    mean: float,
    leak: float,
    memory: NDArray[np.float64],
    on: NDArray[np.float64],
    off: NDArray[np.float64],
    awake_us: NDArray[np.float64],
    t0: float,
    t1: float,
    blind_us: float,
    pixel: NDArray[np.int64],
    t: NDArray[np.int64],
) -> int:
    """Fill `pixel` (2 * index + ON) and `t` from row `n` on, and return how many rows are full.

    It carries the state from `t0` to `t1`. `leak` is the share of an ON threshold that a very
    bright pixel's memory loses in this step (half of it at mean light).
    """
    for i in range(log1.size):
        start = log0[i] * 1.0
        # A memory that leaks towards the dark is the same as light that grows, within a step.
        drift = leak * on[i] * light[i] / (light[i] + mean + 1e-30)
        end = log1[i] + drift
        slope = (end - start) / (t1 - t0)
        if awake_us[i] >= t0:
            if awake_us[i] >= t1:
                continue
            memory[i] = start + slope * (awake_us[i] - t0)
        while True:
            if end - memory[i] >= on[i]:
                level, polarity = memory[i] + on[i], 1
            elif memory[i] - end >= off[i]:
                level, polarity = memory[i] - off[i], 0
            else:
                memory[i] -= drift
                break
            since = (level - start) / slope if slope != 0 else 0.0
            when = min(max(t0 + since, t0, awake_us[i]), t1)
            pixel[n], t[n] = 2 * i + polarity, int(when)
            n += 1
            awake_us[i] = when + blind_us
            if blind_us == 0:
                memory[i] = level
            elif awake_us[i] < t1:
                memory[i] = start + slope * (awake_us[i] - t0)
            else:
                break  # it memorizes the light at which it wakes, in a later step
    return n
