"""Bags and the segmenter: survey, replay, clips, injection, labels, and a whole run."""
