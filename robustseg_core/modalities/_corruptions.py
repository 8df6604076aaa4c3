"""What faults look like once they are encoded: the twins of `faults` on (C, H, W) arrays.

`faults` breaks messages, which is slow and needs a recording; a corruption makes the same picture
out of a healthy one, for training. Each takes the array, the amount of the fault, the generator and
the modality's encoding, and returns a new array. A modality names those that it can have; faults
without a trace in one picture (silence, stamps, data of earlier, mirrored images) have none, and
what creeps in is trained as it is in the end (`loosening` as `misaligned`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Effect = Callable[[Array, float, np.random.Generator, Any], Array]


class Corruption(NamedTuple):
    """What training does to an encoded sensor now and then, as a fault of that name would look."""

    apply: Effect
    mild: float = 0.0
    """Amount at strength 0, in the unit of the fault's own option."""
    worst: float = 0.0
    """Amount at strength 1."""
    native: bool = False
    """Only for what our own modality encodes; not for the pictures that collections come with."""


FLOOR = 1 / 255
"""Smallest range and height of a return, so that 0 stays "no return here"."""
_RUN = 12
"""Neighboring pixels that flicker together, as in `faults.kinds.events`."""


def _on_levels(paint: Effect) -> Effect:
    """Let `paint` see gray levels 0..255, and normalize what it returns as before."""

    @wraps(paint)
    def corrupted(array: Array, amount: float, rng: np.random.Generator, encoding: Any) -> Array:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (encoding.mean, encoding.std))
        levels = paint((array * std + mean) * np.float32(255), amount, rng, encoding)
        return (np.clip(levels, 0, 255).astype(np.float32) / np.float32(255) - mean) / std

    return corrupted


def _blocks(shape: tuple[int, ...], side: int, field: Callable[[tuple[int, int]], Any]) -> Any:
    """(H, W) of which every square of `side` pixels has one value of `field`."""
    height, width = shape[-2:]
    coarse = field((-(-height // side), -(-width // side)))
    return coarse.repeat(side, 0).repeat(side, 1)[:height, :width]


def even(low: int) -> Effect:
    @_on_levels
    def corrupted(array: Array, amount: float, rng: np.random.Generator, encoding: Any) -> Array:
        return rng.integers(low, low + 3, array.shape).astype(np.float32)

    return corrupted


@_on_levels
def flat(array: Array, level: float, rng: np.random.Generator, encoding: Any) -> Array:
    return rng.integers(round(level), round(level) + 3, array.shape).astype(np.float32)


@_on_levels
def blurred(array: Array, sigma: float, rng: np.random.Generator, encoding: Any) -> Array:
    return np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in array])


@_on_levels
def covered(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """From any of the four edges, in any gray: the net must not learn where dirt lies."""
    edge, level = int(rng.integers(4)), rng.integers(256)
    turned = np.rot90(array, edge, axes=(1, 2))
    turned[:, :, : round(share * turned.shape[2])] = level
    return np.rot90(turned, -edge, axes=(1, 2))


@_on_levels
def salt_pepper(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    chance = rng.random(array.shape[1:])
    array[:, chance < share] = 255
    array[:, chance < share / 2] = 0
    return array


@_on_levels
def gaussian_noise(array: Array, sigma: float, rng: np.random.Generator, encoding: Any) -> Array:
    return array + rng.standard_normal(array.shape, np.float32) * np.float32(sigma)


@_on_levels
def noise_instead(array: Array, amount: float, rng: np.random.Generator, encoding: Any) -> Array:
    return rng.integers(0, 256, array.shape).astype(np.float32)


@_on_levels
def low_light(array: Array, factor: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Less light, and the noise of the sensor that darkness lets one see."""
    dim = array * np.float32(factor)
    noise = rng.standard_normal(array.shape, np.float32) * np.sqrt(dim / 8 + 1)
    dark: Array = np.rint(dim + noise)
    return dark


def holes(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    side = max(1, array.shape[2] // 40)  # 16 pixels of 640
    lost = _blocks(array.shape, side, lambda shape: rng.random(shape) < share)
    return np.where(lost, np.float32(0), array)


def depth_unit(array: Array, factor: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Metres a thousand times too far, or whole millimetres, all of them nearer than `near_m`."""
    if rng.random() < 0.5:
        return _of_depth(array[0] / np.float32(factor), array, encoding)
    return _of_depth((array[0] > 0).astype(np.float32), array, encoding)


def noise_depth(array: Array, amount: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Random 16-bit millimetres."""
    depth_m = rng.uniform(0.001, 65.535, array.shape[1:])
    near = np.minimum(encoding.near_m / depth_m, 1).astype(np.float32)
    return _of_depth(near, array, encoding)


def _of_depth(near: Array, array: Array, encoding: Any) -> Array:
    """`array` as it is when inverse depth is `near`: a ray's slope stays where it is known."""
    changed = np.repeat(near[None].astype(np.float32, copy=False), 3, axis=0)
    if encoding.slope:
        changed[2] = np.where(near > 0, array[2], np.float32(0))
    return changed


def nothing(array: Array, amount: float, rng: np.random.Generator, encoding: Any) -> Array:
    return np.zeros_like(array)


def sector(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """No returns in a band of columns; through a pinhole, a sector of the scan is one."""
    width = array.shape[2]
    lost = round(share * width)
    start = rng.integers(width - lost + 1)
    array = array.copy()
    array[:, :, start : start + lost] = 0
    return array


def rings(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """No returns in bands of rows: a dead laser draws a nearly level line."""
    band = max(encoding.grow, array.shape[1] // 64)
    bands = -(-array.shape[1] // band)
    dead = np.zeros(bands, bool)
    dead[rng.permutation(bands)[: max(1, round(share * bands))]] = True
    return np.where(dead.repeat(band)[: array.shape[1], None], np.float32(0), array)


def jitter(array: Array, metres: float, rng: np.random.Generator, encoding: Any) -> Array:
    """A return moves along its ray: its range changes, and its height in proportion."""
    array, valid = array.copy(), array[0] > 0
    range_m = array[0] * np.float32(encoding.max_range_m)
    moved_m = _blocks(array.shape, encoding.grow, lambda shape: rng.normal(0, metres, shape))
    scale = 1 + np.divide(moved_m, range_m, out=np.zeros_like(range_m), where=valid)
    lowest, span = encoding.lowest_m, encoding.highest_m - encoding.lowest_m
    height = (scale * (array[2] * span + lowest) - lowest) / span
    array[0] = np.where(valid, np.clip(array[0] * scale, FLOOR, 1), 0)
    array[2] = np.where(valid, np.clip(height, FLOOR, 1), 0)
    return array


def sparse_cloud(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    lost = _blocks(array.shape, encoding.grow, lambda shape: rng.random(shape) < share)
    return np.where(lost, np.float32(0), array)


def event_flood(array: Array, density: float, rng: np.random.Generator, encoding: Any) -> Array:
    """`density` more events per pixel, half of them ON, in runs of neighbors."""
    _, height, width = array.shape
    runs = rng.poisson(density / 2, (2, height, -(-width // _RUN) + 1)).repeat(_RUN, axis=2)
    start = rng.integers(_RUN)
    return _more_events(array, runs[:, :, start : start + width], rng, encoding)


def hot_pixels(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Pixels that fire a thousand times per second: ON is at its clip."""
    _, height, width = array.shape
    hot = rng.integers(0, height * width, max(1, round(share * height * width)))
    array = array.copy()
    if encoding.form == "voxel_grid":
        each = encoding.window_ms / encoding.bins / encoding.clip
        array.reshape(len(array), -1)[:, hot] = min(1.0, each)
    else:
        most = min(1.0, encoding.window_ms / encoding.clip)
        array[0].reshape(-1)[hot] = most if encoding.form == "histogram" else 1.0
    return array


def noise_events(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Random words: what can be read of them lies anywhere, and little falls into the window."""
    more = rng.random((2, *array.shape[1:])) < share / 2
    return _more_events(np.zeros_like(array), more, rng, encoding)


def _more_events(
    array: Array, counts: NDArray[Any], rng: np.random.Generator, encoding: Any
) -> Array:
    """With (2, H, W) more ON and OFF events at any time of the window, shown as `form` has it."""
    array = array.copy()
    if encoding.form == "voxel_grid":
        moment = rng.integers(0, len(array), counts.shape[1:])
        more = (counts[0].astype(np.float32) - counts[1]) / np.float32(encoding.clip)
        height, width = more.shape
        array[moment, np.arange(height)[:, None], np.arange(width)] += more
        return np.clip(array, -1, 1)
    if encoding.form == "time_surface":
        fresh = rng.random(counts.shape, np.float32)
        array[:2] = np.maximum(array[:2], np.where(counts > 0, fresh, 0))
        return array
    array[:2] += counts / np.float32(encoding.clip)
    array[:2] = np.minimum(array[:2], 1)
    return array


def speckled(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Elements at the lowest and highest value, as in the NM protocol (arXiv 2503.18445)."""
    chance = rng.random(array.shape)
    speckled = np.where(chance < share, array.max(), array)
    return np.where(chance < share / 2, array.min(), speckled).astype(np.float32)


def noisy(array: Array, sigma: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Noise in the units of the encoding, not clipped, as in the NM protocol."""
    return array + rng.standard_normal(array.shape, np.float32) * np.float32(sigma)


def pixel_drop(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Elements (pixel and channel) at 0, as in the RMM protocol (arXiv 2503.18445)."""
    return np.where(rng.random(array.shape) < share, np.float32(0), array)


def misaligned(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Shifted by up to `share` of the width, whatever comes in repeats the edge."""
    reach = max(1, round(share * array.shape[2]))
    down, right = 0, 0
    while down == right == 0:
        down, right = (int(n) for n in rng.integers(-reach, reach + 1, 2))
    rows = np.clip(np.arange(array.shape[1]) - down, 0, array.shape[1] - 1)
    columns = np.clip(np.arange(array.shape[2]) - right, 0, array.shape[2] - 1)
    return array.take(rows, axis=1).take(columns, axis=2)


def zoomed(array: Array, scale: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Larger about the middle, or smaller; of what is not a picture the edge stays empty."""
    factor = scale if rng.random() < 0.5 else 1 / scale
    _, height, width = array.shape
    rows, columns = (_middle(n) + (np.arange(n) - _middle(n)) / factor for n in (height, width))
    row, column = (np.rint(places).astype(int) for places in (rows, columns))
    shown: Array = array.take(row.clip(0, height - 1), axis=1)
    shown = shown.take(column.clip(0, width - 1), axis=2)
    if hasattr(encoding, "mean"):
        return shown
    inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))
    return np.where(inside, shown, np.float32(0))


def _middle(size: int) -> float:
    return (size - 1) / 2


@_on_levels
def swapped(array: Array, amount: float, rng: np.random.Generator, encoding: Any) -> Array:
    return array[::-1]


def _spots(share: float, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(H, W): spots of about a tenth of the width that cover this share."""
    height, width = shape[-2:]
    coarse = rng.standard_normal((1 + 10 * height // width, 11), np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth < np.quantile(smooth, share))


@_on_levels
def dirty(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Dark spots of one of the browns and grays that dirt has."""
    dirt = rng.uniform(20, 90) * np.array([1.0, 0.85, 0.7], np.float32)[:, None, None]
    return np.where(_spots(share, array.shape, rng), dirt.astype(np.float32), array)


def spotted(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Spots in which nothing was measured."""
    return np.where(_spots(share, array.shape, rng), np.float32(0), array)


@_on_levels
def veiled(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Dust before the lens, thicker here than there."""
    dust = np.array([188, 172, 146], np.float32)[:, None, None]
    thick = _spots(0.5, array.shape, rng).astype(np.float32) - np.float32(0.5)
    veil = np.float32(share) + np.float32(share * (1 - share)) * cv2.blur(thick, (9, 9))
    veiled: Array = array * (1 - veil) + dust * veil
    return veiled


@_on_levels
def dimmed(array: Array, lost: float, rng: np.random.Generator, encoding: Any) -> Array:
    """An exposure that has collapsed."""
    dim: Array = np.rint(array * np.float32(1 - lost))
    return dim


def faded(array: Array, lost: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Measurements that did not come back, and a second channel (intensity) that is weaker."""
    side = getattr(encoding, "grow", 1)
    gone = _blocks(array.shape, side, lambda shape: rng.random(shape) < lost)
    array = np.where(gone, np.float32(0), array)
    if hasattr(encoding, "max_range_m"):
        array[1] *= np.float32(1 - lost)
    return array


def dusty_scan(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Returns that came back right before the LiDAR, in the directions that they had."""
    array = array.copy()
    near_m = _blocks(array.shape, encoding.grow, lambda shape: rng.uniform(0.4, 6, shape))
    range_m = array[0] * np.float32(encoding.max_range_m)
    hit = _blocks(array.shape, encoding.grow, lambda shape: rng.random(shape) < share)
    hit &= near_m < range_m
    scale = np.divide(near_m, range_m, out=np.ones_like(near_m), where=hit).astype(np.float32)
    lowest, span = encoding.lowest_m, encoding.highest_m - encoding.lowest_m
    height = (scale * (array[2] * span + lowest) - lowest) / span
    array[0] = np.where(hit, np.clip(array[0] * scale, FLOOR, 1), array[0])
    array[2] = np.where(hit, np.clip(height, FLOOR, 1), array[2])
    return array


def dusty_depth(array: Array, share: float, rng: np.random.Generator, encoding: Any) -> Array:
    """Clouds of dust before what was seen; what was not seen stays so."""
    near_m = rng.uniform(0.4, 6, array.shape[1:])
    near = np.minimum(encoding.near_m / near_m, 1).astype(np.float32)
    hit = _spots(share, array.shape, rng) & (array[0] > 0) & (near > array[0])
    return _of_depth(np.where(hit, near, array[0]), array, encoding)


ANY = {
    "pixel_drop": Corruption(pixel_drop, 0.0, 0.8),
    "misaligned": Corruption(misaligned, 0.005, 0.03),
    "salt_pepper": Corruption(speckled, 0.01, 0.2),
}
"""Done to any modality, also to one that has no plug-in here; keys are the words of the fault
catalog, where it has one."""
