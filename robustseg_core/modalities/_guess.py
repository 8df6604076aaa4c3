"""How a topic of a recording is recognized: by the words of its name, and by an encoding."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guess:
    """What tells the topics of one modality from others of the same types.

    Patterns of names are searched in their words, in lower case: `/os1_cloudNode` is `os cloud
    node`. A modality without `name` and `form` takes the topics of its types that no other claims.
    """

    name: str = ""
    """Pattern: a topic with such a name is of this modality."""
    form: str = ""
    """Pattern: messages with such an encoding (or format) are, ..."""
    not_name: str = ""
    """... unless this is in the name."""
    names: tuple[tuple[str, int], ...] = ()
    """Pattern of the name -> points, of several topics of this modality; drivers' own words."""
    forms: tuple[tuple[str, int], ...] = ()
    """Pattern of the encoding -> points."""
    shared: tuple[str, ...] = ()
    """Of its types, those that others have, too: `name` and `form` are for these alone."""

    def picky(self, kind: str) -> bool:
        """Whether it claims some topics of this type only."""
        return bool(self.name or self.form) and (not self.shared or kind in self.shared)

    def claims(self, name: str, form: str) -> bool:
        """Whether a topic of one of its types is of this modality.

        Args:
            name: the words of the topic's name.
            form: encoding or format of its first message; empty: not known.
        """
        by_name = bool(self.name and re.search(self.name, name))
        by_form = bool(self.form and re.search(self.form, form))
        return by_name or (by_form and not (self.not_name and re.search(self.not_name, name)))

    def score(self, name: str, form: str) -> int:
        """How likely it is the one that is meant, of several."""
        return sum(points for pattern, points in self.names if re.search(pattern, name)) + sum(
            points for pattern, points in self.forms if re.search(pattern, form)
        )
