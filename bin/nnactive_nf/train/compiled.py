"""Whether a training's network is compiled (`--compile`): what torch.compile wants, and where it pays."""

from __future__ import annotations

import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from nnactive_nf.core.errors import UserError

# Iterations from which `auto` compiles, by reckoning and not by measurement. Compiling a 3D U-Net (training and
# validation are two graphs) takes minutes, which are paid anew whenever a training goes on in another task. Were it 2
# minutes, and the saving a fifth of an iteration of 0.15 s, they would be back after 4,000 iterations; 10,000 (40
# epochs of 250) leave room for networks that gain less.
WORTH_ITERATIONS = 10_000
OFF = "--compile off"
# What torch looks for: Triton's launchers are C, inductor's kernels for a CPU are C++.
COMPILERS = {"cuda": ("CC", ("gcc", "clang", "cc")), "cpu": ("CXX", ("g++", "clang++", "c++"))}


@dataclass(frozen=True)
class Compilation:
    """Whether a network is compiled, and why or why not."""

    compiled: bool
    why: str

    @property
    def told(self) -> str:
        """What the training's log says; nothing where nobody has asked."""
        return "" if self.why == OFF else f"the network is {'' if self.compiled else 'not '}compiled: {self.why}"

    def record(self) -> dict[str, object]:
        """What stands in `training.json`."""
        return {"compiled": self.compiled, "compiled_why": self.why}


def compilation(asked: str, device: str, iterations: int) -> Compilation:
    """Whether to compile.

    Args:
        asked: `off`, `auto` or `on`.
        device: `cuda` or `cpu`.
        iterations: that are still to be run.

    Raises:
        UserError: it is asked for, and this machine cannot.
    """
    if asked == "off":
        return Compilation(False, OFF)
    if asked == "auto" and device != "cuda":
        return Compilation(False, "--compile auto compiles on a GPU alone")
    if asked == "auto" and iterations < WORTH_ITERATIONS:
        why = f"{iterations:,} iterations are to be run, it pays from {WORTH_ITERATIONS:,} on"
        return Compilation(False, f"--compile auto: {why}")
    if missing := lacking(device):
        if asked == "on":
            raise UserError(f"--compile on: torch.compile wants {missing}; add it to the image, or use --compile auto")
        return Compilation(False, f"--compile auto: torch.compile wants {missing}")
    return Compilation(True, f"--compile {asked}")


def lacking(device: str) -> str:
    """What torch.compile wants and this machine has not; '' where all is there."""
    variable, names = COMPILERS[device]
    if not any(shutil.which(name) for name in ([os.environ[variable]] if os.environ.get(variable) else names)):
        return f"a compiler ({names[0]}, or what {variable} names) on PATH, which is not there"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return "" if header.is_file() else f"Python's header files ({header}), which are not there"
