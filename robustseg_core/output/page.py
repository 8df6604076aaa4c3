"""Reports as HTML and as pictures: names are shown as they are, whatever is in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from robustseg_core.text import visible

P = ParamSpec("P")
R = TypeVar("R")


def plain_text(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorates what draws a figure with names in it: a `$` is no formula."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.rc_context({"text.parse_math": False, "text.usetex": False}):
            return draw(*args, **kwargs)

    return drawn


def render(package: str, **values: Any) -> str:
    """`report.html.j2` of a package of ours, filled in; can be written as UTF-8.

    Args:
        package: dotted.
        values: what the template names; strings are text, never HTML.
    """
    environment = Environment(
        loader=PackageLoader(package, "."), autoescape=True, trim_blocks=True, finalize=_harmless
    )
    return environment.get_template("report.html.j2").render(**values)


def _harmless(value: Any) -> Any:
    """What is written for a value: a string that is not from the template itself, on one line."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
