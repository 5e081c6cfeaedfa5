"""Click option types that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from nnactive_nf.core.errors import shown
from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.names import name_errors


def named_path(text: str) -> tuple[str, Path]:
    """Of `PATH=NAME` the name by which the plan knows something, and the path at which it lies in the task."""
    path, _, name = text.partition("=")
    return name, Path(path)


class Name(click.ParamType):
    """A name as `nnactive_nf.core.names` wants it.

    Args:
        kind: what it is a name of.
    """

    name = "name"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, or the line that says what is wrong with it."""
        for error in name_errors(self.kind, [value]):
            self.fail(shown(error), param, ctx)
        return str(value)


class Zyx(click.ParamType):
    """Three whole numbers `z,y,x`, or one that stands for all three."""

    name = "z,y,x"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        """Text to a tuple of three positive ints."""
        if isinstance(value, tuple):
            return as_shape(value)
        try:
            numbers = [int(part) for part in str(value).split(",")]
        except ValueError:
            numbers = []
        if len(numbers) == 1:
            numbers *= 3
        if len(numbers) != 3 or min(numbers) < 1:
            self.fail(f"'{value}' is not three whole numbers z,y,x above 0", param, ctx)
        return as_shape(numbers)


class PatchSize(Zyx):
    """A patch size: `z,y,x`, or `whole_image` for patches that are cut to each image."""

    name = "z,y,x|whole_image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        """Text to a tuple of three positive ints, larger than any image for `whole_image`."""
        return (1 << 30,) * 3 if value == "whole_image" else super().convert(value, param, ctx)


class Plateau(click.ParamType):
    """`plateau:N`, N epochs."""

    name = "plateau:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same text."""
        if not re.fullmatch(r"plateau:[1-9]\d{0,5}", str(value)):
            self.fail(f"'{value}' is not plateau:N with a whole number N above 0", param, ctx)
        return str(value)


ZYX = Zyx()
PATCH_SIZE = PatchSize()
