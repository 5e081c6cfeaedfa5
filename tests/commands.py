"""The commands of `bin/` in this process: many calls in the time that one takes to start."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import click
from click.testing import CliRunner, Result
from conftest import ROOT


@cache
def main_of(name: str) -> click.Command:
    """The click command of `bin/<name>.py`."""
    spec = importlib.util.spec_from_file_location(f"command_{name}", ROOT / "bin" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    command: click.Command = module.main
    return command


def invoke(name: str, *arguments: object) -> Result:
    """Run a command; what it would have shown a user as a traceback is the result's `exception`."""
    return CliRunner().invoke(main_of(name), [str(argument) for argument in arguments])


def option_names(name: str) -> list[str]:
    """The command's options, `--a-b`."""
    return [parameter.opts[0] for parameter in main_of(name).params if isinstance(parameter, click.Option)]


def lines_of(result: Any) -> list[str]:
    """What a command said was wrong, without its usage."""
    kept = [line for line in result.output.splitlines() if line.startswith(("ERROR: ", "Error: "))]
    return [line.partition(": ")[2] for line in kept]
