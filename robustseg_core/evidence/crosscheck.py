"""Does each sensor show what the others show, in the same place? If not: who is wrong, and how?

Every pair of sensors gives a surface of agreement over displacements (`links`), kept as a mean of
the last second. What may be wrong with a sensor is a hypothesis about all pairs that it belongs to:
turned, their surfaces peak elsewhere, and all in the same place; mirrored, they agree with its
mirror image; of elsewhere, they agree nowhere. Its gain is how much better it explains these pairs
than "all is well" does. A pair that is broken speaks against both of its sensors alike: it is the
pairs with third ones that tell them apart. Gains are added up over time (CUSUM: Page, Biometrika
1954), so that a moment's coincidence decides nothing. Limits: docs/specs/evidence.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from robustseg_core.evidence import lags, links
from robustseg_core.evidence.lags import Curve
from robustseg_core.evidence.links import ACROSS, DOWN, Ratio, Told
from robustseg_core.evidence.pair import (
    FACTOR,
    LEAN,
    SETTLED,
    USUAL_S,
    Pair,
    at_lags,
    weight_of_newest,
)
from robustseg_core.evidence.sight import Sight
from robustseg_core.types import ALARM, MS, SECOND, Fault, Finding, Frame

EVERY_NS = 180 * MS
"""A pair is compared no more often: that is what this costs."""
TOGETHER_NS = 60 * MS
"""Sights further apart show different moments."""
FORGOTTEN_NS = 3 * SECOND
"""A pair that was not seen together for so long has no say."""
LONGEST_NS = SECOND
"""No look counts for longer than this."""
LEAST_CELLS = 3.0
"""A smaller displacement is one of calibration, or of stamps."""
ALIKE_SHARE = 0.2
"""Weight of the newest resemblance in the mean of them."""
RESEMBLES = 3.0, 5.0
"""Standard deviations at which a sensor resembles itself not at all, and enough: two pictures of
noise reach 3.4."""
LEAST_AMOUNT = 0.4
"""Share of the usual strength of its outlines below which a sensor is not asked where it is."""
TIED = 0.8
"""Share of the greatest gain at which a rival explains as much."""
SLACK, MOST = 1.0, 6.0
"""Gain that is nothing, and gain that counts, of one look."""
SUSPECTED, PROVEN = 0.7, 2.5
"""Sums of gain times seconds."""
PEAK, FLIPPED = 5.5, 4.0
"""What a pair reaches by chance nowhere, and in the middle, in standard deviations; of many pairs
together, times the root of their number."""
LATER, MOST_LATE = 9.0, 3.0
"""Gain of a lag, for a square of the unit of agreement that it explains better than none, and how
much of it counts: when anything breaks, what was shown before agrees best, for a moment."""
AS_EVER = 0.9
"""Share of the usual agreement that is no loss."""
NAMED = 0.4
"""Share of the gain of "nothing in common" that a hypothesis which says more has to reach."""
LEAD = 0.5
"""Share of the sum of who is proven wrong that nobody else may reach: else, nobody knows which."""
CLEARED = 5.0
"""No sum grows beyond this, so that who is well again is believed soon."""
OPPOSITE, CONTRADICTS = -0.2, 12.0
"""Correlation of the picture's steps with the signs of events below which these are exchanged, the
gain for each unit of it."""
FEWER, QUIET = 0.45, 8.0
"""By how much the logarithm of what is told of a change may fall below its usual level, and the
gain for each unit beyond."""
LEAPT = 0.7, 1.5
"""Share of the factor between two that the road's distance of one of them leaps by, if it is his:
the road itself becomes nearer or farther by some percent."""
RANGES = 4
"""Looks before and after, of which the road's distance tells whose distances have leapt."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The worst that can be said of a sensor, and how much better that explains what is seen."""

    gain: float = 0.0
    fault: Fault = Fault.UNRELATED
    down: int = 0
    across: int = 0
    """Cells that what it shows is displaced, ..."""
    lean: int = 0
    """... and the left half more than the middle, downwards."""
    lag_ns: int = 0
    """By how much its stamps are later than what it shows."""
    factor: float = 1.0
    """Of its ranges, or of how much it tells."""

    @property
    def condemns(self) -> bool:
        """Whether what it shows is wrong, if this is true: who tells little tells the truth."""
        return self.fault is not Fault.DIM


def _recent() -> deque[tuple[int, float]]:
    return deque(maxlen=64)


def _past() -> deque[Sight]:
    return deque(maxlen=24)


@dataclass(slots=True)
class _Sensor:
    """One sensor: what it shows, and what has been held against it."""

    sight: Sight | None = None
    """What it shows, ..."""
    past: deque[Sight] = field(default_factory=_past)
    """... and before; the newest is the last one."""
    alike: float = 0.0
    """How much each of its sights resembles the one before, in standard deviations of chance."""
    usual_amount: float = 0.0
    looks: int = 0
    ranges: deque[tuple[int, float]] = field(default_factory=_recent)
    """(when, logarithm of the distance of the road), where it knows distances."""
    total: float = 0.0
    """Sum of gains against it, ..."""
    worst: Suspicion = Suspicion()
    """... what they were, ..."""
    proven: bool = False
    """... and whether they were enough."""

    def show(self, sight: Sight | None, set_ns: int) -> None:
        """The next sight."""
        before, self.sight = self.sight, sight
        if sight is None:
            return
        while self.past and abs(sight.stamp_ns - self.past[0].stamp_ns) > lags.REACH_NS:
            self.past.popleft()
        self.past.append(sight)
        if before is not None and sight.tells:
            alike = links.alike(before, sight)
            self.looks += 1
            self.alike += max(ALIKE_SHARE, 1 / self.looks) * (alike - self.alike)
        if (road_m := sight.road_m) is not None:
            self.ranges.append((set_ns, math.log(road_m)))

    def learn(self, passed_s: float) -> None:
        """This is how it is when all is well."""
        if self.sight is not None:
            share = weight_of_newest(passed_s, USUAL_S, self.looks)
            self.usual_amount += share * (self.sight.amount - self.usual_amount)

    @property
    def speaks(self) -> float:
        """In [0, 1]: whether it shows things at all: who does not even resemble himself shows
        noise, and who shows far less than usual, by night or standing still, is nowhere else.
        """
        if self.sight is None or self.sight.amount < LEAST_AMOUNT * self.usual_amount:
            return 0.0
        low, high = RESEMBLES
        return min(max((self.alike - low) / (high - low), 0.0), 1.0)

    def leapt(self, at_ns: int) -> float | None:
        """Logarithm of the road's distance since then over that before; None: not known yet."""
        before = [value for when_ns, value in self.ranges if when_ns < at_ns][-RANGES:]
        after = [value for when_ns, value in self.ranges if when_ns >= at_ns]
        if len(after) < RANGES:
            return None
        return float(np.median(after) - np.median(before)) if len(before) >= RANGES else 0.0


def _together(one: _Sensor, other: _Sensor) -> tuple[Sight, Sight] | None:
    """The newest sight of either, and what the other showed at its moment; None: nothing.

    A set has the newest of each: of a LiDAR whose stamp is the start of its turn, what a camera saw
    long before.
    """
    if one.sight is None or other.sight is None:
        return None
    pairs = [(one.sight, sight) for sight in other.past]
    pairs += [(sight, other.sight) for sight in one.past]
    closest = min(pairs, key=_apart, default=None)  # past is empty where stamps went back
    return closest if closest is not None and _apart(closest) <= TOGETHER_NS else None


def _apart(pair: tuple[Sight, Sight]) -> int:
    return abs(pair[0].stamp_ns - pair[1].stamp_ns)


def _late(name: str, curves: Mapping[tuple[str, str], Curve]) -> Suspicion:
    """That a sensor's stamps are wrong: its pairs agree best at one lag."""
    explained = np.zeros(len(lags.LAGS_NS))
    for key, curve in curves.items():
        explained += curve if name == key[1] else curve[::-1]
    gain, lag_ns = lags.best(explained)
    return Suspicion(LATER * gain, Fault.OFFSET, lag_ns=lag_ns)


def _gain(suspicion: Suspicion) -> float:
    return suspicion.gain


class CrossCheck:
    """Compares what sensors show, look by look; a pure function of what it was shown.

    Args:
        names: the sensors.
        sight: what of a frame can be compared; None: nothing.
    """

    def __init__(self, names: Sequence[str], sight: Callable[[Frame], Sight | None]) -> None:
        self._names = tuple(names)
        self._sight = sight
        self._sensors = {name: _Sensor() for name in names}
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._doubted: set[str] = set()
        self._looked_ns: int | None = None
        self._cell_deg = 0.0

    def reset(self) -> None:
        """Forget everything: another recording, another place, another calibration."""
        self._pairs.clear()
        self._looked_ns = None
        self._sensors = {name: _Sensor() for name in self._names}

    def warm_up(self) -> None:
        """Compile what compares distances, where there are two sensors to be compared."""
        if len(self._names) > 1:
            links.compile_distances()

    def look(self, frames: Mapping[str, Frame], stamp_ns: int, cell_deg: float) -> None:
        """Compare the frames of a set.

        Args:
            frames: modality -> its frame, of a sensor that is proven wrong, too.
            stamp_ns: of the set.
            cell_deg: degrees across a cell in the middle of the view; 0: nobody knows.
        """
        self._cell_deg = cell_deg
        self._doubted = {n for n, frame in frames.items() if frame.quality < ALARM}
        if self._looked_ns is not None and stamp_ns < self._looked_ns:
            self.reset()
        new = [name for name, frame in frames.items() if self._show(frame, stamp_ns)]
        seen = False
        for a, b in combinations([name for name in self._names if name in frames], 2):
            known = self._pairs.get((a, b))
            if known is not None and stamp_ns - known.seen_ns < EVERY_NS:
                continue
            seen |= self._compare((a, b), stamp_ns)
        for (a, b), pair in self._pairs.items():
            past = self._sensors[a].past, self._sensors[b].past
            pair.lags.see(at_lags(*past, (a in new, b in new), pair.chance), stamp_ns)
        if not seen:
            return
        for key in [k for k, p in self._pairs.items() if stamp_ns - p.lags.seen_ns > FORGOTTEN_NS]:
            del self._pairs[key]
        passed_ns = 0 if self._looked_ns is None else stamp_ns - self._looked_ns
        self._looked_ns = stamp_ns
        self._weigh(min(passed_ns, LONGEST_NS) / SECOND)

    @property
    def findings(self) -> dict[str, Finding]:
        """What is held against each sensor; fatal where it is proven, absent where nothing is."""
        return {
            name: self._told(name, sensor)
            for name, sensor in self._sensors.items()
            if sensor.proven or sensor.total >= SUSPECTED
        }

    def _show(self, frame: Frame, stamp_ns: int) -> bool:
        """Whether it is a new sight."""
        sensor = self._sensors[frame.modality]
        if sensor.sight is not None and sensor.sight.stamp_ns == frame.stamp_ns:
            return False
        sensor.show(self._sight(frame), stamp_ns)
        return sensor.sight is not None

    def _compare(self, key: tuple[str, str], stamp_ns: int) -> bool:
        """Whether the two could be compared."""
        together = _together(*(self._sensors[name] for name in key))
        if together is None:
            return False
        one, other = together
        ratio: Ratio | None = None
        if one.range_m is not None and other.range_m is not None:
            both = links.distances(one, other)
            agreement, ratio = both if both is not None else (None, None)
        else:
            agreement = links.outlines(one, other)
        if agreement is None:
            return False
        known = self._pairs.get(key)
        if known is None:
            known = self._pairs[key] = Pair(*agreement, stamp_ns)
        known.see(agreement, ratio, self._told_of_change(key), stamp_ns)
        return True

    def _told_of_change(self, key: tuple[str, str]) -> Told | None:
        """Of a sensor that sees light and one that sees it change; None: they are not these."""
        for light, change in (key, key[::-1]):
            past, told = self._sensors[light].past, self._sensors[change].sight
            if len(past) > 1 and told is not None and told.brighter is not None:
                return links.told_of_change(past[-2], past[-1], told)
        return None

    def _weigh(self, passed_s: float) -> None:
        """Add up what speaks against each sensor, and see who is wrong."""
        cubes: dict[tuple[str, str], NDArray[np.float32]] = {}  # made when they are needed
        curves = {key: self._at_each_lag(key) for key in self._pairs}
        suspicions = {name: self._suspect(name, cubes, curves) for name in self._names}
        gains = {name: suspicion.gain for name, suspicion in suspicions.items()}
        top = max(gains, key=gains.__getitem__)
        for name in self._names:
            if name != top and gains[name] < TIED * gains[top]:  # what of it the first leaves over
                suspicions[name] = self._suspect(name, cubes, curves, without=top)
            self._hold(self._sensors[name], suspicions[name], passed_s)
        ranked = sorted((sensor.total for sensor in self._sensors.values()), reverse=True)
        for sensor in self._sensors.values():
            second = ranked[1] if sensor.total == ranked[0] and len(ranked) > 1 else ranked[0]
            if sensor.total >= PROVEN and second <= LEAD * sensor.total:
                sensor.proven = sensor.worst.condemns
            elif sensor.total < SUSPECTED:
                sensor.proven = False
        well = {n for n in self._names if gains[n] < SLACK and not self._sensors[n].total}
        for name in well:
            self._sensors[name].learn(passed_s)
        for key, pair in self._pairs.items():
            if well.issuperset(key):
                pair.learn(passed_s)

    def _hold(self, sensor: _Sensor, suspicion: Suspicion, passed_s: float) -> None:
        """Hold a suspicion against a sensor, or what is not suspected to its credit."""
        most = MOST_LATE if suspicion.fault is Fault.OFFSET else MOST
        step = min(suspicion.gain, most) - SLACK
        if step > 0 and suspicion.gain >= 0.5 * sensor.worst.gain:
            sensor.worst = suspicion
        sensor.total = min(max(sensor.total + step * passed_s, 0.0), CLEARED)
        if sensor.total == 0:
            sensor.worst = Suspicion()

    def _suspect(
        self,
        name: str,
        cubes: dict[tuple[str, str], NDArray[np.float32]],
        curves: Mapping[tuple[str, str], Curve],
        without: str = "",
    ) -> Suspicion:
        """The best hypothesis against a sensor, by all its pairs, or all but one."""
        pairs: list[tuple[str, str]] = []
        here = usual = mirrored = unrelated = 0.0
        scaled = exchanged = fainter = Suspicion()
        known = [
            key
            for key in self._pairs
            if name in key and without not in key and self._hears(name, key)
        ]
        late = _late(name, {key: curves[key] for key in known})
        for key in known:
            pair = self._pairs[key]
            if (self._looked_ns or 0) - pair.seen_ns > FORGOTTEN_NS:
                continue  # of other moments, by their stamps: nothing is said of the place
            if (found := self._scaled(name, key, pair)) is not None:
                scaled = found
                continue  # where nothing is at the same distance, nothing is said of the place
            if pair.looks >= SETTLED and pair.signs < OPPOSITE and self._tells_change(name):
                exchanged = Suspicion(-CONTRADICTS * pair.signs, Fault.POLARITY)
            if (quieter := pair.quieter) > FEWER and self._shows_less(name):
                other = key[key.index(name) - 1]
                gain = QUIET * (quieter - FEWER) * self._sensors[other].speaks
                fainter = Suspicion(gain, Fault.DIM, factor=math.exp(-quieter))
            pairs.append(key)
            here += pair.here
            usual += pair.usual
            mirrored += float(pair.mirrored.max())
            if pair.looks >= SETTLED:
                unrelated += pair.lost * self._speak(key)
        if not pairs or here > AS_EVER * usual > 0:
            return max(exchanged, scaled, fainter, late, Suspicion(unrelated), key=_gain)
        # A peak that chance may give says nothing.
        beyond = math.sqrt(len(pairs))
        flipped = mirrored - here if mirrored > FLIPPED * beyond else 0.0
        turned = self._turned(name, pairs, cubes, here, PEAK * beyond)
        flip = Suspicion(flipped, Fault.MIRRORED)
        named = max(turned, flip, exchanged, scaled, fainter, late, key=_gain)
        if named.gain > SLACK and named.gain >= NAMED * unrelated:
            return replace(named, gain=max(named.gain, unrelated))
        return Suspicion(unrelated)

    def _hears(self, name: str, key: tuple[str, str]) -> bool:
        """Whether a pair speaks against it: who is in doubt by itself is no witness."""
        peer = key[key.index(name) - 1]
        return peer not in self._doubted or name in self._doubted

    def _tells_change(self, name: str) -> bool:
        sight = self._sensors[name].sight
        return sight is not None and sight.brighter is not None

    def _shows_less(self, name: str) -> bool:
        """Whether it tells of changes, and of fewer than usual."""
        sensor = self._sensors[name]
        sight = sensor.sight
        return (
            sight is not None and sight.brighter is not None and sight.amount < sensor.usual_amount
        )

    def _speak(self, key: tuple[str, str]) -> float:
        """In [0, 1]: whether what the two say of each other counts: outlines may be noise, unless
        both show things at all; distances are none.
        """
        if self._pairs[key].ratio is not None:
            return 1.0
        return min(self._sensors[name].speaks for name in key)

    def _at_each_lag(self, key: tuple[str, str]) -> Curve:
        """How well each lag explains what two sensors showed; 0 where they say nothing of it."""
        pair = self._pairs[key]
        if pair.looks < SETTLED or pair.odd_ns is not None:
            return np.zeros(len(lags.LAGS_NS))
        return pair.lags.explained * self._speak(key)

    def _turned(
        self,
        name: str,
        pairs: Iterable[tuple[str, str]],
        cubes: dict[tuple[str, str], NDArray[np.float32]],
        here: float,
        least: float,
    ) -> Suspicion:
        """That what a sensor shows is displaced: where its pairs peak together."""
        moved = np.zeros((2 * LEAN + 1, 2 * DOWN + 1, 2 * ACROSS + 1), np.float32)
        for key in pairs:
            if key not in cubes:
                cubes[key] = self._pairs[key].displaced
            # The one of a pair is displaced as the other is the other way.
            moved += cubes[key] if name == key[1] else cubes[key][::-1, ::-1, ::-1]
        lean, down, across = (int(n) for n in np.unravel_index(moved.argmax(), moved.shape))
        lean, down, across = lean - LEAN, down - DOWN, across - ACROSS
        peak = float(moved.max())
        if peak < least or math.hypot(lean, down, across) < LEAST_CELLS:
            return Suspicion()
        return Suspicion(peak - here, Fault.MISALIGNED, down, across, lean)

    def _scaled(self, name: str, key: tuple[str, str], pair: Pair) -> Suspicion | None:
        """That the ranges of this sensor are those of the other, times something; None: no."""
        if pair.odd_ns is None or pair.ratio is None:
            return None
        if pair.leaps is None:
            a, b = (self._sensors[n].leapt(pair.odd_ns) for n in key)
            if a is None or b is None:
                return Suspicion()
            pair.leaps = a, b
        if (factor := pair.factor) == 1:
            return None
        # Who of the two has changed: its distances leapt by most of what lies between.
        share = pair.leaps[0] / -math.log(factor), pair.leaps[1] / math.log(factor)
        low, high = LEAPT
        leapt = [n for n, part in zip(key, share, strict=True) if low < part < high]
        if len(leapt) == 1 and leapt[0] != name:
            return Suspicion()
        gain = SLACK + (3.0 if leapt == [name] else 1.0)
        return Suspicion(gain, Fault.RANGE_SCALE, factor=factor if name == key[1] else 1 / factor)

    def _told(self, name: str, case: _Sensor) -> Finding:
        """A finding, for people and for diagnostics."""
        worst = case.worst
        candidates = [
            other
            for other, that in self._sensors.items()
            if other != name and not case.proven and that.total >= LEAD * case.total
        ]
        peers = [n for key in self._pairs if name in key for n in key if n != name]
        text, value, unit = self._account(name, worst, peers)
        if candidates:
            text += f"; undecided whether it is {name} or {' or '.join(candidates)}"
        doubt = 1 - case.total / PROVEN / (1 + len(candidates))
        return Finding(
            worst.fault,
            fatal=case.proven,
            text=text,
            score=0.0 if case.proven else max(0.1 if worst.condemns else worst.factor, doubt),
            value=value,
            unit=unit,
        )

    def _account(
        self, name: str, worst: Suspicion, peers: Iterable[str]
    ) -> tuple[str, float | None, str]:
        who = " and ".join(sorted(set(peers), key=self._names.index))
        if worst.fault is Fault.MIRRORED:
            return f"shows left and right exchanged, beside {who}", None, ""
        if worst.fault is Fault.RANGE_SCALE:
            what = "unit" if abs(math.log(worst.factor)) >= FACTOR else "calibration"
            text = f"its ranges are {worst.factor:.2f} times those of {who}; is the {what} right?"
            return text, worst.factor, ""
        if worst.fault is Fault.POLARITY:
            text = f"says brighter where {who} grows darker; are ON and OFF exchanged?"
            return text, None, ""
        if worst.fault is Fault.DIM:
            text = f"says {worst.factor:.2f} times as much as usual of what {who} see change"
            return text, worst.factor, ""
        if worst.fault is Fault.UNRELATED:
            return f"shows nothing of what {who} show: another place, or another time", None, ""
        if worst.fault is Fault.OFFSET:
            lag_ms = worst.lag_ns / MS
            side = "earlier" if lag_ms > 0 else "later"
            text = f"shows what {who} show {abs(lag_ms):.0f} ms {side}; are its stamps right?"
            return text, lag_ms, "ms"
        cells = math.hypot(worst.down, worst.across)
        turned = [
            f"{abs(n) * (self._cell_deg or 1):.1f} to the {side}"
            for n, side in (
                (worst.across, "right" if worst.across > 0 else "left"),
                (worst.down, "bottom" if worst.down > 0 else "top"),
            )
            if n
        ]
        if worst.lean:
            turned.append("leaning")
        unit = "deg" if self._cell_deg else "cells"
        value = max(cells, abs(worst.lean)) * (self._cell_deg or 1)
        word = "degrees" if self._cell_deg else "cells of 128 across the view"
        text = (
            f"lies {' and '.join(turned)} ({word}) of where {who} have it; was its mount knocked?"
        )
        return text, value, unit
