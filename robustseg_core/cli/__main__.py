"""`python -m robustseg_core.cli`, the same as `robustseg`."""

from robustseg_core.cli.entry import main

main()
