"""Whether a graph is being made of the network, so that nothing may depend on a tensor's values."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Whether the running call is recorded: by `torch.compile`, an export or a trace."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # PyTorch
    return tracing or torch.compiler.is_compiling()
