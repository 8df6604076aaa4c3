"""What every release of rclpy has in these modules, though it does not export it to type checkers.

Newer releases define these names elsewhere, where older ones have no such module.
"""

from __future__ import annotations

from rclpy.clock import ClockType  # type: ignore[attr-defined]
from rclpy.logging import LoggingSeverity  # type: ignore[attr-defined]

__all__ = ["ClockType", "LoggingSeverity"]
