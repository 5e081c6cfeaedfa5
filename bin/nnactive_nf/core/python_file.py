"""A user's own Python file: its code is loaded, and what goes wrong in it is told in one line."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from nnactive_nf.core.errors import UserError


def load_python(path: Path, where: str, kind: str) -> ModuleType:
    """Load a user's file; its code runs.

    Args:
        path: the file.
        where: how messages name it.
        kind: what it is for; a part of the module's name.

    Raises:
        UserError: there is no such file, or it cannot be loaded.
    """
    if not path.is_file():
        raise UserError(f"{where}: {'not a file' if path.exists() else 'no such file'}")
    spec = importlib.util.spec_from_file_location(f"{kind}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{where}: is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look for what it defines
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever it does when it is loaded
        raise UserError(f"{where}: cannot be loaded ({type(error).__name__}: {error})") from None
    return module


def kind_of(error: BaseException, path: Path) -> str:
    """An error's kind, with the last line of the file that it went through, if it did: `ValueError in line 3`."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return type(error).__name__ + (f" in line {lines[-1]}" if lines else "")
