"""Parameters: described once, defaults that agree with it, and every mistake told before the first task.

More mistakes in tests/pipeline/test_functions.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, VERSIONS, Run, nextflow_program
from jsonschema import Draft202012Validator
from pages import NEXTFLOW_OPTIONS
from schemas import PARAMETERS, SCHEMA

pytestmark = pytest.mark.pipeline

HANG = 600


def errors_of(run: Run) -> list[str]:
    """The lines of a run that was refused; whatever else it printed than these and Nextflow's head is a mistake."""
    assert run.returncode != 0, run.output
    assert not run.trace, "a task was started"
    assert not list((run.folder / "work").glob("??/*")), "a task was started"
    lines = [line.strip() for line in run.output.splitlines() if line.strip()]
    found = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    others = [
        line for line in lines if not re.match(r"ERROR: |N E X T F L O W|Launching |WARN: Unrecognized config", line)
    ]
    assert not others, others
    return found


def same_lines(found: list[str], expected: list[str]) -> None:
    """Every expected text stands in a line of its own, and no line is left over."""
    left = list(found)
    for text in expected:
        hits = [line for line in left if text in line]
        assert hits, f"no line says '{text}':\n" + "\n".join(found)
        left.remove(hits[0])
    assert not left, left


def test_every_parameter_is_described_and_has_the_same_default() -> None:
    command = [nextflow_program(), "-log", "/dev/null", "config", "-flat", "-profile", "standard", ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True)
    config = dict(re.findall(r"^params\.(\w+) = (.*)$", done.stdout, flags=re.MULTILINE))
    assert set(config) == set(PARAMETERS)
    for name, text in config.items():
        value = None if text == "null" else text.strip("'") if text.startswith("'") else json.loads(text)
        assert PARAMETERS[name].get("default") == (value or None), name


def test_the_schema_is_one_and_complete() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert [part["$ref"].rpartition("/")[2] for part in SCHEMA["allOf"]] == list(SCHEMA["$defs"])
    names = [name for group in SCHEMA["$defs"].values() for name in group["properties"]]
    assert len(names) == len(set(names))
    for name, schema in PARAMETERS.items():
        assert schema["description"].endswith(".") and schema["fa_icon"], name
        assert "pattern" not in schema or "errorMessage" in schema, name
        if "default" in schema:
            Draft202012Validator(schema).validate(schema["default"])


@pytest.mark.parametrize("version", VERSIONS)
def test_single_values(nextflow: Callable[..., Run], tmp_path: Path, version: str) -> None:
    run = nextflow(
        version=version, timeout=HANG,
        cylces=3, epochs="many", iterations=0, folds=101, test_fraction=1, learning_rate="0.0", optimiser="adam",
        patch_size="20,20", stride="0", train_patch_size="a,b,c", seeds="1,two", dataset="a b", mirroring="maybe",
        groups=tmp_path / "groups.csv", input="da*", regime=True, cycles="2.5", query_tile_step="1e1",
        publish_mode="move", plan_minutes="90,x", plan_gpus="0,4", query_size="20,0",
        **{"start-size": 4},
    )  # fmt: skip
    same_lines(errors_of(run), [
        "unknown parameter --cylces; did you mean --cycles?",
        "unknown parameter --startSize; did you mean --start_size?",
        "--input da*: a path must not hold any of",
        "--epochs many: must be a whole number",
        "--cycles 2.5: must be a whole number",
        "--iterations 0: must be at least 1",
        "--folds 101: must be at most 100",
        "--test_fraction 1: must be less than 1",
        "--learning_rate 0.0: must be more than 0",
        "--query_tile_step 1e1: must be at most 1",
        "--optimiser adam: must be one of sgd, adamw; did you mean adamw?",
        "--publish_mode move: must be one of",
        "--plan_minutes 90,x: use one to four numbers of minutes",
        "--plan_gpus 0,4: use whole numbers",
        "--patch_size 20,20: use three positive whole numbers",
        "--stride 0: use one positive whole number",
        "--query_size 20,0: use a whole number above 0, or one for each query",
        "--train_patch_size a,b,c: use three positive whole numbers",
        "--seeds 1,two: use whole numbers",
        "--dataset a b: use letters, digits",
        "--regime: a value must follow",
        "--mirroring maybe: must be true or false",
        f"--groups {tmp_path}/groups.csv: no such file",
    ])  # fmt: skip


def test_a_parameter_file_with_lists_and_spaces(nextflow: Callable[..., Run], tmp_path: Path) -> None:
    """Lists and text, numbers and text of numbers mean the same; parameters.json tells what was understood."""
    given = {
        "input": "phantom:two_channels", "strategies": ["random", "bald"], "seeds": [1, 2], "cycles": "1",
        "patch_size": [4, 8, 8], "stride": 8, "learning_rate": "5e-3", "folds": 2, "test_fraction": 0.50,
        "start_size": 20, "mirroring": "false",
    }  # fmt: skip
    (tmp_path / "given.json").write_text(json.dumps(given))
    run = nextflow(
        "-params-file", "given.json", "-profile", "stub", "-stub-run", timeout=HANG, strategies=" random, bald "
    )
    assert run.returncode == 0, run.output
    assert run.tasks()["QUERY"] == 2
    understood = json.loads((tmp_path / "results" / "parameters.json").read_text())
    assert list(understood) == sorted(PARAMETERS)
    expected = {
        "cycles": 1, "patch_size": "4,8,8", "stride": "8", "seeds": "1,2", "learning_rate": 0.005, "test_fraction": 0.5,
        "mirroring": False, "strategies": "random, bald", "help": False, "features": None,
    }  # fmt: skip
    assert {name: understood[name] for name in expected} == expected
    assert (tmp_path / "results/metrics/phantom_two_channels-main-s1-c00.json").is_file()


def test_help_shows_every_parameter_and_runs_nothing(nextflow: Callable[..., Run]) -> None:
    run = nextflow(timeout=HANG, help=True)
    assert run.returncode == 0 and not run.trace
    shown = re.findall(r"^  --(\w+) +(.*)$", run.stdout, flags=re.MULTILINE)
    assert [name for name, _ in shown] == [name for name, schema in PARAMETERS.items() if not schema.get("hidden")]
    assert all(text.startswith(PARAMETERS[name]["description"]) for name, text in shown)
    assert all(group["title"] in run.stdout for name, group in SCHEMA["$defs"].items() if name != "general")


@pytest.mark.parametrize("version", VERSIONS)
def test_nextflow_has_the_options_that_the_docs_name(version: str) -> None:
    helps = [
        subprocess.run([nextflow_program(version), *word, "-h"], capture_output=True, text=True, check=True).stdout
        for word in ([], ["run"])
    ]
    known = re.findall(r"(?<![^\s,])-[a-z][a-z-]*", "".join(helps))
    assert set(NEXTFLOW_OPTIONS) - set(known) == set()
