"""Hostile input on purpose: mutated messages, damaged bags, an hour of random faults."""
