"""How strategies look: the same colour, dash and symbol in every figure, told apart without colour vision too."""

from __future__ import annotations

from dataclasses import dataclass

from nnactive_nf.core.design import Design

# After Okabe and Ito's palette; the second of each pair is for dark ground.
COLOURS = [
    ("#0072b2", "#5aa9e6"),
    ("#d55e00", "#ff8c42"),
    ("#009e73", "#3ec79b"),
    ("#b5558f", "#e08fc0"),
    ("#c98a00", "#f0b429"),
    ("#4b4fc4", "#9a9df5"),
    ("#00838f", "#4dd0e1"),
]
RANDOM_COLOURS = [("#6b7280", "#a9b1bd"), ("#8c6d46", "#c9a978"), ("#4d4d4d", "#d6d6d6")]
DASHES = ["solid", "longdash", "dashdot"]
RANDOM_DASHES = ["dot", "dash", "dashdot"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon"]

MATPLOTLIB_DASHES = {
    "solid": "-",
    "longdash": (0, (7, 2)),
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
}
MATPLOTLIB_SYMBOLS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "pentagon": "p",
    "hexagon": "h",
}


@dataclass(frozen=True)
class Look:
    """Colour on light and on dark ground, plotly's names of dash and symbol; random baselines have open symbols."""

    light: str
    dark: str
    dash: str
    symbol: str
    is_open: bool


def looks(design: Design) -> dict[str, Look]:
    """Look of every strategy, by its place in the plan."""
    found = {}
    counts = {True: 0, False: 0}
    for strategy in design.strategies:
        place = counts[strategy.is_random]
        counts[strategy.is_random] += 1
        colours = RANDOM_COLOURS if strategy.is_random else COLOURS
        dashes = RANDOM_DASHES if strategy.is_random else DASHES
        light, dark = colours[place % len(colours)]
        dash = dashes[(place if strategy.is_random else place // len(colours)) % len(dashes)]
        found[strategy.name] = Look(light, dark, dash, SYMBOLS[place % len(SYMBOLS)], strategy.is_random)
    return found
