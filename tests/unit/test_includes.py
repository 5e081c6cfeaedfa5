"""Who includes whom. Nextflow 25.04 compiles a file anew for each `include` of it, with all that it includes."""

import re
from collections import Counter
from pathlib import Path

from conftest import ROOT

INCLUDE = re.compile(r"^include \{(.*?)\} from '(.*?)'", re.MULTILINE)


def included(path: Path) -> list[Path]:
    """The files that a script includes."""
    return [(path.parent / place).resolve() for _names, place in INCLUDE.findall(path.read_text())]


def loads(path: Path) -> Counter[Path]:
    """How often each file is read when a script is."""
    return sum((loads(inner) for inner in included(path)), Counter({path: 1}))


def test_what_many_include_includes_nothing() -> None:
    """Else a start reads whole trees again and again: 273 files in place of 135 took six seconds more."""
    read = loads(ROOT / "main.nf")
    wanted_by_many = [path for path, times in read.items() if times > 4]
    assert {path.name for path in wanted_by_many} >= {"tasks.nf", "plan.nf"}
    assert {path.name: included(path) for path in wanted_by_many if included(path)} == {}
    lines = {path: len(path.read_text().splitlines()) for path in read}
    assert sum(times * lines[path] for path, times in read.items()) < 3.5 * sum(lines.values())


def test_each_name_is_used_and_each_file_is_read() -> None:
    folders = (ROOT / name for name in ("functions", "modules", "workflows"))
    scripts = {ROOT / "main.nf", *(path.resolve() for folder in folders for path in folder.glob("*.nf"))}
    assert set(loads(ROOT / "main.nf")) == scripts
    for path in scripts:
        text = re.sub(r"(^|\s)//.*", "", INCLUDE.sub("", path.read_text()))
        names = [name.strip() for names, _place in INCLUDE.findall(path.read_text()) for name in names.split(";")]
        assert [name for name in names if not re.search(rf"\b{name}\b[.(]", text)] == [], path.name
