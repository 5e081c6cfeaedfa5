"""The documentation against what there is: commands and their options, paths, links, parameters, profiles, tables.

What a whole run leaves is held against the documentation in tests/pipeline/test_whole_runs.py.
"""

from __future__ import annotations

import ast
import csv
import functools
import importlib
import importlib.util
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml
from conftest import ROOT, VERSION
from pages import LINKING, NEXTFLOW_OPTIONS, PAGES, Code, anchors, blocks, commands, links, names_in, spans, tables
from schemas import PARAMETERS, STUDY_SCHEMA, study_errors, typed_row, value_errors

from nnactive_nf.core.patients import case_groups
from nnactive_nf.core.raw import list_raw
from nnactive_nf.core.result_tables import AGREEMENT_COLUMNS
from nnactive_nf.core.strategies import list_errors, registry
from nnactive_nf.receive.agreement import COLUMNS as AGREEMENT_OF_CYCLE
from nnactive_nf.receive.answers import COLUMNS as DELIVERY_COLUMNS
from nnactive_nf.receive.answers import STATES
from nnactive_nf.receive.rules import RULES

LANGUAGES = {"bash", "csv", "groovy", "json", "python", "text", "yaml"}

# Options of other programs that the text names: of schedulers and container engines, and of pytest.
OF_OTHERS = {
    "--gres=gpu:1", "--gres=gpu:a100:1", "--nv", "-gpu num=1", "--gpus all", "--shm-size 8g", "--signal",
    "-l select=1:ncpus=..:mem=..:ngpus=1", "--device nvidia.com/gpu=all", "-l gpu=1", '-m "not pipeline and not slow"',
}  # fmt: skip

# Files that the reader has or will have, and no path of the project.
OF_THE_READER = {"my.py", "mine.py", "mysite.config", "mydata.yml", "mystudy.csv"}

SCHEMA_FREE = {"help"}  # of every command


def profiles() -> dict[str, list[str]]:
    """Names of all profiles, by the file that says what they are."""
    found = {}
    for path in (ROOT / "nextflow.config", *sorted((ROOT / "conf").glob("*.config"))):
        if block := re.search(r"^profiles \{\n(.*?)^\}", path.read_text(), flags=re.MULTILINE | re.DOTALL):
            found[path.name] = re.findall(r"^    (\w+) \{", block[1], flags=re.MULTILINE)
    return found


PROFILES = {name for names in profiles().values() for name in names}


@functools.cache
def module_of(path: Path) -> ModuleType:
    """A command of `bin/`, loaded without running it."""
    spec = importlib.util.spec_from_file_location(f"command_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command_of(path: Path) -> click.Command:
    command: click.Command = module_of(path).main
    return command


@functools.cache
def options_of_bin() -> set[str]:
    """All options of all commands in `bin/`."""
    found = [command_of(path) for path in sorted((ROOT / "bin").glob("*.py"))]
    return {name for command in found for parameter in command.params for name in parameter.opts}


@functools.cache
def options_of_mutants() -> set[str]:
    return set(re.findall(r'"(--?\w+)"', (ROOT / "tests" / "mutants.py").read_text()))


@functools.cache
def strategies_of_docs() -> set[str]:
    """Names that the worked examples of strategies define, and the one that stands for any."""
    code = "\n".join(block.text for page in PAGES for block in blocks(page, "python"))
    return {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {
        "my_strategy"
    }


def parameter_problems(words: list[str]) -> Iterator[str]:
    """What is wrong with a run's options; `words` are those behind `run main.nf`."""
    given: dict[str, str] = {}
    rest = [word for word in words if word != "..."]
    while rest:
        name = rest.pop(0)
        value = rest[0] if rest and not re.match(r"-{1,2}[a-z]", rest[0]) else None
        if name.startswith("--"):
            if name[2:] not in PARAMETERS:
                yield f"{name}: no parameter of nextflow_schema.json"
                continue
            if value is None and PARAMETERS[name[2:]]["type"] != "boolean":
                yield f"{name}: has no value"
            given[name[2:]] = "true" if value is None else value
            yield from value_errors(name[2:], given[name[2:]])
        elif name not in NEXTFLOW_OPTIONS:
            yield f"{name}: no option of Nextflow, or not in NEXTFLOW_OPTIONS"
            continue
        elif NEXTFLOW_OPTIONS[name] != (value is not None) and name != "-with-tower":
            yield f"{name}: {'no' if value is None else 'a'} word follows"
        elif name == "-profile":
            given["profile"] = value or ""
            yield from (f"no profile {part}" for part in (value or "").split(",") if part not in PROFILES)
        if value is not None:
            rest.pop(0)
    if "strategies" in given:
        own = strategies_of_docs() if "strategy_file" in given else set()
        built_in = [text for text in given["strategies"].split(",") if text.split(":")[0] not in own]
        yield from list_errors(built_in)
    if given.get("input", "").startswith("conf/") and not (ROOT / given["input"]).is_file():
        yield f"no {given['input']}"


def run_problems(words: list[str]) -> Iterator[str]:
    """What is wrong with `nextflow run main.nf ...`."""
    if words[:2] != ["run", "main.nf"]:
        yield "is no `run main.nf`"
        return
    yield from parameter_problems(words[2:])
    with_input = {"--input", "--help", "--preflight", "test", "test_full"}
    if not with_input.intersection(re.split(r"[ ,]", " ".join(words))):
        yield "has no --input"


def click_problems(path: Path, words: list[str]) -> Iterator[str]:
    """What is wrong with a call of a command of `bin/`; files need not be there."""
    command = command_of(path)
    context = click.Context(command)
    try:
        values, left, _ = command.make_parser(context).parse_args(list(words))
        for parameter in command.params:
            if isinstance(parameter.type, click.Path | click.File):
                if parameter.required and values.get(str(parameter.name)) in (None, ()):
                    yield f"{parameter.name} is missing"
            elif parameter.name in values:
                parameter.process_value(context, values[parameter.name])
    except click.UsageError as error:
        yield error.format_message()
    else:
        yield from (f"{word} is not taken" for word in left)


def program_problems(words: list[str]) -> Iterator[str]:
    """What is wrong with a command line."""
    program, *rest = words
    if program in (".tools/bin/nextflow", "nextflow"):
        yield from run_problems(rest) if rest[0] != "lint" else ()
    elif program == "make":
        text = (ROOT / "Makefile").read_text()
        for word in rest:
            variable = word.partition("=")[0] if "=" in word else None
            if variable is None and not re.search(rf"^{re.escape(word)}:", text, flags=re.MULTILINE):
                yield f"Makefile has no target {word}"
            if variable is not None and f"$({variable})" not in text:
                yield f"Makefile knows no {variable}"
            if variable == "PYTEST_ARGS":
                yield from missing_paths(shlex.split(word.partition("=")[2]))
    elif program == ".venv/bin/python":
        yield from missing_paths(rest)
    elif program.startswith("bin/") and (ROOT / program).is_file():
        yield from click_problems(ROOT / program, rest)
    elif (ROOT / program).is_file():
        known = re.findall(r"^ *#? *(?:\w+/)*\w+\.sh (\w+)", (ROOT / program).read_text(), flags=re.MULTILINE)
        yield from (f"{program} knows no {word}" for word in rest if not word.startswith("-") and word not in known)
    elif program.startswith("-"):
        yield from option_problems(words)
    else:
        yield f"no program {program}"


def option_problems(words: list[str]) -> Iterator[str]:
    """What is wrong with options that stand alone. An option without a value may be that of any command."""
    if len(words) == 1 and words[0] in options_of_bin() | options_of_mutants():
        return
    if len(words) == 1 and words[0][2:] in {*PARAMETERS, *SCHEMA_FREE}:
        return
    if len(words) == 1 and words[0] in NEXTFLOW_OPTIONS:
        return
    yield from parameter_problems(words)


def missing_paths(words: list[str]) -> Iterator[str]:
    """Words that look like paths of the project, and are none."""
    yield from (f"no {word}" for word in words if "/" in word and not (ROOT / word).exists())


@pytest.mark.parametrize("command", [pytest.param(code, id=f"{code.where} {code.text[:60]}") for code in commands()])
def test_a_command_has_the_options_that_there_are(command: Code) -> None:
    if command.text not in OF_OTHERS:
        assert list(program_problems(shlex.split(command.text))) == [], command.text


def test_every_block_says_what_is_in_it() -> None:
    """So that no command, table or example goes by unseen."""
    assert {
        block.where: block.language for page in PAGES for block in blocks(page) if block.language not in LANGUAGES
    } == {}


def test_a_path_of_the_project_is_there() -> None:
    """Also one from the package's folder on (`query/run.py`), or with `<stage>` in it."""
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"results", "work"}
    missing = []
    for code in (code for page in PAGES for code in spans(page)):
        ours = code.text.split("/")[0] in tops and "/" in code.text and not code.text.startswith(".tools")
        ours |= code.text.endswith((".py", ".nf", ".config", "_schema.json", ".dot", ".sh"))
        pattern = re.sub(r"<\w+>", "*", code.text).rstrip("/")
        if re.fullmatch(r"[\w./*-]+", pattern) and ours and code.text not in OF_THE_READER:
            found = [folder for folder in (ROOT, ROOT / "bin" / "nnactive_nf") if any(folder.glob(pattern))]
            missing += [] if found else [f"{code.where} {code.text}"]
    assert missing == []


def test_what_is_said_to_be_in_a_file_is_in_it() -> None:
    """`annotation_rounds` in `functions/plan.nf`, and names of the package such as `nnactive_nf.core.raw`."""
    seen = 0
    for page in PAGES:
        for name, path in re.findall(r"`(\w+)`\s+(?:in|of)\s+`([\w./]+\.\w+)`", page.read_text()):
            (file,) = [folder / path for folder in (ROOT, ROOT / "bin" / "nnactive_nf") if (folder / path).is_file()]
            assert re.search(rf"\b{name}\b", file.read_text()), (page.name, name, path)
            seen += 1
        for code in spans(page):
            if code.text.startswith("nnactive_nf."):
                module, _, name = code.text.rpartition(".")
                parent = importlib.import_module(module)
                within = hasattr(parent, "__path__") and importlib.util.find_spec(code.text) is not None
                assert within or hasattr(parent, name), code.where
                seen += 1
    assert seen >= 5


def test_links_and_anchors_lead_somewhere() -> None:
    broken = []
    for page in LINKING:
        for link in links(page):
            path, _, anchor = link.partition("#")
            if re.match(r"https?:", link):
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_every_page_is_named_by_the_readme_or_by_a_page_that_it_names() -> None:
    seen, reached = set(), [ROOT / "README.md"]
    while reached:
        page = reached.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            reached += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if ":" not in link]
    assert set(LINKING) - seen == set()


def test_every_parameter_is_described() -> None:
    """In a sentence or cell. That it may be a column, or stands in a command line, says nothing of it."""
    described: Counter[str] = Counter()
    for page in PAGES:
        for code in spans(page):
            described.update(re.findall(r"--(\w+)", code.text) or [code.text])
        for table in tables(page):
            if {"column", "columns"}.intersection(table.rows[0]):
                described.subtract(name for row in table.rows for cell in row for name in names_in(cell))
    assert {name for name in PARAMETERS if described[name] < 1} == set()


def test_tables_of_parameters_name_parameters() -> None:
    cells = [
        name
        for page in PAGES for table in tables(page) if table.rows[0][0] in ("parameter", "columns")
        for row in table.rows[1:] for name in names_in(row[0])
    ]  # fmt: skip
    names = [name.removeprefix("--").split()[0] for name in cells]
    assert len(names) > 40
    assert set(names) - set(PARAMETERS) == set()


def test_the_columns_of_a_study_are_those_of_its_schema() -> None:
    (table,) = [table for table in tables(ROOT / "docs" / "studies.md") if table.rows[0][0] == "columns"]
    named = [name for row in table.rows[1:] for name in names_in(row[0])]
    assert sorted(named) == sorted(STUDY_SCHEMA["items"]["properties"])


def test_the_columns_and_states_of_deliveries_are_those_of_people() -> None:
    (table,) = [table for table in tables(ROOT / "docs" / "people.md") if table.rows[0][0] == "column"]
    assert [name for row in table.rows[1:] for name in names_in(row[0])] == DELIVERY_COLUMNS
    (states,) = [row[1] for row in table.rows[1:] if names_in(row[0]) == ["state"]]
    assert set(STATES) <= set(names_in(states))


def test_the_columns_of_agreement_are_those_of_people() -> None:
    for head, columns in (("in `agreement.csv`", AGREEMENT_OF_CYCLE), ("in `tables/agreement.csv`", AGREEMENT_COLUMNS)):
        (table,) = [table for table in tables(ROOT / "docs" / "people.md") if table.rows[0][0] == head]
        named = {name for row in table.rows[1:] for name in names_in(row[0])}
        assert named == set(columns), head
    (rules,) = [table for table in tables(ROOT / "docs" / "people.md") if table.rows[0][0] == "`--disagreement`"]
    assert {name for row in rules.rows[1:] for name in names_in(row[0])} == set(RULES)
    assert set(PARAMETERS["disagreement"]["enum"]) == set(RULES)


def test_every_profile_is_described_and_no_other() -> None:
    """Those of users in the README and in docs/cluster.md; `stub`, for tests, where contributors read."""
    for page in (ROOT / "README.md", ROOT / "docs" / "cluster.md"):
        kinds = [table for table in tables(page) if table.rows[0][0] == "profile"]
        named = [name for table in kinds for row in table.rows[1:] for name in names_in(row[0])]
        assert sorted(named) == sorted(PROFILES - {"stub"}), page.name
    assert "test,stub" in (ROOT / "CONTRIBUTING.md").read_text()


def test_every_strategy_is_described() -> None:
    """In a paragraph of its own or of its kind; tests/unit/test_query_registry.py reads the tables."""
    text = (ROOT / "docs" / "strategies.md").read_text()
    heads = re.findall(r"^((?:\*\*`\w+`\*\*(?:, )?)+)\. |^`(\w+)` is ", text, flags=re.MULTILINE)
    described = [name for head, alone in heads for name in ([alone] if alone else names_in(head))]
    assert set(described) == set(registry())


def test_the_stages_are_the_processes() -> None:
    """In docs/design.md all but those of the preflight; in docs/cluster.md those of the two labels that have cores."""
    label_of = {}
    for path in sorted((ROOT / "modules").glob("*.nf")):
        text = path.read_text()
        label_of[re.findall(r"^process (\w+)", text, flags=re.MULTILINE)[0]] = re.findall(
            r"^    label '(\w+)'", text, flags=re.MULTILINE
        )[0]
    (table,) = [table for table in tables(ROOT / "docs" / "design.md") if table.rows[0][0] == "process"]
    assert sorted(row[0] for row in table.rows[1:]) == sorted(n for n in label_of if not n.startswith("PREFLIGHT"))
    (table,) = [table for table in tables(ROOT / "docs" / "cluster.md") if table.rows[0][0] == "label"]
    for label, stages, _ in table.rows[1:]:
        named = [name for name, other in label_of.items() if other == names_in(label)[0]]
        assert sorted(stages.split(", ")) == sorted(n for n in named if not n.startswith("PREFLIGHT"))


def test_presets_that_the_docs_name_are_there() -> None:
    (table,) = [table for table in tables(ROOT / "docs" / "studies.md") if table.rows[0][0] == "table"]
    named = [name for row in table.rows[1:] for name in names_in(row[0])]
    assert sorted(named) == sorted(path.name for path in (ROOT / "conf" / "studies").iterdir())


def test_studies_in_the_docs_are_study_tables() -> None:
    texts = [block.text for page in PAGES for block in blocks(page, "csv") if "input" in block.text]
    listed = [
        [typed_row(row) for row in csv.DictReader(line for line in text.splitlines() if line[0] != "#")]
        for text in texts
    ]
    listed += [yaml.safe_load(block.text) for page in PAGES for block in blocks(page, "yaml")]
    assert [len(rows) for rows in listed] == [3, 1]
    for rows in listed:
        assert study_errors(rows) == []
        assert [line for row in rows for line in list_errors(row["strategies"].split(","))] == []


def test_data_sets_in_the_docs_are_read(tmp_path: Path) -> None:
    page = ROOT / "docs" / "own_data.md"
    head, with_regions = blocks(page, "json")
    (groups,) = blocks(page, "csv")
    (tree,) = [block.text for block in blocks(page, "text") if "imagesTr" in block.text]
    (tmp_path / "dataset.json").write_text(head.text)
    for folder, name in (("imagesTr", "case_001_0000"), ("imagesTr", "case_001_0001"), ("labelsTr", "case_001")):
        assert f"{name}.nii.gz" in tree
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.nii.gz").touch()
    raw = list_raw(tmp_path)
    assert [case.name for case in raw.cases] == ["case_001"]
    assert (raw.channels, raw.classes.names) == (("T1", "T2"), ("background", "liver", "tumour"))
    (tmp_path / "dataset.json").write_text(with_regions.text)
    assert list_raw(tmp_path).classes.targets == ("whole tumour", "tumour core", "enhancing tumour")
    (tmp_path / "groups.csv").write_text(groups.text)
    cases = ["case_001", "case_002", "case_003"]
    told = case_groups(cases, tmp_path / "groups.csv", None)
    assert list(told.values()) == ["patient_a", "patient_a", "patient_b"]


def test_images_are_named_with_the_version() -> None:
    named = [found for page in PAGES for found in re.findall(r"nnactive-nf[:-](\d+\.\d+\.\d+)", page.read_text())]
    assert len(named) > 5
    assert set(named) == {VERSION}


def test_the_options_of_other_programs_still_stand_in_the_text() -> None:
    assert OF_OTHERS - {code.text for code in commands()} == set()
