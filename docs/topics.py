"""Write the rows of the README's table that are output topics, as the code has them.

    python docs/topics.py

A topic is one entry of `robustseg_core/output/topics.py`; this is the command behind its row.
"""

from __future__ import annotations

import sys
from pathlib import Path

from robustseg_core.output import topics

README = Path(__file__).resolve().parents[1] / "README.md"
OUT = "| out |"
"""How a row begins that says an output topic."""


def rewritten(text: str) -> str:
    """The page with the present rows in the place of the first old one."""
    lines = text.split("\n")
    first = next(number for number, line in enumerate(lines) if line.startswith(OUT))
    rest = [line for line in lines[first:] if not line.startswith(OUT)]
    return "\n".join([*lines[:first], *topics.table(), *rest])


def main() -> int:
    """Say what was written; the exit code."""
    text = README.read_text()
    if (new := rewritten(text)) == text:
        print(f"{README.name} is up to date")
    else:
        README.write_text(new)
        print(f"{README.name}: {len(topics.table())} output topics written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
