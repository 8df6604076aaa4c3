"""How the budget of unpacking is set from outside; worker processes and nodes inherit it."""

from __future__ import annotations

LIMIT = "ROBUSTSEG_UNPACK_LIMIT"
RATIO = "ROBUSTSEG_UNPACK_RATIO"
"""Environment variables."""
