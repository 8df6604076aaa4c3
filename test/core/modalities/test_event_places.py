"""Where on the sensor events come from: a part that is blind, a row that rattles, places that mean
nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robustseg_core.codecs.events.evt3 import encode_evt3
from robustseg_core.modalities.event import Event
from robustseg_core.types import MS, Fault
from support import makers

Places = tuple[np.ndarray, np.ndarray]
WIDE, HIGH, COUNT, PACKET_MS = 640, 480, 1200, 25


def edges(rng: np.random.Generator, number: int) -> Places:
    """Events of a dozen posts that pass by, and a little noise."""
    post = rng.integers(0, 12, COUNT)
    x = (53 * post + 2 * number + rng.integers(0, 3, COUNT)) % WIDE
    y = rng.integers(0, HIGH, COUNT) * (post + 4) // 16
    noise = rng.random(COUNT) < 0.1
    x = np.where(noise, rng.integers(0, WIDE, COUNT), x)
    y = np.where(noise, rng.integers(0, HIGH, COUNT), y)
    return x, y


def said(injure: Callable[[np.random.Generator, Places], Places], well_s: float = 4) -> set[Fault]:
    """What is said within two seconds of it; nothing before."""
    rng, camera, found = np.random.default_rng(0), Event(), set()
    for number in range(round((well_s + 2) * 1000 / PACKET_MS)):
        x, y = edges(rng, number)
        broken = number * PACKET_MS >= well_s * 1000
        if broken:
            x, y = injure(rng, (x, y))
        t_us = np.sort(rng.integers(0, PACKET_MS * 1000, len(x))) + number * PACKET_MS * 1000
        words = encode_evt3(x, y, rng.random(len(x)) < 0.5, t_us)
        message = makers.events(words, number * PACKET_MS * MS, seq=number)
        findings = camera.check(camera.decode(message, number * PACKET_MS * MS))
        news = {finding.fault for finding in findings if finding.alarm}
        assert broken or not news
        found |= news
    return found


def half(rng: np.random.Generator, places: Places) -> Places:
    x, y = places
    kept = x >= WIDE // 2
    return x[kept], y[kept]


def scattered(rng: np.random.Generator, places: Places) -> Places:
    return rng.integers(0, WIDE, COUNT), rng.integers(0, HIGH, COUNT)


def a_row(rng: np.random.Generator, places: Places) -> Places:
    x, y = places
    return x, np.where(rng.random(COUNT) < 0.5, 17, y)


@pytest.mark.parametrize(
    ("injure", "fault"),
    [(half, Fault.COVERED), (scattered, Fault.NOISY), (a_row, Fault.HOT_PIXELS)],
)
def test_places_that_are_wrong_are_named(injure, fault) -> None:
    assert said(injure) == {fault}


def test_other_things_in_other_places_are_no_fault() -> None:
    def turned(rng: np.random.Generator, places: Places) -> Places:
        x, y = places
        return (x + 200) % WIDE, HIGH - 1 - y

    assert not said(turned)


def test_a_sensor_that_never_saw_more_is_as_ever() -> None:
    """A window of the housing, noise in the dark: usual, and so no fault."""
    assert not said(half, well_s=0)
    assert not said(scattered, well_s=0)
