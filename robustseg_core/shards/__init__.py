"""The form in which training data lies on disk: archives of samples, and levels of a label."""
