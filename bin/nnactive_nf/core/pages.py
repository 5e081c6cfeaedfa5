"""What pages for the browser have in common: the colours of classes, and data inside a script element."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

# After Okabe and Ito's palette: told apart without colour vision too.
CLASS_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#7f7f7f"]
BACKGROUND_COLOUR = "#9aa0a6"


def class_colours(names: Iterable[str]) -> list[dict[str, str]]:
    """Colours of classes by index, background first."""
    return [
        {"name": name, "colour": CLASS_COLOURS[(place - 1) % len(CLASS_COLOURS)] if place else BACKGROUND_COLOUR}
        for place, name in enumerate(names)
    ]


def script_json(data: Any) -> str:
    """JSON that can stand in a script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
