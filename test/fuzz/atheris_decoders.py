"""Coverage-guided fuzzing of one decoder: atheris learns which bytes lead to new lines.

    NUMBA_DISABLE_JIT=1 python test/fuzz/atheris_decoders.py events -max_total_time=180

Needs `pip install atheris`. Compiled loops show no coverage, hence NUMBA_DISABLE_JIT: it also makes
NumPy check every index. What follows the decoder's name goes to libFuzzer. Exit code 0: nothing was
found; otherwise the input lies in the current folder as crash-*.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # before numba is imported

import atheris

with atheris.instrument_imports(include=["robustseg_core", "rosbags"]):
    from fuzz.targets import TARGETS, call, corpus


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: {sys.argv[0]} {{{','.join(TARGETS)}}} [libFuzzer options]")
    name = sys.argv.pop(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory(prefix="robustseg-corpus-") as folder:
        for number, data in enumerate(corpus(name)):
            (Path(folder) / f"{number:03d}").write_bytes(data)
        # libFuzzer leaves by os._exit: the folder stays with the system's temporary files
        atheris.Setup([*sys.argv, folder, "-rss_limit_mb=2048"], lambda data: call(name, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
