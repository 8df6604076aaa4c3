"""The command line. `robustseg` is `main`, and so is `python -m robustseg_core.cli`."""
