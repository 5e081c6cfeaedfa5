"""Every bad input ends in a line that names it; every mutated file in a line or in a reading. See tests/attack.py."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import attack
import click
import jsonschema
import pytest
from commands import invoke, lines_of, main_of
from conftest import ROOT

from nnactive_nf.core.files import read_json

ROWS = {f"{row.reader}: {row.how}": row for row in attack.rows()}
MUTATIONS = int(os.environ.get("NNACTIVE_MUTATIONS", "10"))  # of each reader; a night's run has time for hundreds
SEED = int(os.environ.get("NNACTIVE_MUTATIONS_SEED", "1"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole files, one for each reader."""
    return attack.make_files(tmp_path_factory.mktemp("files") / "files")


@pytest.mark.parametrize("name", attack.READERS)
def test_whole_files_are_read(name: str, files: Path) -> None:
    assert attack.outcome(lambda: attack.READERS[name].read(files)) == ("read", "")


@pytest.mark.parametrize("name", ROWS)
def test_bad_inputs_end_in_a_line(name: str, files: Path) -> None:
    kind, words = attack.end_of(ROWS[name], files)
    assert kind == "line", f"{kind}: {words}"


@pytest.mark.parametrize("name", attack.READERS)
def test_mutated_files_end_in_a_line_or_a_reading(name: str, files: Path) -> None:
    found = attack.mutations(files, name, MUTATIONS, SEED)
    assert set(found) <= {"line", "read"}, found


COMMANDS = ("analyse", "annotate", "check", "compare", "download", "evaluate", "forecast", "measure", "phantom",
            "predict", "preflight", "prepare", "query", "report", "train")  # fmt: skip
VALUES = ("x", "-1", "1.5", "nan", "1e99", "")


def refused_values() -> list[tuple[str, str, str]]:
    """Commands, options, and values that their types do not take."""
    found = []
    for name in COMMANDS:
        for option in (option for option in main_of(name).params if isinstance(option, click.Option)):
            for value in () if option.is_flag else VALUES:
                try:
                    option.type.convert(value, option, None)
                except click.UsageError:
                    found.append((name, option.opts[0], value))
    return found


@pytest.mark.parametrize(("command", "option", "value"), refused_values())
def test_options_of_commands_name_what_they_do_not_take(command: str, option: str, value: str) -> None:
    result = invoke(command, f"{option}={value}")
    assert result.exit_code == 2 and not isinstance(result.exception, Exception)
    (line,) = lines_of(result)
    assert option in line


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"preflight"}))
def test_commands_name_what_they_miss(command: str) -> None:
    wanted = [option for option in main_of(command).params if option.required]
    assert wanted, f"{command} wants nothing"
    result = invoke(command)
    assert result.exit_code == 2 and not isinstance(result.exception, Exception)
    (line,) = lines_of(result)
    assert line.startswith("Missing")


def parameters() -> dict[str, dict]:
    schema = read_json(ROOT / "nextflow_schema.json")
    return {name: rule for part in schema["$defs"].values() for name, rule in part["properties"].items()}


ODD = {
    "string": [3, True, ["a"], {}],
    "integer": ["x", 1.5, -(10**9)],
    "number": ["x", -1e9, {}],
    "boolean": ["x", 1, "yes"],
}


@pytest.mark.parametrize("name", parameters())
def test_parameters_have_rules_that_refuse(name: str) -> None:
    """functions/parameters.nf follows the same schema; tests/pipeline/test_parameters.py sees to that."""
    rule = parameters()[name]
    judge = jsonschema.Draft202012Validator(rule)
    bad = [value for value in ODD[rule["type"]] if not judge.is_valid(value)]
    assert len(bad) >= 2, bad
    if rule.get("format", "").endswith("path"):
        assert not judge.is_valid("a*b") and not judge.is_valid("a{b}") and judge.is_valid("it's $(a) b")


def test_the_table_is_as_long_as_it_was() -> None:
    assert len(ROWS) >= 500
    assert len(refused_values()) >= 100
    assert not Counter(row.reader for row in ROWS.values()).keys() ^ attack.READERS.keys()
