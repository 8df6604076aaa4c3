"""Graphs that count in less than float32: in halves, or in 8-bit integers calibrated on a drive.

What runs them says what that costs: `robustseg export` compares labels, mIoU and time.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, did_you_mean, not_installed, quiet

FP32, FP16, INT8 = "fp32", "fp16", "int8"
LEAST: Mapping[str, float] = {FP32: 0.999, FP16: 0.995, INT8: 0.9}
"""Precision -> share of the labels that must be those of PyTorch in float32."""

Inputs = Sequence[NDArray[np.float32]]
"""What a graph is given at once, in its order."""


def expect_known(precision: str) -> None:
    """Raises:
    RobustsegError: there is no such precision.
    """
    if precision not in LEAST:
        raise RobustsegError(f"precision is {precision!r}; {did_you_mean(precision, LEAST)}")


class Samples:
    """What graphs were given while a network ran: an observer of a `StagedEngine`.

    Args:
        most: kept of each graph; of more, every second one is let go, and so on.
    """

    def __init__(self, most: int = 64) -> None:
        self.inputs: dict[str, list[Inputs]] = {}
        self._most = most
        self._steps: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def __call__(self, graph: str, inputs: Inputs) -> None:
        """Keep a copy: spread evenly over all that come."""
        number = self._seen.get(graph, 0)
        self._seen[graph] = number + 1
        if number % self._steps.setdefault(graph, 1):
            return
        kept = self.inputs.setdefault(graph, [])
        kept.append([np.array(each) for each in inputs])
        if len(kept) > self._most:
            del kept[1::2]
            self._steps[graph] *= 2


def halved(graphs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Graphs whose weights are halves, half in size; what goes in and out stays float32.

    A runtime computes in halves where the processor has them, and in float32 elsewhere.

    Raises:
        RobustsegError: onnx or onnxruntime is not installed.
    """
    onnx = _import("onnx", FP16)
    convert: Callable[..., Any] = _import(
        "onnxruntime.transformers.float16", FP16
    ).convert_float_to_float16
    made = {}
    with _quietly():
        for name, graph in graphs.items():
            half = convert(onnx.load_from_string(graph), keep_io_types=True)
            made[name] = half.SerializeToString()
    return made


def quantized(
    graphs: Mapping[str, bytes], samples: Mapping[str, Sequence[Inputs]]
) -> dict[str, bytes]:
    """Graphs whose convolutions and products count in 8 bits, by the ranges that samples show.

    Weights are signed, of 7 bits, and scaled by channel (sums of two products would overflow 16
    bits on x86 without VNNI); activations are unsigned, of 8 bits (ONNX Runtime's static QDQ form,
    which OpenVINO reads, too). A graph that was given nothing stays as it is.

    Args:
        graphs: name -> ONNX, in float32.
        samples: name -> what it was given.

    Raises:
        RobustsegError: onnx or onnxruntime is not installed.
    """
    onnx = _import("onnx", INT8)
    tools = _import("onnxruntime.quantization", INT8)
    made = dict(graphs)
    with _quietly(), tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        for name, given in samples.items():
            before.write_bytes(graphs[name])
            names = [entry.name for entry in onnx.load_from_string(graphs[name]).graph.input]
            tools.quantize_static(
                before,
                after,
                _reader(tools.CalibrationDataReader, names, given),
                quant_format=tools.QuantFormat.QDQ,
                activation_type=tools.QuantType.QUInt8,
                weight_type=tools.QuantType.QInt8,
                op_types_to_quantize=["Conv", "MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
            )
            made[name] = after.read_bytes()
    return made


def _reader(base: type, names: Sequence[str], given: Sequence[Inputs]) -> Any:
    """What ONNX Runtime reads samples from."""

    class Reader(base):  # type: ignore[misc]  # it is known when it runs only
        def __init__(self) -> None:
            self._left: Iterable[Inputs] = iter(given)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            for inputs in self._left:
                return dict(zip(names, inputs, strict=True))
            return None

    return Reader()


def _import(module: str, precision: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise RobustsegError(f"precision={precision}: {not_installed(name)}") from None


@contextmanager
def _quietly() -> Any:
    """Without advice on how to prepare graphs, which these do not need."""
    with quiet(logging.ERROR, name=""), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
