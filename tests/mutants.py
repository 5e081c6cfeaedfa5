"""Puts small faults into the code, one at a time, and prints those that no unit test sees (`make mutants`).

    .venv/bin/python tests/mutants.py                                      # what changed since the branch left main
    .venv/bin/python tests/mutants.py bin/nnactive_nf/core/folds.py -n 15 # a file
    .venv/bin/python tests/mutants.py bin/nnactive_nf/query/*.py -n 7 --each # as many of each file

A mutant is run against the unit tests that import its module, then those that import modules of its stage that import
it, file by file until one fails, in a copy of the project; the working tree is left as it is. Error messages, strings,
annotations and decorators are not mutated. A survivor is a hole in the tests or a mutant that changes nothing; a person
has to tell which.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from math import inf
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("bin") / "nnactive_nf"
LIMIT_S = 600  # for a file of tests as it is; with a mutant, four times its own time and 30 s
LATE = "late"
NO_TESTS = 5  # pytest's exit status where `-k` leaves none of a file

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
TWINS = [
    ("min", "max"), ("any", "all"), ("minimum", "maximum"), ("argmin", "argmax"), ("floor", "ceil"), ("sorted", "list"),
]  # fmt: skip
NAMES = {a: b for pair in TWINS for a, b in (pair, pair[::-1])}
del NAMES["list"]  # no `sorted` where order never mattered


@dataclass(frozen=True)
class Mutant:
    """A file with one fault in it."""

    path: Path  # relative to the project
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def mutants_of(path: Path, source: str, lines: frozenset[int] | None = None) -> list[Mutant]:
    """Every mutant of a file, or those that touch one of these lines."""
    tree = ast.parse(source)
    original = ast.unparse(tree)
    found = []
    for parent, field, place, node in _nodes(tree):
        if lines is not None and not lines.intersection(range(node.lineno, _last_line(node) + 1)):
            continue
        for other in _alternatives(node):
            _put(parent, field, place, other)
            changed = ast.unparse(ast.fix_missing_locations(tree))
            _put(parent, field, place, node)
            if changed != original:
                found.append(Mutant(path, node.lineno, _short(node), _short(other), changed))
    return found


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.expr | ast.stmt]]:
    """Statements and expressions that may be changed, with where they hang: parent, field, place in a list."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "type_comment", "bases"):
            continue
        for place, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr):
                continue
            if isinstance(node, ast.expr | ast.stmt):
                yield tree, field, place, node
            if not isinstance(node, ast.Raise):
                yield from _nodes(node)


def _put(parent: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[place] = node


def _last_line(node: ast.expr | ast.stmt) -> int:
    """Of a statement with a body, its head's; else a line in the body would call up mutants of the head."""
    body = getattr(node, "body", None)
    return max(node.lineno, body[0].lineno - 1) if isinstance(body, list) else node.end_lineno or node.lineno


def _short(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0][:100]


def _alternatives(node: ast.expr | ast.stmt) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield _with(node, ops=[*ops[:i], other(), *ops[i + 1 :]])
        case ast.BoolOp(op=op):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(op=op, left=left, right=right) | ast.AugAssign(op=op, target=left, value=right):
            a_path = isinstance(op, ast.Div) and any(map(_is_text, (left, right)))
            if type(op) in OPERATORS and not a_path:
                yield _with(node, op=OPERATORS[type(op)]())
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 2 if value else 1.0)
        case ast.Name(id=name) if name in NAMES:
            yield _with(node, id=NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES:
            yield _with(node, attr=NAMES[name])
        case ast.IfExp(test=test):
            yield _with(node, test=_negated(test))
        case ast.If(test=test) | ast.While(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield _with(node, test=_negated(test))
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for i, each in enumerate(node.generators):
                for j in range(len(each.ifs)):
                    fewer = _with(each, ifs=[*each.ifs[:j], *each.ifs[j + 1 :]])
                    yield _with(node, generators=[*node.generators[:i], fewer, *node.generators[i + 1 :]])
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield ast.Return(ast.Constant(None))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Raise():
            yield ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
    if isinstance(node, ast.AugAssign):
        yield ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def changed_lines(root: Path, base: str) -> dict[Path, frozenset[int]]:
    """Lines of the package's files that are new since the branch left `base`, committed or not."""
    since = _git(root, "merge-base", base, "HEAD").strip()
    found: dict[Path, set[int]] = {}
    path = None
    for line in _git(root, "diff", "-U0", since, "--", str(PACKAGE)).splitlines():
        if line.startswith("+++ "):
            path = Path(line.removeprefix("+++ b/"))
        elif (hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)) and path is not None:
            start, count = int(hunk[1]), int(hunk[2] or 1)
            found.setdefault(path, set()).update(range(start, start + count))
    for name in _git(root, "ls-files", "--others", "--exclude-standard", "--", str(PACKAGE)).splitlines():
        found[Path(name)] = set(range(1, len((root / name).read_text().splitlines()) + 1))
    return {path: frozenset(lines) for path, lines in sorted(found.items()) if path.suffix == ".py" and lines}


def importing_tests(root: Path, path: Path) -> dict[str, int]:
    """Unit tests that reach a module, and over how many others of its stage; of `core`, no farther than the nearest."""
    modules = {_module(file.relative_to(root)): _imports(file) for file in sorted((root / path).parent.glob("*.py"))}
    tests = {file: _imports(file) for file in sorted((root / "tests" / "unit").glob("test_*.py"))}
    found: dict[str, int] = {}
    reached, steps = {_module(path)}, 0
    while reached and not (found and path.parent.name == "core"):
        for file, names in tests.items():
            if reached & names:
                found.setdefault(str(file.relative_to(root)), steps)
        reached = {module for module, names in modules.items() if reached & names}
        modules = {module: names for module, names in modules.items() if module not in reached}
        steps += 1
    return found


def _module(path: Path) -> str:
    return ".".join(path.relative_to("bin").with_suffix("").parts).removesuffix(".__init__")


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update([node.module, *(f"{node.module}.{name.name}" for name in node.names)])
    return found


def copy_project(root: Path, folder: Path) -> None:
    """All files that git knows or would take; environment and tools by links."""
    for name in _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0"):
        if name and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    for name in (".venv", ".tools"):
        if (root / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to((root / name).resolve())


def preload(files: Iterable[Path]) -> None:
    """Import the libraries of the package and of these files once, for all processes that are forked from this one."""
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != ROOT / "tests"]  # the copy's are theirs
    for name in sorted({name for file in (*files, *(ROOT / PACKAGE).rglob("*.py")) for name in _imports(file)}):
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded is shared with those processes, as long as their garbage collectors pass it over


def run_tests(folder: Path, arguments: Sequence[str], limit_s: float) -> int | None:
    """Exit status of pytest in a process of its own; None where it ran into the time limit."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(folder / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(stream, target)
        os.chdir(folder)
        status = 3
        try:
            own = ["-n0", "-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / '.tmp'}"]
            status = int(pytest.main([*own, *arguments]))
        finally:
            sys.stdout.flush()
            os._exit(status)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class Tests:
    """Files of tests, each timed as it is when it is first wanted; near ones are run first, of these the quickest."""

    def __init__(self, folder: Path, more: Sequence[str], most_s: float) -> None:
        self._folder, self._more, self._most_s = folder, more, most_s
        self._seconds: dict[str, float] = {}
        self._last: dict[Path, str] = {}  # what saw the last fault of a module

    def see(self, mutant: Mutant, steps: Mapping[str, int]) -> str | None:
        """The first test that sees a mutant, or the file that ran late or was ended by a signal; None if nothing."""
        path = self._folder / mutant.path
        whole, spent = path.read_text(), 0.0
        for file in self._in_order(mutant.path, steps):
            path.write_text(mutant.source)
            status = run_tests(self._folder, [file, *self._more], 30 + 4 * self._seconds[file])
            path.write_text(whole)
            if status in (0, NO_TESTS):
                spent += self._seconds[file]
                if spent >= self._most_s:
                    break
                continue
            self._last[mutant.path] = file
            if status is None:
                return f"{file}, {LATE}"
            log = (self._folder / "pytest.log").read_text()
            if status not in (1, 2) and status > 0:
                sys.exit(f"pytest ended with {status}: {log[-2000:]}")
            failed = re.search(r"^(?:FAILED|ERROR) (\S+)", log, flags=re.MULTILINE)
            return failed[1] if failed else f"{file}, {f'signal {-status}' if status < 0 else 'not collected'}"
        return None

    def _in_order(self, path: Path, steps: Mapping[str, int]) -> Iterator[str]:
        last = self._last.get(path)
        if last:
            yield last
        for step in sorted(set(steps.values())):
            files = [file for file in steps if steps[file] == step and file != last]
            yield from sorted(files, key=self._time)

    def _time(self, file: str) -> float:
        """Seconds of a file of tests. One that fails without any mutant ends the program."""
        if file not in self._seconds:
            begin = time.monotonic()
            if run_tests(self._folder, [file, *self._more], LIMIT_S) not in (0, NO_TESTS):
                print((self._folder / "pytest.log").read_text()[-2000:])
                sys.exit(f"{file}: fails, or takes over {LIMIT_S} s, without any mutant")
            self._seconds[file] = time.monotonic() - begin
            print(f"{file}: {self._seconds[file]:.0f} s as it is", flush=True)
        return self._seconds[file]


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="files of the package; default: lines that changed")
    parser.add_argument("--base", default="main", help="what changes are counted from (default: main)")
    parser.add_argument("-n", "--count", type=int, default=20, help="mutants to draw (default: 20)")
    parser.add_argument("--each", action="store_true", help="draw as many of each file, not of all together")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument(
        "--seconds", type=float, default=inf, help="of tests that a mutant must survive (default: all tests)"
    )
    parser.add_argument("--tests", nargs="+", help="tests to run, instead of the unit tests that import the module")
    parser.add_argument("-k", help="pytest's -k")
    options = parser.parse_args()

    files: dict[Path, frozenset[int] | None] = {path.resolve().relative_to(ROOT): None for path in options.files}
    for path in files:
        if not (ROOT / path).is_file() or not path.is_relative_to(PACKAGE):
            sys.exit(f"{path}: not a file of {PACKAGE}")
    files = files or {**changed_lines(ROOT, options.base)}
    tests = {path: dict.fromkeys(options.tests, 0) if options.tests else importing_tests(ROOT, path) for path in files}
    for path in [path for path in files if not tests[path]]:
        print(f"{path}: no unit test imports it, so nothing is drawn from it (--tests names some)")
        del files[path]
    every = [mutants_of(path, (ROOT / path).read_text(), lines) for path, lines in files.items()]
    if options.each:  # a file's draw is the same whatever other files are named
        draws = (random.Random(f"{options.seed} {path}").sample for path in files)
        drawn = [m for draw, some in zip(draws, every, strict=True) for m in draw(some, min(options.count, len(some)))]
    else:
        total = list(chain.from_iterable(every))
        drawn = random.Random(options.seed).sample(total, min(options.count, len(total)))
    if not drawn:
        sys.exit("nothing to mutate")
    drawn.sort(key=lambda mutant: (mutant.path, mutant.line))
    print(f"{len(drawn)} of {sum(map(len, every))} mutants, seed {options.seed}")

    os.environ.update({"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"})
    sys.dont_write_bytecode = True
    preload(ROOT / file.partition("::")[0] for some in tests.values() for file in some)
    survivors, late = [], 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy_project(ROOT, Path(name))
        told = Tests(Path(name), ["-k", options.k] if options.k else [], options.seconds)
        for number, mutant in enumerate(drawn, 1):
            seen = told.see(mutant, tests[mutant.path])
            late += (seen or "").endswith(LATE)
            survivors += [mutant] if seen is None else []
            print(f"{number:3d} {f'killed by {seen}' if seen else 'SURVIVED'}: {mutant}", flush=True)
    gc.unfreeze()
    print(f"\n{len(drawn)} mutants, {len(drawn) - len(survivors)} killed ({late} by time), {len(survivors)} survived")
    for mutant in survivors:
        print(f"  {mutant}")


if __name__ == "__main__":
    main()
