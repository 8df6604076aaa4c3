"""The same message as rclpy would hand it over: through CDR, into the real rclpy class."""

from __future__ import annotations

import array
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from robustseg_core.bag.typestore import EVENT_PACKET, typestore


def rclpy_twin(message: Any) -> Any:
    """`message` (rosbags') as rclpy's; EventPacket, which PyPI lacks, as a look-alike.

    Skips the test where rclpy is not installed.
    """
    kind = message.__msgtype__
    if kind == EVENT_PACKET:
        fields = {name: getattr(message, name) for name in message.__dataclass_fields__}
        fields["events"] = array.array("B", bytes(message.events))
        return SimpleNamespace(**fields)
    package, _, name = kind.split("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rclpy's own dependencies use deprecated modules
        serialization = pytest.importorskip("rclpy.serialization")
        module = pytest.importorskip(f"{package}.msg")
        wire = bytes(typestore().serialize_cdr(message, kind))
        return serialization.deserialize_message(wire, getattr(module, name))


def both(message: Any) -> Iterator[Any]:
    """`message`, and its rclpy twin where there is rclpy."""
    yield message
    try:
        yield rclpy_twin(message)
    except pytest.skip.Exception:
        return
