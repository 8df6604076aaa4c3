"""Why is there no output? One row per stream: what was found, whether it will do, and the fix.

A recording and a live robot are examined alike: a `Probe` watches the product's own `Segmenter`
and takes notes, `examine.diagnose` checks the notes, `report` holds what it found.
"""

from robustseg_core.doctor.examine import examine
from robustseg_core.doctor.report import Check, Report, Row, Status

__all__ = ["Check", "Report", "Row", "Status", "examine"]
