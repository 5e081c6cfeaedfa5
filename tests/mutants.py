"""Puts small faults into the code, one at a time, and prints those that no unit test sees (`make mutants`).

    .venv/bin/python tests/mutants.py                                      # what changed since the branch left main
    .venv/bin/python tests/mutants.py bin/nnactive_nf/core/folds.py -n 15 # a file

A mutant is run against the unit tests that import its module, in a copy of the project; the working tree is left as it
is. Error messages, strings, annotations and decorators are not mutated. A survivor is a hole in the tests or a mutant
that changes nothing; a person has to tell which.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("bin") / "nnactive_nf"

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


def importing_tests(root: Path, path: Path) -> list[str]:
    """Unit tests that import a module of the package."""
    module = ".".join(path.relative_to("bin").with_suffix("").parts).removesuffix(".__init__")
    return [str(test.relative_to(root)) for test in sorted((root / "tests" / "unit").glob("test_*.py"))
            if module in _imports(test)]  # fmt: skip


def _imports(test: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(test.read_text())):
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


def run_tests(folder: Path, arguments: Sequence[str], limit_s: float) -> int | None:
    """Exit status of pytest; None where it ran into the time limit."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "pytest.log").open("w") as log:
        done = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            return done.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if done.poll() is None:
                os.killpg(done.pid, signal.SIGKILL)
                done.wait()


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
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--limit", type=float, default=120, help="seconds for a mutant; more is a kill (default: 120)")
    parser.add_argument("--tests", nargs="+", help="tests to run, instead of the unit tests that import the module")
    parser.add_argument("-k", help="pytest's -k")
    options = parser.parse_args()

    files: dict[Path, frozenset[int] | None] = {path.resolve().relative_to(ROOT): None for path in options.files}
    for path in files:
        if not (ROOT / path).is_file() or not path.is_relative_to(PACKAGE):
            sys.exit(f"{path}: not a file of {PACKAGE}")
    files = files or {**changed_lines(ROOT, options.base)}
    tests = {path: options.tests or importing_tests(ROOT, path) for path in files}
    for path in [path for path in files if not tests[path]]:
        print(f"{path}: no unit test imports it, so nothing is drawn from it (--tests names some)")
        del files[path]
    every = [m for path, lines in files.items() for m in mutants_of(path, (ROOT / path).read_text(), lines)]
    if not every:
        sys.exit("nothing to mutate")
    drawn = random.Random(options.seed).sample(every, min(options.count, len(every)))
    drawn.sort(key=lambda mutant: (mutant.path, mutant.line))
    print(f"{len(drawn)} of {len(every)} mutants, seed {options.seed}")

    survivors, late = [], 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy_project(ROOT, folder)
        more = ["-k", options.k] if options.k else []
        for path in sorted({mutant.path for mutant in drawn}):
            begin = time.monotonic()
            if run_tests(folder, [*tests[path], *more], options.limit) != 0:
                print((folder / "pytest.log").read_text()[-2000:])
                sys.exit(f"{path}: its tests fail, or take over {options.limit:g} s, without any mutant")
            print(f"{path}: {' '.join(tests[path])}, {time.monotonic() - begin:.0f} s as it is", flush=True)
        for number, mutant in enumerate(drawn, 1):
            whole = (folder / mutant.path).read_text()
            (folder / mutant.path).write_text(mutant.source)
            status = run_tests(folder, [*tests[mutant.path], *more], options.limit)
            (folder / mutant.path).write_text(whole)
            if status not in (0, 1, 2, None):
                sys.exit(f"pytest ended with {status}: {(folder / 'pytest.log').read_text()[-2000:]}")
            late += status is None
            survivors += [mutant] if status == 0 else []
            print(
                f"{number:3d} {'SURVIVED' if status == 0 else 'late' if status is None else 'killed':8s} {mutant}",
                flush=True,
            )
    print(f"\n{len(drawn)} mutants, {len(drawn) - len(survivors)} killed ({late} by time), {len(survivors)} survived")
    for mutant in survivors:
        print(f"  {mutant}")


if __name__ == "__main__":
    main()
