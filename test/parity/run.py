"""`make parity`: what the published code computes beside what we compute, in docs/specs/parity.md.

Prints the table, and writes it with `--write`. Exit code 1: a figure is not theirs.
Names of parts (modules of `test/support/parity/`) restrict it to them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import parity


def main(words: list[str]) -> int:
    wanted = [word for word in words if not word.startswith("-")]
    write = "--write" in words
    parts = parity.parts()
    if strange := [word for word in wanted if word not in parts]:
        print(f"no part called {strange[0]!r}; have {', '.join(parts)}", file=sys.stderr)
        return 2
    if write and wanted:
        print("--write writes the whole page; name no parts", file=sys.stderr)
        return 2
    sections, bad = [], []
    for name in wanted or parts:
        rows = list(parts[name].rows())
        bad += [row for row in rows if not row.good]
        sections.append(parity.section(parts[name], rows))
        print(sections[-1])
    for row in bad:
        print(f"not theirs: {' | '.join(row.cells())}", file=sys.stderr)
    if write:
        head = parity.PAGE.read_text().partition("\n## ")[0].rstrip()
        parity.PAGE.write_text("\n\n".join([head, *map(str.rstrip, sections)]) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
