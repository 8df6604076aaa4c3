"""Reports as HTML and as pictures: names are shown as they are, whatever is in them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustseg_core.text import visible
from robustseg_core.version import occasion

P = ParamSpec("P")
R = TypeVar("R")


def plain_text(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorates what draws a figure with names in it: a `$` is no formula."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.rc_context({"text.parse_math": False, "text.usetex": False}):
            return draw(*args, **kwargs)

    return drawn


def figure_png(figure: Figure) -> bytes:
    """A figure as a PNG; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def picture_png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG of (H, W, 3) RGB."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


Classes = Sequence[tuple[str, Sequence[int]]]
"""Names with their colors, RGB."""


def render(
    package: str,
    *,
    title: str,
    template: str = "report.html.j2",
    checkpoint: str = "",
    classes: Classes = (),
    words: Sequence[tuple[str, str]] = (),
    **values: Any,
) -> str:
    """A template of a package of ours within `base.html.j2`; can be written as UTF-8.

    Args:
        package: dotted.
        title: of the page.
        template: the package's.
        checkpoint: what the network is.
        classes: the legend.
        words: abbreviations and the like, with what they mean.
        values: what the template names; strings are text, never HTML.
    """
    places = [PackageLoader(name, ".") for name in (package, "robustseg_core.output")]
    environment = Environment(
        loader=ChoiceLoader(places), autoescape=True, trim_blocks=True, finalize=_harmless
    )
    return environment.get_template(template).render(
        title=title,
        checkpoint=checkpoint,
        classes=classes,
        words=words,
        made=occasion(),
        **values,
    )


def embed(png: bytes) -> str:
    """A picture as an address that needs no file."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def letters(modalities: Sequence[str]) -> list[tuple[str, str]]:
    """What the heads of tables of subsets, such as RDE, are made of; nothing where they are names.

    Args:
        modalities: of the network, in its order.
    """
    from robustseg_core.models.subsets import short  # which loads torch

    coded = {short((name,)): name for name in modalities if short((name,)) != name}
    if not coded:
        return []
    told = ", ".join(f"{letter} {name}" for letter, name in coded.items())
    example = tuple(modalities[:2])
    meaning = f"sensors: {told}; {short(example)} is {' and '.join(example)} alone"
    return [("".join(coded), meaning)]


def _harmless(value: Any) -> Any:
    """What is written for a value: a string that is not from the template itself, on one line."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
