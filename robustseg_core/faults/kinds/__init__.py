"""What can go wrong: every public `FaultModel` of every file here; one file, one family."""
