"""ONNX Runtime: the encoders, and what follows the fusion, on its CPU provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.engines._staged import Graph, StagedEngine
from robustseg_core.errors import RobustsegError, not_installed


class OnnxRuntimeEngine(StagedEngine):
    """As `StagedEngine`."""

    name: ClassVar = "onnxruntime"

    def prepare(self) -> None:
        """As `StagedEngine.prepare`."""
        try:
            import onnxruntime
        except ImportError:
            raise RobustsegError(f"engine=onnxruntime: {not_installed('onnxruntime')}") from None
        self._runtime: Any = onnxruntime

    def open(self, onnx: bytes, threads: int) -> Graph:
        """As `StagedEngine.open`."""
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = self._runtime.InferenceSession(
                onnx, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own kinds, which its stubs do not name
            text = str(error).strip().partition("\n")[0]
            raise RobustsegError(
                f"ONNX Runtime does not take this graph ({text}); export it again, or use "
                "engine=eager"
            ) from None
        return _Session(session)


class _Session:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [entry.name for entry in session.get_inputs()]

    def __call__(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """As `Graph`; each call has new outputs."""
        given = dict(zip(self._names, inputs, strict=True))
        return list(self._session.run(None, given))
