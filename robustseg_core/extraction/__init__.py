"""Recordings to training data: what the node would have seen (`extract`), and what a teacher sees
in it (`label`). Each recording is one task: complete or not there, and never done twice."""
