"""Stamps, rates and sets: which messages belong together, and when a set leaves."""
