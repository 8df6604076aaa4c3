"""All that a gate has learned, taken out of it at one moment and put into a fresh one.

Between two acts (`intake.Act`) the gate is a plain graph of objects: rates, stamps, streaks, means,
and the messages that wait for a set. `capture` copies that graph without asking what any of it
means, so no part can be forgotten; `restore` builds it again around a gate that was made of the
same configuration. What a constructor makes of the configuration (limits, locks, functions) is
*fixed*: it is not copied, and the fresh gate's own stays.

A file may come from anywhere: it can only name the classes listed here, no code of it runs, and
arrays are plain numbers.
"""

from __future__ import annotations

import gc
import json
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from robustseg_core.bag.event_array import deserialize, serialize
from robustseg_core.bag.sealed import Sealed
from robustseg_core.errors import RobustsegError
from robustseg_core.health.content import Statistic
from robustseg_core.intake import Intake, Journal, Observer
from robustseg_core.segmenter import Segmenter

Arrays = list[NDArray[Any]]

CLASSES = {
    "types": "Reading Frame Finding Health",
    "intake.intake": "Intake",
    "intake.calibration": "Calibration",
    "intake.clocks": "Clocks",
    "intake.drafts": "Draft Drafts",
    "intake.register": "Register",
    "sync.rate": "RateEstimator",
    "sync.buffer": "StreamBuffer",
    "sync.deadline": "Deadline",
    "sync.stamps": "StampGuard Stamped _Stream",
    "sync.offsets": "Offsets _Stream _Bin",
    "sync.synchronizer": "Synchronizer _Clock",
    "health.arrival": "ArrivalMonitor",
    "health.backlog": "Backlog Load _Bin",
    "health.bursts": "Bursts _Delivery",
    "health.content": "RunningMedian Statistic",
    "health.coverage": "Coverage",
    "health.stillness": "Stillness",
    "health.freeze": "FreezeDetector _Streak",
    "health.identity": "Identity",
    "health.monitor": "HealthMonitor _Stream",
    "evidence.crosscheck": "CrossCheck _Sensor Suspicion",
    "evidence.pair": "Level Pair Shift",
    "evidence.lags": "LagCurve",
    "evidence.links": "Ratio",
    "evidence.sight": "Sight",
    "geometry.camera": "Camera",
    "geometry.motion": "Motion",
    "geometry.transforms": "TransformTree Route Link Moment",
    "geometry.view": "View _Place _Found",
    "codecs.tf_message": "Edge",
    "codecs.points": "Cloud",
    "codecs.event_cloud": "EventCloudDecoder",
    "codecs.events._base": "Events Packet",
}
"""Module of the core -> what of it may stand in a snapshot, beside the plug-ins (`_OPEN`)."""
ENUMS = {"Fault": "types", "State": "types"}
_TRANSIENT: dict[type, tuple[str, ...]] = {
    Intake: ("_inbox", "_waiting", "_lock", "journal", "_observer", "_policy", "_decoded"),
}
"""What belongs to who drives a gate, and not to its state."""
_CONTAINERS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "set": set,
}
_PLAIN = frozenset({int, float, str, bool, type(None)})


_OPEN = re.compile(r"(modalities|codecs\.events)\.\w+")
"""Folders whose files are plug-ins: what a file there defines may stand in a snapshot."""


@cache
def _class(name: str) -> Any:
    """The class that a snapshot names; None: none that may stand there."""
    module, _, own = name.rpartition(".")
    if own not in CLASSES.get(module, "").split() and not _OPEN.fullmatch(module):
        return None
    try:
        home = import_module(f"robustseg_core.{module}")
    except ImportError:
        return None
    kind = getattr(home, own, None)
    return kind if isinstance(kind, type) and kind.__module__ == home.__name__ else None


@cache
def _named(kind: Any) -> str:
    return f"{kind.__module__.removeprefix('robustseg_core.')}.{kind.__name__}"


@cache
def _fields(kind: Any) -> tuple[str, ...] | None:
    """What an instance holds, by its class; None: each knows for itself."""
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    if issubclass(kind, tuple):
        return tuple(kind._fields)
    slots = tuple(getattr(kind, "__slots__", ()))
    return slots or None


@cache
def _frozen(kind: Any) -> bool:
    """Whether nobody changes what is in it: arrays there need no copy."""
    parameters = getattr(kind, "__dataclass_params__", None)
    named = issubclass(kind, tuple)
    view = kind.__module__ in ("robustseg_core.geometry.view", "robustseg_core.geometry.transforms")
    return named or view or bool(parameters is not None and parameters.frozen)


_FIXED = (BaseModel, Observer, Journal, type(threading.Lock()), type(threading.RLock()))


def _json(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


@contextmanager
def _unhurried() -> Iterator[None]:
    """No garbage is looked for: thousands of small objects are made here, and gone at the end.

    Else they would count as such that stay, and the collector would walk the whole process.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Snapshot:
    """A gate's state at one moment, in memory; cheap to take, and made bytes only when wanted."""

    def __init__(self, gate: Segmenter) -> None:
        self._arrays: Arrays = []
        self._nodes: list[list[Any]] = []
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []
        """What has been walked: no other object may take its address meanwhile."""
        self.shared: dict[int, int] = {}
        """Bytes of what is kept by reference, by address: others may keep it, too."""
        with _unhurried():
            root = self._walk(_roots(gate), shared=False)
            self._text = _json([root, self._nodes])
            del self._nodes, self._seen, self._alive

    @property
    def nbytes(self) -> int:
        """About how much memory it holds, with what is shared."""
        return sum(array.nbytes for array in self._arrays) + len(self._text)

    def to_bytes(self) -> bytes:
        """As `restore` takes it."""
        placed, start = [], 0
        for array in self._arrays:
            placed.append([array.dtype.str, list(array.shape), start])
            start += array.nbytes
        text = b"".join([b"[", self._text, b",", _json(placed), b"]"])
        parts = (np.ascontiguousarray(array).tobytes() for array in self._arrays)
        return b"".join([len(text).to_bytes(8, "little"), text, *parts])

    def _walk(self, value: Any, *, shared: bool) -> Any:
        """A plain value, or [number of its node]."""
        kind: Any = type(value)
        if kind in _PLAIN:
            return value
        known = self._seen.get(id(value))
        if known is not None:
            return [known]
        if isinstance(value, _FIXED) or (callable(value) and _class(_named(kind)) is None):
            return ["fixed"]
        place = len(self._nodes)
        node: list[Any] = []
        self._nodes.append(node)
        self._seen[id(value)] = place
        self._alive.append(value)
        node += self._node(value, kind, shared=shared)
        return [place]

    def _node(self, value: Any, kind: Any, *, shared: bool) -> list[Any]:
        if kind in (list, tuple, deque, set):
            items = sorted(value) if kind is set else value
            if not _PLAIN.issuperset(map(type, items)):
                items = [self._walk(item, shared=shared) for item in items]
            return [kind.__name__, getattr(value, "maxlen", None), list(items)]
        if isinstance(value, dict):
            pairs = [
                [self._walk(k, shared=shared), self._walk(v, shared=shared)]
                for k, v in list(value.items())
            ]
            return ["Counter" if kind is Counter else "dict", pairs]
        leaf = self._leaf(value, kind, shared=shared)
        return leaf or self._object(value, kind, shared=shared or _frozen(kind))

    def _leaf(self, value: Any, kind: Any, *, shared: bool) -> list[Any]:
        """Of what holds nothing else; empty: it does."""
        if isinstance(value, np.ndarray):
            if shared:
                self.shared[id(value)] = value.nbytes
            return ["array", self._keep(value if shared else value.copy())]
        if isinstance(value, np.generic):
            return ["scalar", self._keep(np.asarray(value))]
        if isinstance(value, Enum):
            return ["enum", kind.__name__, value.value]
        if isinstance(value, (bytes, bytearray, memoryview)):
            return ["bytes", self._keep(np.frombuffer(value, np.uint8))]
        if isinstance(value, Sealed):
            return ["sealed", value.msgtype, self._keep(np.frombuffer(value.raw, np.uint8))]
        if (msgtype := getattr(value, "__msgtype__", None)) is not None:
            raw = np.frombuffer(serialize(value, msgtype), np.uint8)
            return ["message", msgtype, self._keep(raw)]
        return []

    def _object(self, value: Any, kind: Any, *, shared: bool) -> list[Any]:
        name = _named(kind)
        if _class(name) is not kind:
            raise RobustsegError(f"a gate's state holds a {name}, which no snapshot knows")
        names = _names(value, kind)
        held = [self._walk(getattr(value, each), shared=shared) for each in names]
        if kind is Statistic and callable(value.text):
            held[names.index("text")] = value.text()
        return ["object", name, list(names), held]

    def _keep(self, array: NDArray[Any]) -> int:
        if array.dtype.kind not in "biufc":
            raise RobustsegError(f"a gate's state holds an array of {array.dtype}")
        self._arrays.append(array)
        return len(self._arrays) - 1


def _names(value: Any, kind: type) -> tuple[str, ...]:
    names = _fields(kind) or tuple(vars(value))
    left_out = _TRANSIENT.get(kind)
    return tuple(name for name in names if name not in left_out) if left_out else names


def _roots(gate: Segmenter) -> dict[str, Any]:
    """What of a gate has state; its network has none."""
    return {
        "intake": gate.intake,
        "crosscheck": gate.crosscheck,
        "encoded": gate._encoded,
    }


def restore(gate: Segmenter, raw: bytes | memoryview) -> None:
    """Put a state into a gate.

    Args:
        gate: fresh, of the configuration that the other one had then.
        raw: of `Snapshot.to_bytes`.

    Raises:
        RobustsegError: it is damaged, or of another version's gate.
    """
    try:
        roots = _Builder(memoryview(raw)).build(_roots(gate))
        gate._encoded = roots["encoded"]
    except RobustsegError:
        raise
    except Exception as error:  # whatever the bytes say: anything can come out
        raise RobustsegError(
            "the state at the beginning of the window cannot be used "
            f"({type(error).__name__}: {error}); the file is damaged"
        ) from None


class _Builder:
    """Makes objects of nodes, each once."""

    def __init__(self, raw: memoryview) -> None:
        length = int.from_bytes(raw[:8], "little")
        (self._root, self._nodes), self._arrays = json.loads(bytes(raw[8 : 8 + length]))
        self._data = raw[8 + length :]
        self._made: dict[int, Any] = {}

    def build(self, fresh: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self._value(self._root, fresh)
        return made

    def _value(self, value: Any, fresh: Any) -> Any:
        if not isinstance(value, list):
            return value
        (place,) = value
        if place == "fixed":
            if fresh is None:
                raise ValueError("it holds something that only a constructor makes")
            return fresh
        if place not in self._made:
            kind, *rest = self._nodes[place]
            self._made[place] = None  # until it is there; a circle through a tuple has none
            self._make(place, kind, rest, fresh)
        return self._made[place]

    def _make(self, place: int, kind: str, rest: list[Any], fresh: Any) -> None:
        if kind == "object":
            name, names, held = rest
            self._object(place, name, names, held, fresh)
        elif kind in ("dict", "Counter"):
            found: dict[Any, Any] = Counter() if kind == "Counter" else {}
            self._made[place] = found
            before = fresh if isinstance(fresh, Mapping) else {}
            for key, value in rest[0]:
                name = self._value(key, None)
                found[name] = self._value(value, before.get(name))
        elif kind in _CONTAINERS:
            maxlen, items = rest
            values = [self._value(item, None) for item in items]
            whole = deque(values, maxlen=maxlen) if kind == "deque" else _CONTAINERS[kind](values)
            self._made[place] = whole
        else:
            self._made[place] = self._leaf(kind, *rest)

    def _leaf(self, kind: str, first: Any, second: Any = None) -> Any:
        """What holds nothing else."""
        if kind == "array":
            return self._array(first).copy()
        if kind == "scalar":
            return self._array(first)[()]
        if kind == "bytes":
            return self._array(first).tobytes()
        if kind == "enum":
            return getattr(import_module(f"robustseg_core.{ENUMS[first]}"), first)(second)
        if kind == "sealed":
            return Sealed(self._array(second).tobytes(), first)
        if kind == "message":
            return deserialize(self._array(second).tobytes(), first)
        raise ValueError(f"there is nothing called {kind!r}")

    def _object(self, place: int, name: str, names: list[str], held: list[Any], fresh: Any) -> None:
        kind = _class(name)
        if kind is None:
            raise ValueError(f"{name} is no part of a gate")
        if issubclass(kind, tuple):
            self._made[place] = kind(*(self._value(value, None) for value in held))
            return
        parameters = getattr(kind, "__dataclass_params__", None)
        # What nobody changes may be shared by many: a new one is made.
        same = type(fresh) is kind and not (parameters is not None and parameters.frozen)
        target = fresh if same else object.__new__(kind)
        expected = set(_names(fresh, kind) if same else _fields(kind) or ())
        if not expected <= set(names) or (same and not all(hasattr(fresh, n) for n in names)):
            raise RobustsegError(
                f"{name} has other parts in this version of robustseg; use the one that wrote the "
                "file"
            )
        self._made[place] = target
        for one, value in zip(names, held, strict=True):
            if one.startswith("__"):
                raise ValueError(f"{one} is no part of a state")
            before = getattr(fresh, one, None) if same else None
            object.__setattr__(target, one, self._value(value, before))

    def _array(self, number: int) -> NDArray[Any]:
        form, shape, start = self._arrays[number]
        dtype = np.dtype(form)
        if dtype.kind not in "biufc":
            raise ValueError(f"an array of {form}")
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._data, dtype, count, start).reshape(shape)
