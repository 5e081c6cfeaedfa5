"""What the functions of `functions/` say of many parameters, tables and places: all asked in one start of a Nextflow.

That a run ends with what its checks say, before any task, tests/pipeline/test_parameters.py shows by whole commands.
"""

from __future__ import annotations

import csv
import json
import re
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, VERSIONS, copy_project, run_nextflow
from decathlon import decathlon_head, write_decathlon_head

pytestmark = pytest.mark.pipeline

GIB = 2**30
THERE = int(re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024
STUDIES = ROOT / "conf" / "studies"

SCRIPT = """
include { needs_of } from './functions/common.nf'
include { check_settings ; prepare_settings } from './functions/data_settings.nf'
include { kept_file } from './functions/given.nf'
include { parameter_errors ; typed_parameters } from './functions/parameters.nf'
include { next_trajectories ; node_of ; start_trajectories } from './functions/plan.nf'
include { clock_cells ; finding_line ; task_lines } from './functions/preflight_table.nf'
include { plan_rows } from './functions/references.nf'
include { query_settings } from './functions/settings.nf'
include { cleanup_errors ; far_errors } from './functions/site.nf'
include { schedule_warnings ; study_errors ; study_rows } from './functions/study.nf'
include { gpu_share ; memory_of ; options } from './functions/tasks.nf'

workflow {
    main:
    def asked = new groovy.json.JsonSlurper().parseText(file('asked.json').text)
    def told = [
        checks: asked.checks.collectEntries { name, given -> [name, checked(params + given)] },
        far: asked.far.collectEntries { name, place -> [name, far(place)] },
        memory: memory(),
        shares: ['local', 'slurm'].collect { executor -> gpu_share([executor: executor, ext: [tasks_per_gpu: 3]]) },
        schedules: schedules(typed_parameters(params + asked.schedules)),
        preflight: preflight(),
    ]
    file('told.json').text = groovy.json.JsonOutput.toJson(told)
}

def checked(given) {
    def values = typed_parameters(given)
    def errors = parameter_errors(given) + study_errors(values) + cleanup_errors(values)
    [errors: errors, rows: errors ? [] : study_rows(values)]
}

def far(place) {
    far_errors([outdir: place[1], checkpoint_store: place[2], tensorboard: place[3]], place[0])
}

def memory() {
    def told = file('needs.json')
    def empty = file('empty.json')
    [MEMORY]*.toBytes()
}

def schedules(values) {
    def rows = study_rows(values)
    def plan = plan_rows(rows)
    def starts = plan.collectEntries { row -> [row, node_of(plan, start_trajectories([row])[0])] }
    def cycles = starts.collectMany { row, start ->
        next_trajectories(plan, start).collect { next -> [next.id, query_settings(row, next, start).cycles] }
    }
    def sizes = starts.collectEntries { row, start ->
        def trajectories = (0..<row.cycles).collect { cycle ->
            start + [cycle: cycle, strategy: (cycle ? row.strategies[0] : row.start).name]
        }
        [start.id, trajectories.collect { trajectory -> query_settings(row, trajectory, start).size }]
    }
    def firsts = starts.collectEntries { row, start ->
        [start.id, query_settings(row, start_trajectories([row])[0], start).subMap(['strategy', 'class_guarantee'])]
    }
    def kept = ['start.csv', 'same.csv', 'test.txt', null].collect { name -> kept_file(name).toString() }
    def splits = plan.collectEntries { row ->
        [row.dataset, [prepare: options(prepare_settings([row])), check: options(check_settings([row]))]]
    }
    [cycles: cycles, sizes: sizes, firsts: firsts, kept: kept, splits: splits, told: schedule_warnings(values, rows)]
}

def preflight() {
    def now = 1000000L
    def times = [now - 3600000, now - 3000, now + 30000, now + 63000, now + 160000]
    def crashed = [exit: 139, folder: file('task'), fatal: false, at: now]
    def seen = [started: now, token: 'token', patience: 0, node: 'launcher', tasks: [PREFLIGHT_GPU: crashed]]
    def finding = [check: 'work folder', state: 'ok', what: 'seen', remedy: '', wrote: "${file('there')}", time: 0]
    [
        clocks: times.collect { time -> clock_cells(time, now, now + 60000) },
        seen: finding_line(seen, [at: now], 'node (cpu)', finding),
        unseen: finding_line(seen, [at: now], 'node (cpu)', finding + [wrote: "${file('nowhere')}"]),
        crashed: task_lines(seen, 'PREFLIGHT_GPU', 'gpu'),
    ]
}
"""

# What is asked for, and the GiB that are due: a query needs 9.5 and 2 for each core, a training 1.
MEMORY = {
    "memory_of([attempt: 1, executor: 'slurm'], 8, needs_of(told).query)": 10,
    "memory_of([attempt: 1, executor: 'slurm'], 8, needs_of(told).query, 4)": 18,
    "memory_of([attempt: 2, executor: 'slurm'], 8, needs_of(told).query, 4)": 36,
    "memory_of([attempt: 40, executor: 'local'], 8, needs_of(told).query, 4)": ceil(THERE / GIB),
    "memory_of([attempt: 1, executor: 'slurm'], 8, needs_of(told).train)": 8,
    "memory_of([attempt: 1, executor: 'slurm'], 4, needs_of(empty).query, 4)": 4,
    "memory_of([attempt: 3, executor: 'slurm'], 8)": 24,
}

# Work folder, results, store, whether trainings write into the results.
PLACES = {
    "near": ["/work", "results", "checkpoints", True],
    "far": ["s3://bucket/work", "results", "checkpoints", False],
    "whole": ["s3://bucket/work", "/mnt/results", "/mnt/checkpoints", True],
    "bucket": ["s3://bucket/work", "s3://bucket/results", "s3://bucket/checkpoints", False],
    "store": ["/work", "results", "s3://bucket/checkpoints", False],
    "watched bucket": ["/work", "s3://bucket/results", "checkpoints", True],
    "no mount": ["/work", "/results,old", "checkpoints", True],
}

# A study: what schedules are told of cycles; test sets, first patches, folds, numbers of patches that are given.
SCHEDULES = (
    "input,dataset,regime,cycles,strategies,test_cases,query_size,start_queries,folds_file,initial_weights,plans\n"
    + "".join(
        f"phantom,a,{regime},{cycles},{names},,,,,,\n"
        for regime, cycles, names in (
            ("one", 3, '"random,clasp_pe,clasp_pe:steps=5"'),
            ("two", 4, "clasp_pe:cap=2"),
            ("new", 4, "clasp_pe"),
            ("same", 5, "clasp_pe"),
        )
    )
    + "".join(
        f'phantom,{name},main,3,random,{given},"4, 6",{more}\n'
        for name, given, more in (
            ("b", "test.txt", "start.csv,,,plans.json"),
            ("c", "cases.csv", "same.csv,folds.csv,,"),
            ("d", "imagesTs", ",folds.csv,weights.pth,"),
        )
    )
)
FILES = {
    "start.csv": "rank,case",
    "same.csv": "rank,case",
    "folds.csv": "case,fold",
    "weights.pth": "",
    "plans.json": "{}",
    "test.txt": "\ufeff# held out\n\n  it's_1 \ncase, 2\n#case_3\ncase_4",
    "cases.csv": '\ufeffcase,group,split,z\ncase_1,p,test,3\ncase_2,p,pool,3\n"case, 3",q,test,4\n',
    "none.txt": "# case_1\n",
}
GIVEN = {
    "b": {"start_queries": ["start.csv", "given_1"], "plans": ["plans.json", "given_2"]},
    "c": {"start_queries": ["same.csv", "given_1"], "folds_file": ["folds.csv", "given_2"]},
    "d": {"folds_file": ["folds.csv", "given_1"], "initial_weights": ["weights.pth", "given_2"]},
}
SPLITS = {
    "a": "--test-fraction 0.25 --split-seed 12345",
    "b": "--test-case 'it'\\''s_1' --test-case 'case, 2' --test-case case_4",
    "c": "--test-case case_1 --test-case 'case, 3'",
    "d": "--test-folder",
}

# Parameters that are refused, and the lines that say why: whole, or with `..` their beginnings. `@` is the folder.
REFUSED: dict[str, tuple[dict[str, object], list[str]]] = {
    "strategies and places": (
        # What options strategies have, and what the data can give, CHECK tells (tests/unit/test_check.py).
        {
            "input": "@/data", "outdir": "@/file/results", "checkpoint_store": "/proc/checkpoints", "folds": 7,
            "start_size": 6, "strategies": "random,randon,randon,power_bald:bta=1,class_pe:cap,random",
            "start_strategy": "predictive_entropy", "seeds": "3,4,3", "cleanup_work": True, "publish_uncertainty": True,
            "test_cases": "@/none.txt", "query_size": "4,8", "cycles": 4, "warm_epochs": 5,
        },
        [
            "--outdir @/file/results: cannot write to..",
            "--checkpoint_store /proc/checkpoints: cannot write to /proc..",
            "--input @/data: no dataset.json in it..",
            "--test_cases @/none.txt: no test case in it; a text file with a case in each line, an earlier run's..",
            "--strategies: unknown strategy 'randon'; did you mean 'random'?",
            "--start_strategy predictive_entropy: it needs a model, and there is none at the start; use one of..",
            "--seeds: 3 is named twice..",
            "--query_size 4,8: 4 cycles have 3 queries; give one number for all, or one for each",
            "--start_size 6: 7 folds need at least one patch each..",
            "--warm_epochs 5: no training goes on from another; add --training_start previous or shrink_perturb",
            "--cleanup_work: it empties the maps that --publish_uncertainty wants to keep..",
        ],
    ),
    "a plan and a planner": (
        # What is wrong with the file itself, CHECK tells (tests/unit/test_own_plans.py).
        {
            "input": "phantom", "plans": "@/file", "planner": "nnUNetPlannerResEncM",
            "configuration": "3d_cascade_fullres",
        },
        [
            "--configuration 3d_cascade_fullres: must be one of 2d, 3d_fullres, 3d_lowres; nnU-Net's cascade..",
            "--planner nnUNetPlannerResEncM: --plans @/file is a plan already; leave one of them out",
        ],
    ),
    "strategies of a user's file": (
        # Whether a name is in the file is for CHECK to say; what maps it wants must be known before.
        {"input": "@/nowhere", "strategy_file": "@/own.py", "strategies": "mine:x=1", "start_strategy": "mine"},
        [
            "--input @/nowhere: no such folder..",
            "--start_strategy mine: it needs a model, and there is none at the start; use one of..",
        ],
    ),
    "several people where nobody labels": (
        {"input": "phantom", "double_read": 0.1, "blind": 0.1, "disagreement": "wait", "annotators": "ann"},
        [f"--{name}: it is for --oracle people" for name in ("double_read", "blind", "disagreement", "annotators")],
    ),
    "several people": (
        {"input": "phantom", "oracle": "people", "strategies": "bald", "blind": 0.1, "disagreement": "rank"},
        [
            "--blind: a share of what --double_read names; give that too",
            "--disagreement rank: whose word counts? Name the annotators, first who counts most: --annotators ann,ben",
        ],
    ),
    "several people by name": (
        {
            "input": "phantom", "oracle": "people", "strategies": "bald", "disagreement": "majority",
            "annotators": "ann, ben,ann", "double_read": 1.5,
        },
        [
            "--double_read 1.5: must be at most 1",
            "--annotators: it is for --disagreement rank",
            "--annotators: ann stands in it twice",
        ],
    ),
    "no names": (
        {
            "input": "phantom", "oracle": "people", "strategies": "bald", "disagreement": "rank",
            "annotators": "ann,,ben",
        },
        ["--annotators ann,,ben: names with commas between are wanted..", "--disagreement rank: whose word counts.."],
    ),
    "no input": ({}, ["--input is missing.."]),
    "no strategy file": (
        {"input": "phantom", "strategies": "mine", "plan": True, "strategy_file": "@/x.py"},
        ["--strategy_file @/x.py: no such file"],
    ),
    "a file as the folder": ({"input": "@/file"}, ["--input @/file: not a folder.."]),
    "rows with each other": (
        {
            "input": "dataset,input,regime,strategies,test_fraction,full_reference\n"
            "one,phantom,low,random,0.5,true\n"
            "one,phantom,low,randum,0.25,\n"
            "one,phantom,full,random,0.5,\n"
            "two,nowhere,low,random,,\n"
        },
        [
            "study.csv, row 2: strategies: unknown strategy 'randum'; did you mean 'random'?",
            "study.csv, row 4: input @/tables/rows with each other/nowhere: no such folder; "
            "an nnU-Net raw or a Decathlon folder is wanted, or 'phantom'",
            "study.csv, rows 1 and 2: both are data set one, regime low; give one another regime",
            "--regime full: --full_reference takes this name; choose another",
            "study.csv, rows 1 and 2 and 3: data set one has more than one test_fraction; "
            "name them apart (column dataset)",
        ],
    ),
    "tasks of the Decathlon": (
        {
            "input": "input,dataset\nmsd:Task04_Hipocampus,a\nmsd:Spleeen,b\nmsd:Heart,c\n",
            "download_dir": "/proc/downloads",
        },
        [
            "study.csv, row 1: input msd:Task04_Hipocampus: the Decathlon has no task of that name; "
            "did you mean msd:Task04_Hippocampus?",
            "study.csv, row 2: input msd:Spleeen: the Decathlon has no task of that name; did you mean msd:Spleen?",
            "study.csv, row 3: download_dir /proc/downloads: cannot write to /proc; "
            "is it a folder, and may you write to it?",
        ],
    ),
    "no data folder": (
        {"input": "regime,input\nlow,\nhigh,\n", "data": "@/nowhere"}, ["--data @/nowhere: no such folder"]
    ),
}  # fmt: skip

# What is no table: name, content, and what is said of it.
NO_TABLES = [
    ("study.csv", "dataset,regime\none,low,8\n", "row 1 has 3 cells, the header has 2"),
    ("study.csv", "dataset;input\none;phantom\n", "its cells are separated by semicolons"),
    ("study.csv", 'dataset,input,regime\none,phantom,"low\n', "Missing double-quote"),
    ("study.csv", "dataset,input\none,K\xf6rper\n", "not text in UTF-8"),
    ("study.json", '[{"dataset": ', "neither YAML nor JSON"),
    ("study.yml", "dataset: one\n", "a list of rows is wanted, each with `name: value` lines"),
]

PRESETS = {path.stem: path for path in STUDIES.glob("*.csv")}


def asked(folder: Path) -> dict[str, Any]:
    """All that is asked, with its files in the folder."""
    for name in ("data", "task", "results"):
        (folder / name).mkdir()
    for name in ("file", "empty.json"):
        (folder / name).touch()
    (folder / "own.py").write_text('MAPS: list[str] = [\n    "prediction",\n]\n\ndef mine(image):\n    pass\n')
    checks = {}
    for name, (given, _) in REFUSED.items():
        checks[name] = {key: here(folder, value) for key, value in given.items()}
        if "\n" in str(given.get("input")):
            checks[name]["input"] = str(table(folder, name, "study.csv", str(given["input"])))
    for i, (file, content, _) in enumerate(NO_TABLES):
        checks[f"no table {i}"] = {"input": str(table(folder, f"no table {i}", file, content))}
    for name, path in PRESETS.items():
        data = folder / "heads"
        checks[name] = {
            "input": str(path),
            "data": str(data if path.read_text().startswith("input") else data / "ACDC"),
        }
    checks["downloaded"] = {"input": str(STUDIES / "hippocampus.csv"), "data": "msd:Task04_Hippocampus"}
    for name in ("ACDC", "AMOS", "Hippocampus", "KiTS", "WORD", "LiTS", "MAMA-MIA", "ToothFairy2"):
        write_decathlon_head(folder / "heads" / name, decathlon_head(map(str, range(150))))

    need = {"query": {"bytes": int(9.5 * GIB), "each": 2 * GIB}, "train": {"bytes": GIB, "each": 0}}
    (folder / "needs.json").write_text(json.dumps({"cases": 2, "memory": need}))

    # The earlier run had 2 cycles in its first row, 5 in the others, and no third strategy.
    before = {
        "cycles": 5, "strategies": "clasp_pe", "study_row_1": {"cycles": "2", "strategies": "clasp_pe, random"},
        "study_row_2": {"strategies": "bald,clasp_pe:cap=2"}, "study_row_3": {"strategies": "random"},
        "study_row_4": {},
    }  # fmt: skip
    (folder / "results" / "parameters.json").write_text(json.dumps(before))
    study = table(folder, "schedules", "study.csv", SCHEDULES)
    schedules = {"input": str(study), "outdir": str(folder / "results"), "start_size": 12, "query_size": 8}
    for name, text in FILES.items():
        for place in (folder, study.parent):
            (place / name).write_text(text, encoding="utf-8")

    # A file that does not arrive, and a task that crashed in the middle of a check.
    (folder / "there").write_text("token")
    finding = {"check": "cores and memory", "state": "ok", "what": "enough", "remedy": "", "wrote": "", "time": 0}
    (folder / "task" / ".command.out").write_text(
        "preflight node: inner\npreflight folder: task\npreflight place: slurm, docker, image\n"
        f"preflight check: cores and memory\npreflight finding: {json.dumps(finding)}\npreflight check: GPU\n"
    )
    (folder / "task" / ".command.log").write_text(
        "bash: line 1: 7 Segmentation fault (core dumped)\npreflight node: gpu03\n"
    )
    return {"checks": checks, "far": PLACES, "schedules": schedules}


def here(folder: Path, value: object) -> object:
    return value.replace("@", str(folder)) if isinstance(value, str) else value


def table(folder: Path, name: str, file: str, content: str) -> Path:
    path = folder / "tables" / name / file
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="latin-1")
    return path


@pytest.fixture(scope="module", params=VERSIONS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the functions have said, and `folder`, where it was."""
    folder = tmp_path_factory.mktemp("functions")
    project = copy_project(folder / "project")
    (project / "main.nf").write_text(SCRIPT.replace("MEMORY", ", ".join(MEMORY)))
    (folder / "asked.json").write_text(json.dumps(asked(folder)))
    done = run_nextflow(folder, project=project, version=request.param, measured=False, timeout=600)
    assert done.returncode == 0, done.output
    return {**json.loads((folder / "told.json").read_text()), "folder": folder}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_why(told: dict[str, Any], name: str) -> None:
    found = told["checks"][name]["errors"]
    expected = [str(here(told["folder"], line)) for line in REFUSED[name][1]]
    assert len(found) == len(expected), found
    for line, text in zip(found, expected, strict=True):
        assert line == text or (text.endswith("..") and line.startswith(text[:-2])), line


@pytest.mark.parametrize("number", range(len(NO_TABLES)))
def test_what_is_no_table_says_so(told: dict[str, Any], number: int) -> None:
    name, _, line = NO_TABLES[number]
    (found,) = told["checks"][f"no table {number}"]["errors"]
    assert found.startswith(f"--input {told['folder']}/tables/no table {number}/{name}: {line}")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_accepted_and_its_rows_are_those_of_the_table(told: dict[str, Any], name: str) -> None:
    preset = told["checks"][name]
    assert preset["errors"] == []
    with PRESETS[name].open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(preset["rows"]) == len(table)
    for row, cells in zip(preset["rows"], table, strict=True):
        assert Path(row["input"]).name == cells.get("input", "ACDC")
        assert (row["dataset"], row["regime"]) == (cells["dataset"], cells["regime"])
        assert [strategy["name"] for strategy in row["strategies"]] == cells["strategies"].split(",")
        assert [str(seed) for seed in row["seeds"]] == cells["seeds"].split(",")
        for column in ("start_size", "query_size", "cycles", "folds", "epochs", "iterations", "test_fraction"):
            assert row[column] == pytest.approx(float(cells[column])), column


def test_a_preset_of_a_data_set_to_download(told: dict[str, Any]) -> None:
    downloaded = told["checks"]["downloaded"]
    assert downloaded["errors"] == []
    assert [row["input"] for row in downloaded["rows"]] == ["msd:Task04_Hippocampus"] * 3


def test_places_that_tasks_elsewhere_do_not_have(told: dict[str, Any]) -> None:
    mount = "the path of a file system that all tasks mount is wanted, such as /mnt/shared/checkpoints"
    assert told["far"] == {
        "near": [],
        "far": [
            "--outdir results: the work folder is s3://bucket/work; give a folder there too, or a whole path",
            f"--checkpoint_store checkpoints: {mount}",
        ],
        "whole": [],
        "bucket": [f"--checkpoint_store s3://bucket/checkpoints: {mount}"],
        "store": [f"--checkpoint_store s3://bucket/checkpoints: {mount}"],
        **{
            name: [
                f"--tensorboard: --outdir {PLACES[name][1]} must be a path of a file system, without any of "
                "* ? [ ] { } : , in it; leave --tensorboard out, or give another"
            ]
            for name in ("watched bucket", "no mount")
        },
    }


def test_memory_that_a_task_asks_for(told: dict[str, Any]) -> None:
    assert [ceil(value / GIB) for value in told["memory"]] == list(MEMORY.values())


def test_gpus_are_leased_on_this_machine_alone(told: dict[str, Any]) -> None:
    assert told["shares"] == ["export NNACTIVE_TASKS_PER_GPU=3", ""]


def test_cycles_are_told_to_schedules_alone_and_a_change_is_said(told: dict[str, Any]) -> None:
    assert told["schedules"]["cycles"] == [
        ["a-one-random-s12345", None], ["a-one-clasp_pe-s12345", 3], ["a-one-clasp_pe_steps_5-s12345", None],
        ["a-two-clasp_pe_cap_2-s12345", 4], ["a-new-clasp_pe-s12345", 4], ["a-same-clasp_pe-s12345", 5],
        *([f"{name}-main-random-s12345", None] for name in "bcd"),
    ]  # fmt: skip
    one, two = told["schedules"]["told"]
    assert [line.split(":")[0] for line in (one, two)] == ["study.csv, row 1", "study.csv, row 2"]
    assert "queries of clasp_pe change" in one and "3 instead of 2; clasp_pe:steps=2 queries as before" in one
    assert "4 instead of 5; clasp_pe:cap=2:steps=5 queries as before" in two


def test_patches_of_each_query(told: dict[str, Any]) -> None:
    assert told["schedules"]["sizes"] == {
        "a-one-s12345-c00": [12, 8, 8], "a-two-s12345-c00": [12, 8, 8, 8], "a-new-s12345-c00": [12, 8, 8, 8],
        "a-same-s12345-c00": [12, 8, 8, 8, 8], **{f"{name}-main-s12345-c00": [12, 4, 6] for name in "bcd"},
    }  # fmt: skip


def test_first_patches_that_are_given_are_a_replay_without_the_guarantee(told: dict[str, Any]) -> None:
    drawn = {"strategy": "random_fg33", "class_guarantee": True}
    for node, first in told["schedules"]["firsts"].items():
        if node.startswith(("b-", "c-")):
            assert first == {"strategy": "replay:path=start_queries", "class_guarantee": None}
        else:
            assert first == drawn
    start, same, other, none = told["schedules"]["kept"]
    assert Path(start).parent == told["folder"] / "work" / "given" and Path(start).read_text() == FILES["start.csv"]
    assert start == same != other and none == "[]"


def test_a_given_test_set_takes_the_place_of_the_split(told: dict[str, Any]) -> None:
    assert set(told["schedules"]["splits"]) == set(SPLITS)
    for name, given in told["schedules"]["splits"].items():
        (row, *_) = json.loads(re.findall(r"--rows '(.*?\])'", given["check"])[0])
        assert {parameter: [Path(path).name, place] for parameter, (path, place) in row["given"].items()} == (
            GIVEN.get(name, {})
        )
        assert given["prepare"].endswith(f" {SPLITS[name]}")
        assert ("--planner" in given["prepare"]) == ("plans" not in GIVEN.get(name, {}))
        starts = re.findall(r"--starts '(.*?\])'", given["prepare"])
        assert bool(starts) == ("initial_weights" in GIVEN.get(name, {}))
        for start in starts:
            (told_start,) = json.loads(start)
            assert Path(told_start.pop("shown")).name == "weights.pth"
            assert told_start == {
                "where": "study.csv, row 7",
                "path": "weights_1",
                "train_patch_size": None,
                "features": None,
            }
        assert given["check"].endswith(SPLITS[name].partition(" --split-seed")[0])


def test_clocks_that_differ(told: dict[str, Any]) -> None:
    behind, close, within, close_too, ahead = told["preflight"]["clocks"]
    assert [close, within, close_too] == [{"what": "agrees with the launcher's"}] * 3
    assert (behind["state"], behind["what"]) == ("warning", "3600 s or more behind the launcher's")
    assert ahead["what"] == "100 s or more ahead of the launcher's"


def test_a_file_that_does_not_arrive_and_a_task_that_crashed_in_a_check(told: dict[str, Any]) -> None:
    seen, unseen, crashed = (told["preflight"][name] for name in ("seen", "unseen", "crashed"))
    assert seen["state"] == "ok"
    assert unseen["state"] == "FAULT"
    assert "nowhere: written there, not seen by the launcher" in unseen["what"]
    assert [(line["state"], line["check"]) for line in crashed] == [
        ("ok", "task starts"), ("ok", "cores and memory"), ("FAULT", "GPU"), ("-", "not tried"),
    ]  # fmt: skip
    assert {line["where"] for line in crashed} == {"gpu03 (gpu)"}, "not the container's own name"
    assert crashed[2]["what"] == "exit status 139: bash: line 1: 7 Segmentation fault (core dumped)"
    assert crashed[2]["remedy"].endswith("/task/.command.log")
