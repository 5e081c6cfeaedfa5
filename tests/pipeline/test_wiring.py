"""How stages are strung together, by the trace of stub runs: how many tasks, which rest on which, what runs anew."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from conftest import NEXTFLOW_26, ROOT, VERSIONS, Run, copy_project, nextflow_program, run_nextflow

pytestmark = pytest.mark.pipeline

STUB = ("-profile", "test,stub", "-stub-run")
HANG = 900  # seconds after which a run counts as one that waits for labels that never come


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each test is run by both Nextflows; 26.04 stands for the strict syntax."""
    nextflow_program(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that stays the same while these tests run."""
    return copy_project(tmp_path_factory.mktemp("wiring") / "project")


def expected_tasks(
    strategies: int, with_model: int, seeds: int, cycles: int, folds: int, shards: int = 1, sets: int = 1
) -> Counter[str]:
    """Tasks of a plan: cycle 0 is shared, maps are made where a next query asks for them, at cycle 0 in `sets`."""
    nodes = seeds * (1 + strategies * (cycles - 1))
    predicted = seeds * ((sets if with_model else 0) + with_model * (cycles - 2)) if cycles > 1 else 0
    tasks = {
        "PHANTOM": 1, "CHECK": 1, "PREPARE": 1, "QUERY": nodes, "VIEWS": nodes, "ANNOTATE": nodes,
        "TRAIN": folds * nodes, "EVALUATE": nodes, "PREDICT": shards * predicted, "ANALYSE": 1, "REPORT": 1,
        "PROTOCOL": 2,
    }  # fmt: skip
    return Counter({name: number for name, number in tasks.items() if number})


# A site that gives its tasks more cores than they have by default: nothing runs anew for it.
CORES = "process { withName: 'PREPARE|QUERY|TRAIN|PREDICT|EVALUATE' { cpus = 2 } }\n"


def test_task_counts_and_a_run_that_changes_little(project: Path, tmp_path: Path, version: str) -> None:
    (tmp_path / "site.config").write_text(CORES)

    def run(*args: str, **params: object) -> Run:
        return run_nextflow(
            tmp_path, *STUB, *args, project=project, timeout=HANG, version=version,
            strategies="random,power_bald:beta=10", seeds="1,2", folds=2, shards=2, outdir="out", **params,
        )  # fmt: skip

    expected = expected_tasks(strategies=2, with_model=1, seeds=2, cycles=2, folds=2, shards=2)
    assert expected["TRAIN"] == 2 * 2 * (1 + 2)
    first = run(cycles=2)
    assert first.returncode == 0, first.output
    assert first.tasks("COMPLETED") == first.tasks() == expected
    wanted = {"native_id", "cpus", "memory", "workdir", "name", "realtime", "peak_rss"}
    assert wanted <= set(first.trace[0]) and all(
        row[key] != "-" for row in first.trace for key in wanted - {"peak_rss"}
    )

    results = tmp_path / "out"
    published = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}
    nodes = ["phantom-main-s1-c00", "phantom-main-random-s2-c01", "phantom-main-power_bald_beta_10-s1-c01"]
    for node in nodes:
        trajectory, cycle = node.rsplit("-", 1)
        assert {f"metrics/{node}.json", f"training/{node}/fold_1.json"} <= published
        assert {f"labels/{trajectory}/labels_{cycle}.h5", f"queries/{trajectory}/query_{cycle}.csv"} <= published
        assert f"queries/{trajectory}/query_{cycle}_mm.csv" in published
    assert {"report.html", "cases.csv", "parameters.json", "versions.json", "tables/metrics.csv"} <= published
    assert not (results / "models").exists() and not (results / "uncertainty").exists()
    assert json.loads((results / "parameters.json").read_text())["seeds"] == "1,2"

    # A command that is refused leaves the results and reports of this run alone.
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results.rglob("*") if path.is_file()}
    assert len(list((results / "pipeline_info").iterdir())) == 3  # and the trace, which the test has elsewhere
    assert run("-resume", cycels=2).returncode != 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before

    # What a parameter does not touch stays as it was, other cores change nothing; what it touches runs anew.
    other = run(
        "-resume", "-c", "site.config", cycles=2, nsd_tolerance_mm=3, publish_models=True, publish_uncertainty=True,
    )  # fmt: skip
    assert other.returncode == 0, other.output
    anew = Counter({"EVALUATE": expected["EVALUATE"], "ANALYSE": 1, "REPORT": 1, "PROTOCOL": 1})
    assert other.tasks("COMPLETED") == anew
    assert other.tasks("CACHED") == expected - anew
    assert {row["cpus"] for row in other.trace if "EVALUATE" in row["name"]} == {"2"}
    assert json.loads((results / "parameters.json").read_text())["nsd_tolerance_mm"] == 3
    assert len(list((results / "models").rglob("checkpoint.pth"))) == expected["TRAIN"]
    assert len(list((results / "uncertainty").rglob("*.h5"))) == expected["PREDICT"]


def test_no_prediction_without_maps_and_one_cycle_is_the_start_alone(
    project: Path, tmp_path: Path, version: str
) -> None:
    (tmp_path / "study.csv").write_text(
        "input,regime,strategies,seeds,cycles\n"
        'phantom,no_maps,"random,random_fg33,random_fg66",1,2\n'
        'phantom,start,bald,"1,2",1\n'
    )
    done = run_nextflow(
        tmp_path, *STUB, project=project, timeout=HANG, version=version, measured=False, input="study.csv"
    )
    assert done.returncode == 0, done.output
    alone = expected_tasks(strategies=1, with_model=1, seeds=2, cycles=1, folds=2)
    once = Counter({name: alone[name] for name in ("PHANTOM", "CHECK", "PREPARE", "ANALYSE", "REPORT", "PROTOCOL")})
    expected = expected_tasks(strategies=3, with_model=0, seeds=1, cycles=2, folds=2) + alone - once
    assert done.tasks("COMPLETED") == expected
    assert "PREDICT" not in expected


def test_code_and_data_are_followed_by_their_files(project: Path, tmp_path: Path, version: str) -> None:
    """A stage's code by its own files alone, not by the folder of compiled modules; a data set by each of its files.

    Nextflow looks at a folder's own time only; a label file that changes must run everything anew.
    """
    mine = copy_project(tmp_path / "project")
    raw = tmp_path / "Task01 Two"
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
        for case in range(6):
            (raw / name / f"case_{case}.nii.gz").write_bytes(b"")
    (raw / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}}))

    def completed(*args: str) -> Counter[str]:
        done = run_nextflow(
            tmp_path, *STUB, *args, project=mine, timeout=HANG, version=version, measured=False, input=raw,
            strategies="random", cycles=1,
        )  # fmt: skip
        assert done.returncode == 0, done.output
        return done.tasks("COMPLETED")

    assert completed() == expected_tasks(1, 0, 1, 1, 2) - Counter({"PHANTOM": 1})
    assert (tmp_path / "results/metrics/Task01_Two-main-s12345-c00.json").is_file()
    (mine / "bin/nnactive_nf/query/__pycache__").mkdir()
    (mine / "bin/nnactive_nf/query/__pycache__/grid.cpython-311.pyc").write_bytes(b"0")
    (mine / "bin/evaluate.py").write_text((mine / "bin/evaluate.py").read_text() + "\n")
    assert set(completed("-resume")) == {"EVALUATE", "ANALYSE", "REPORT"}
    (raw / "labelsTr" / "case_3.nii.gz").write_bytes(b"changed")
    assert completed("-resume")["PREPARE"] == 1


def test_a_fault_ends_the_run_and_resume_goes_on_from_there(tmp_path: Path, version: str) -> None:
    """One fold fails for good, one evaluation is killed once and is tried again."""
    mine = copy_project(tmp_path / "project")
    into_stub(
        mine / "modules" / "train.nf",
        f'[[ "${{node.id}} ${{fold}}" != "phantom-main-random-s1-c01 1" || -e {tmp_path}/mended ]] || exit 3',
    )
    into_stub(
        mine / "modules" / "evaluate.nf",
        f'[[ "${{node.id}}" != "phantom-main-s1-c00" || -e {tmp_path}/killed ]] '
        f"|| {{ touch {tmp_path}/killed; exit 137; }}",
    )
    metrics = """'{"mean": {"foreground": {"dice": 0.7${node.cycle}4${node.seed}}}}'"""
    module = mine / "modules" / "evaluate.nf"
    module.write_text(module.read_text().replace("touch ${node.id}.json", f"echo {metrics} > ${{node.id}}.json"))
    params = {"strategies": "random,bald", "seeds": "1,2", "cycles": 3, "version": version}
    expected = expected_tasks(strategies=2, with_model=1, seeds=2, cycles=3, folds=2)

    failed = run_nextflow(tmp_path, *STUB, project=mine, timeout=HANG, **params)
    assert failed.returncode != 0
    assert "-resume" in failed.stdout.splitlines()[-1]
    faults = [(row["name"].rpartition(":")[2], row["exit"]) for row in failed.trace if row["status"] == "FAILED"]
    assert ("TRAIN (phantom-main-random-s1-c01 fold 1)", "3") in faults
    assert set(faults) <= {
        ("TRAIN (phantom-main-random-s1-c01 fold 1)", "3"), ("EVALUATE (phantom-main-s1-c00)", "137")
    }  # fmt: skip
    assert "ANALYSE" not in failed.tasks()

    (tmp_path / "mended").touch()
    done = run_nextflow(tmp_path, *STUB, "-resume", project=mine, timeout=HANG, **params)
    assert done.returncode == 0, done.output
    fine = done.tasks("CACHED") + done.tasks("COMPLETED")
    assert fine == expected
    again = {row["name"] for row in done.trace if row["status"] == "COMPLETED"}
    kept = {row["name"] for row in done.trace if row["status"] == "CACHED"}
    assert any(name.endswith("TRAIN (phantom-main-random-s1-c01 fold 1)") for name in again)
    # What had succeeded is not run again. (A task that succeeded in its second attempt is: nextflow-io/nextflow#6884.)
    before = {row["name"] for row in failed.trace if row["status"] == "COMPLETED" and row["attempt"] == "1"}
    assert before <= kept
    retried = [row for row in failed.trace + done.trace if row["name"].endswith("EVALUATE (phantom-main-s1-c00)")]
    assert {"FAILED", "COMPLETED"} <= {row["status"] for row in retried}

    # What the terminal says: every node once, and not again what was there before.
    first, second = progress_lines(failed), progress_lines(done)
    assert re.fullmatch(r"start s[12]   cycle 0 of 2: trains on 12 patches, shared by 2 strategies", first[0])
    assert "random s1  cycle 1 of 2: trains on 20 patches" in first
    assert not any(line.startswith(("random s1  cycle 1 of 2: mean", "All ")) for line in first)
    evaluated = [line.split(";")[0] for line in first + second if " mean Dice 0." in line]
    assert len(set(evaluated)) == len(evaluated)
    assert "random s1  cycle 1 of 2: mean Dice 0.714 (0.704 at the start)" in evaluated
    assert "10 of 10 ensembles done" in second[-4]
    (before,) = re.findall(r"All 10 ensembles are evaluated, (\d+) of them by an earlier run", second[-3])
    assert int(before) == 10 - len([line for line in second if " mean Dice 0." in line])
    assert second[-2:] == ["random  0.704  0.724", "bald    0.704  0.724"]


def progress_lines(run: Run) -> list[str]:
    """What a run says of its nodes, trajectories and ensembles."""
    return [line for line in run.stdout.splitlines() if re.search(r"  cycle \d of| ensembles |  0\.\d{3}$", line)]


def into_stub(module: Path, line: str) -> None:
    head, stub = module.read_text().split("    stub:\n")
    module.write_text(f"{head}    stub:\n" + stub.replace('"""\n', f'"""\n    {line}\n', 1))


def test_a_dozen_strategies_in_bounded_memory(project: Path, tmp_path: Path) -> None:
    """12 strategies x 2 seeds x 4 cycles x 5 folds: Nextflow has a heap of 384 MB, or this ends with an error.

    Run once, by the newer Nextflow where there is one.
    """
    registry = ROOT / "bin/nnactive_nf/core/strategies.json"
    names = [entry["name"] for entry in json.loads(registry.read_text())]
    names = [name for name in names if name not in ("replay", "coverage")][:9]
    models = len([name for name in names if not name.startswith("random")])
    strategies = [*names, "power_bald:beta=5", "power_bald:beta=10", "power_bald:beta=20"]
    done = run_nextflow(
        tmp_path, *STUB, project=project, timeout=1500, version=VERSIONS[NEXTFLOW_26.exists()], measured=False,
        env={"NXF_OPTS": "-Xmx384m"}, strategies=",".join(strategies), seeds="1,2", cycles=4, folds=5,
    )  # fmt: skip
    assert done.returncode == 0, done.output[-3000:]
    expected = expected_tasks(strategies=12, with_model=models + 3, seeds=2, cycles=4, folds=5, sets=3)
    assert done.tasks("COMPLETED") == expected
    assert done.tasks()["TRAIN"] == 370


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "NXF_DISABLE_CHECK_LATEST": "true", **more}


def test_lint(version: str) -> None:
    done = subprocess.run(
        [nextflow_program(version), "-log", "/dev/null", "lint", "main.nf", "workflows", "modules", "functions",
         "nextflow.config", "conf"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "had no errors" in done.stdout


def test_lint_finds_something(tmp_path: Path) -> None:
    (tmp_path / "wrong.nf").write_text("workflow {\n    main:\n    println unknown\n}\n")
    done = subprocess.run(
        [nextflow_program(), "-log", "/dev/null", "lint", "wrong.nf"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert done.returncode != 0


# A command in place of each of bin/*.py: it notes how it was called and makes what it was asked for.
RECORDER = """#!{python}
import json, os, pathlib, sys
name, words = pathlib.Path(sys.argv[0]).stem, sys.argv[1:]
found = dict(zip(words, words[1:]))
note = dict(name=name, words=words, threads=os.environ.get("OMP_NUM_THREADS"),
            bytecode=os.environ.get("PYTHONDONTWRITEBYTECODE"))
pathlib.Path(".note.json").write_text(json.dumps(note))
folders = dict(phantom=["--out"], prepare=["--out"], train=["--out"], analyse=["--out"], report=["--figures"],
               query=["--places"], export=["--out"])
files = dict(check=["--out"], prepare=["--oracle", "--reference"], query=["--out"], views=["--out"],
             annotate=["--out"],
             predict=["--out"], evaluate=["--out"], report=["--out", "--versions-out"])
inside = dict(phantom=["dataset.json", "groups.csv"], prepare=["cases.csv"], train=["training.json", "checkpoint.pth"],
              analyse=["metrics.csv"], report=["curve.png"], query=["mm.csv"], export=["made"])
for option in folders.get(name, []):
    folder = pathlib.Path(found[option])
    folder.mkdir(parents=True)
    for file in inside.get(name, []):
        (folder / file).write_text(name)
content = "" if name == "check" else name  # no sizes are known
for option in files.get(name, []):
    path = pathlib.Path(found[option])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
"""


# What would be told to a cloud, written where a test can read it.
LABELS = """
process.ext.resource_labels = [team: 'Radiology']
process.beforeScript = { '# labels ' + groovy.json.JsonOutput.toJson(task.resourceLabels) }
"""


STRATEGIES = "random,random_fg66,mine:power=2,bald"


class Call:
    """How one task called its command."""

    def __init__(self, note: Path) -> None:
        content = json.loads(note.read_text())
        self.name: str = content["name"]
        self.words: list[str] = content["words"]
        self.threads: str = content["threads"]
        self.bytecode: str = content["bytecode"]
        script = (note.parent / ".command.run").read_text()
        self.labels: dict[str, str] = json.loads(re.findall(r"# labels (.*)", script)[0])

    def __getitem__(self, option: str) -> str:
        return self.words[self.words.index(option) + 1]

    def __contains__(self, option: str) -> bool:
        return option in self.words


# In place of bin/query.py and bin/views.py (which is late): as the real ones they refuse maps that were emptied; apart
# from that recorders.
READER = """#!{python}
import pathlib, sys, time
from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.uncertainty import refuse_emptied
maps = [pathlib.Path(word) for word in sys.argv[1:] if word.startswith("uncertainty_")]
time.sleep(2 if pathlib.Path(sys.argv[0]).stem == "views" else 0)
reports_user_errors(refuse_emptied)(maps)
"""

# A site's cores by label, on a machine that has them.
SITE = """
executor {{ cpus = 16; memory = '900 GB'; pollInterval = '100 ms' }}
process {{
    resourceLimits = [cpus: 16]
    withLabel: '.*' {{ memory = 64.MB }}
    withLabel: 'gpu' {{ cpus = {gpu} }}
    withLabel: 'cpu' {{ cpus = {cpu} }}
}}
"""


@pytest.fixture(scope="module")
def recorded(version: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Runs whose commands are recorders: all options given, a strategy of one's own, and maps emptied when read."""
    folder = tmp_path_factory.mktemp("calls")
    mine = copy_project(folder / "project")
    for path in (mine / "bin").glob("*.py"):
        text = RECORDER.format(python=sys.executable)
        if path.stem == "predict":
            text = text.replace("write_text(content)", "write_bytes(os.urandom(1000000))")
        if path.stem in ("query", "views"):
            text = READER.format(python=sys.executable) + text.partition("\n")[2]
        path.write_text(text)
        path.chmod(0o755)
    with (mine / "nextflow.config").open("a") as config:
        config.write(LABELS)
    own = folder / "my strategies.py"
    own.write_text(
        'MAPS = ["mean_probability"]\n\ndef mine(image, power=1):\n    return image.map("mean_probability")[1]\n'
    )
    trainer = folder / "my trainer.py"
    trainer.touch()

    (folder / "held out.txt").write_text("it's_1_a\n")
    (folder / "folds.csv").write_text("case,fold\n")
    (folder / "it's weights.pth").touch()
    (folder / "it's plans.json").touch()

    def run(*args: str, strategies: str, gpu: int, cpu: int) -> Run:
        (folder / "site.config").write_text(SITE.format(gpu=gpu, cpu=cpu))
        return run_nextflow(
            folder, "-profile", "test", "-c", "site.config", *args, project=mine, timeout=HANG, version=version,
            measured=False, strategies=strategies, strategy_file=own, trainer_file=trainer, seeds=7, cycles=3, folds=2,
            shards=2, patch_size="4, 8, 8", stride=8, learning_rate="3e-3", group_pattern=r"^(it's_\d+)_",
            cleanup_work=True, publish_product="last", publish_labels="nifti",
            publish_predictions="test,pool,probabilities", test_cases="held out.txt", folds_file="folds.csv",
            initial_weights=folder / "it's weights.pth", training_start="shrink_perturb", warm_epochs=1,
            stop_training="plateau:3", compile="auto", plans=folder / "it's plans.json",
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def first_run(recorded: Callable[..., Run]) -> Run:
    done = recorded(strategies=STRATEGIES, gpu=3, cpu=2)
    assert done.returncode == 0, done.output
    return done


@pytest.fixture(scope="module")
def calls(first_run: Run) -> list[Call]:
    """How the tasks of the first run have called their commands."""
    return [Call(path) for path in (first_run.folder / "work").glob("*/*/.note.json")]


def commands() -> dict[str, click.Command]:
    """The real commands by the stage's name."""
    found = {}
    for path in sorted((ROOT / "bin").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"command_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[path.stem] = module.main
    return found


def test_the_commands_take_what_the_workflow_gives_them(
    calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("metrics", "labels", "queries", "oracle", "training", "tables", "views"):
        (tmp_path / name).mkdir()  # folders that must be there when options are read
    monkeypatch.chdir(tmp_path)
    real = commands()
    for call in calls:
        real[call.name].make_context(call.name, list(call.words))
    elsewhere = {"compare", "download", "forecast", "measure", "preflight", "relabel"} | {
        "hand_out",
        "receive",
        "stop",
    }  # test_people.py, test_stopping.py
    assert {call.name for call in calls} == set(real) - elsewhere


def test_the_data_set_is_prepared_with_its_patients(calls: list[Call]) -> None:
    (call,) = [call for call in calls if call.name == "prepare"]
    assert call["--group-pattern"] == r"^(it's_\d+)_"
    assert call["--groups"] == "groups.csv"
    assert call["--plans"] == "plans.json" and "--planner" not in call and "--plans-before" not in call
    assert call["--test-case"] == "it's_1_a" and "--test-fraction" not in call
    assert (call["--name"], call["--workers"], call["--input"]) == ("phantom", "2", "raw")
    assert call.threads == "1"
    assert {call["--workers"] for call in calls if call.name == "query"} == {"2"}


def by_node(calls: list[Call], name: str) -> dict[str, Call]:
    found = {call["--node"]: call for call in calls if call.name == name}
    assert found
    return found


def test_queries_are_told_what_their_strategy_may_see(calls: list[Call]) -> None:
    queries = by_node(calls, "query")
    start = queries["phantom-main-s7-c00"]
    assert "--start" in start and "--class-guarantee" in start and "--oracle" in start
    assert "--labels" not in start
    assert (start["--strategy"], start["--cycle"], start["--size"]) == ("random_fg33", "0", "12")
    assert (start["--patch-size"], start["--stride"]) == ("4,8,8", "8")
    assert not any("--cycles" in call for call in queries.values())  # which a schedule alone is told
    for node, call in queries.items():
        if node == "phantom-main-s7-c00":
            continue
        assert "--start" not in call and "--class-guarantee" not in call
        assert call["--size"] == "8"
        assert ("--oracle" in call) == ("random_fg66" in node)
        assert ("--strategy-file" in call) == ("mine" in node)
        read = "mean_probability" if "mine" in node else "expected_entropy-predictive_entropy"
        assert maps_in(call) == ([] if "random" in node else [f"uncertainty_{read}_{shard}.h5" for shard in "01"])
        before = call["--labels"].removeprefix("labels/").removesuffix(".h5")
        assert before == ("phantom-main-s7-c00" if node.endswith("c01") else node.replace("-c02", "-c01"))
    assert queries["phantom-main-mine_power_2-s7-c01"]["--strategy"] == "mine:power=2"


def test_pictures_are_made_of_each_query_with_the_maps_that_it_has_read(calls: list[Call]) -> None:
    queries, pictures = by_node(calls, "query"), by_node(calls, "views")
    assert set(pictures) == set(queries)
    for node, call in pictures.items():
        assert call["--query"] == queries[node]["--out"] == f"{node}.csv"
        assert [call[name] for name in ("--strategy", "--cycle")] == [
            queries[node][name] for name in ("--strategy", "--cycle")
        ]
        assert call["--patches"] == "6"
        assert maps_in(call) == maps_in(queries[node])


def maps_in(call: Call) -> list[str]:
    return [word for word in call.words if word.startswith("uncertainty_")]


def test_labels_grow_from_the_labels_before(calls: list[Call]) -> None:
    annotations = by_node(calls, "annotate")
    assert "--labels" not in annotations["phantom-main-s7-c00"]
    for node, call in annotations.items():
        assert call["--query"] == f"{node}.csv"
        if not node.endswith("c00"):
            before = call["--labels"].rpartition("/")[2].removesuffix(".h5")
            assert before == ("phantom-main-s7-c00" if node.endswith("c01") else node.replace("-c02", "-c01"))


def test_each_set_of_maps_that_a_strategy_of_a_node_reads_is_made_by_itself(calls: list[Call]) -> None:
    predictions = [call for call in calls if call.name == "predict"]
    assert Counter((call["--node"], call["--maps"]) for call in predictions) == {
        ("phantom-main-s7-c00", "mean_probability"): 2,
        ("phantom-main-s7-c00", "expected_entropy,predictive_entropy"): 2,
        ("phantom-main-mine_power_2-s7-c01", "mean_probability"): 2,
        ("phantom-main-bald-s7-c01", "expected_entropy,predictive_entropy"): 2,
    }
    assert sorted(call["--shard"] for call in predictions) == sorted("01" * 4)
    for call in predictions:
        assert call["--out"] == f"{call['--node']}/uncertainty_{call['--maps'].replace(',', '-')}_{call['--shard']}.h5"


def test_trainings_and_predictions_get_all_folds_in_order_and_their_settings(calls: list[Call]) -> None:
    for call in calls:
        if call.name in ("predict", "evaluate"):
            assert call.words[-2:] == ["fold_0", "fold_1"]
        if call.name in ("train", "predict", "evaluate"):
            assert (call["--threads"], call.threads, call["--device"]) == ("3", "3", "cpu")
        assert call.bytecode == "1"
    trainings = [call for call in calls if call.name == "train"]
    assert {call["--learning-rate"] for call in trainings} == {"0.003"}
    assert all(Path(call["--store"]).is_absolute() for call in trainings)
    assert len({call["--code"] for call in trainings}) == 1
    assert {call["--labels"] for call in trainings} == {f"{call['--node']}.h5" for call in trainings}


def test_a_fold_goes_on_from_the_same_fold_of_the_node_before(calls: list[Call], first_run: Run) -> None:
    """At cycle 0 it starts from the user's weights; strategies share that node, and each goes on from it."""
    folders = {path.parent for path in (first_run.folder / "work").glob("*/*/.note.json")}
    seen: dict[tuple[str, str], str] = {}
    for folder in folders:
        call = Call(folder / ".note.json")
        if call.name != "train":
            continue
        node, fold = call["--node"], call["--fold"]
        assert call["--stop-training"] == "plateau:3"
        if node.endswith("c00"):
            assert "--training-start" not in call and "--before" not in call and call["--epochs"] != "1"
            assert call["--initial-weights"] == "weights/it's weights.pth"
            continue
        assert "--initial-weights" not in call
        assert (call["--training-start"], call["--epochs"], call["--before"]) == ("shrink_perturb", "1", "before")
        seen[node, fold] = "/".join((folder / "before").resolve().parts[-2:])
    before = {"c01": "phantom-main-s7-c00", "c02": ""}
    assert seen == {
        (f"{stem}-{cycle}", fold): f"{before[cycle] or f'{stem}-c01'}/fold_{fold}"
        for stem in {node.rpartition("-")[0] for node, _ in seen} for cycle in before for fold in "01"
    }  # fmt: skip
    assert len(seen) == 4 * 2 * 2
    (prepare,) = [call for call in calls if call.name == "prepare"]
    assert "--starts" not in prepare  # a trainer file may build another network, which TRAIN looks at
    (check,) = [call for call in calls if call.name == "check"]
    (row, *_) = json.loads(check["--rows"])
    assert row["given"]["initial_weights"] == [f"{first_run.folder}/it's weights.pth", "given_3"]


def test_who_trains_or_loads_networks_is_given_the_trainer(calls: list[Call]) -> None:
    """Of EXPORT's calls those for segmentations and models."""
    for call in calls:
        loads = call.name in ("check", "train", "predict", "evaluate") or (call.words[:4].count("--what") and {
            "predictions", "model"
        }.intersection(call.words))  # fmt: skip
        assert ("--trainer-file" in call) == bool(loads), call.words
        if loads:
            assert call["--trainer-file"] == "trainers/my trainer.py"
    (check,) = [call for call in calls if call.name == "check"]
    assert check["--shown-trainer-file"].endswith("/my trainer.py")


def test_segmentations_are_made_with_the_settings_of_the_evaluation(calls: list[Call]) -> None:
    evaluations, segmented = by_node(calls, "evaluate"), [call for call in calls if "predictions" in call.words]
    for node, call in evaluations.items():
        assert call["--predictions"] == f"predictions/{node}/test" and "--probabilities" in call
    assert {call["--node"] for call in segmented} == {node for node in evaluations if node.endswith("-c02")}
    for call in segmented:
        like = evaluations[call["--node"]]
        assert (call["--tile-step"], "--no-mirroring" in call) == (like["--tile-step"], "--no-mirroring" in like)
        assert (call["--threads"], call["--device"], call.words[-2:]) == ("3", "cpu", ["fold_0", "fold_1"])
    models = [call for call in calls if "model" in call.words]
    assert {call["--out"] for call in models} == {f"product/{call['--node'][:-4]}/model" for call in segmented}
    assert all(call.words[-2:] == ["fold_0", "fold_1"] for call in models)


def test_tasks_carry_labels_that_clouds_allow(calls: list[Call]) -> None:
    own = {"team": "Radiology", "pipeline": "nnactive-nf"}
    for call in calls:
        assert own.items() <= call.labels.items() and call.labels["stage"] in (call.name, "segment")
        for key, value in call.labels.items():
            assert re.fullmatch("[a-z]+", key)
            assert key == "team" or re.fullmatch("[a-z0-9]([a-z0-9_-]{,61}[a-z0-9])?", value), value
    node = {"dataset": "phantom", "regime": "main", "seed": "7"}
    training = by_node(calls, "train")["phantom-main-mine_power_2-s7-c02"]
    assert training.labels.items() >= {**node, "strategy": "mine-power-2", "cycle": "2"}.items()
    assert {call.labels["fold"] for call in calls if call.name == "train"} == {"0", "1"}
    assert {call.labels["shard"] for call in calls if call.name == "predict"} == {"0", "1"}
    start = by_node(calls, "query")["phantom-main-s7-c00"]
    assert start.labels.items() >= {**node, "strategy": "random_fg33", "cycle": "0"}.items()
    assert by_node(calls, "evaluate")["phantom-main-s7-c00"].labels.items() >= {**node, "strategy": "start"}.items()


# The last of those that look at the first run: it goes on with it.
def test_cleanup_empties_the_maps_and_resume_goes_on(first_run: Run, recorded: Callable[..., Run]) -> None:
    def maps() -> dict[Path, os.stat_result]:
        found = (first_run.folder / "work").rglob("uncertainty_*.h5")
        return {path: path.stat() for path in found if not path.is_symlink()}

    emptied = maps()
    assert len(emptied) == first_run.tasks()["PREDICT"] == 8
    assert {stat.st_size for stat in emptied.values()} == {1000000}
    assert sum(stat.st_blocks for stat in emptied.values()) == 0

    # With one more strategy, and with other cores, all is found again, but its query needs the maps that BALD has read,
    # and says which folders to delete. Then they are made anew, and emptied anew.
    refused = recorded("-resume", strategies=f"{STRATEGIES},power_bald", gpu=1, cpu=4)
    assert refused.returncode != 0
    assert refused.tasks("SUBMITTED") <= Counter({"CHECK": 1, "QUERY": 1, "PROTOCOL": 1})
    assert refused.tasks("CACHED")["PREDICT"] >= 2
    (told,) = {line.strip() for line in refused.output.splitlines() if "was emptied by --cleanup_work" in line}
    folders = [Path(folder) for folder in re.findall(r"rm -r (\S+) (\S+)\)", told)[0]]
    start = [path for path in emptied if "phantom-main-s7-c00" in str(path)]
    assert folders == sorted(path.parents[1] for path in start if "entropy" in path.name)
    for folder in folders:
        shutil.rmtree(folder)
    mended = recorded("-resume", strategies=f"{STRATEGIES},power_bald", gpu=1, cpu=4)
    assert mended.returncode == 0, mended.output
    # Of the start, and of what rests on them; nothing of `mine`, which has read others
    assert mended.tasks("COMPLETED")["PREDICT"] == 2 * (1 + 2)
    assert set(emptied) < set(maps())
    assert sum(stat.st_blocks for stat in maps().values()) == 0


def test_products_come_of_the_nodes_that_are_asked_for(project: Path, tmp_path: Path, version: str) -> None:
    """Models, segmentations, maps and labels for other tools; all else of the run comes from the cache."""

    def run(*args: str, **params: object) -> Run:
        return run_nextflow(
            tmp_path, *STUB, *args, project=project, timeout=HANG, version=version, measured=False,
            strategies="random,bald", seeds=1, cycles=2, folds=2, shards=2, outdir="out", **params,
        )  # fmt: skip

    def published() -> set[str]:
        results = tmp_path / "out"
        return {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}

    done = run(
        publish_product="last", publish_predictions="test,pool", publish_uncertainty="nifti",
        publish_labels="nifti,nnunet",
    )  # fmt: skip
    assert done.returncode == 0, done.output
    expected = expected_tasks(strategies=2, with_model=1, seeds=1, cycles=2, folds=2, shards=2)
    exports = Counter({"EXPORT": 2 + 1 + 3 + 2, "SEGMENT": 2})  # models, maps, labels in two forms
    assert done.tasks("COMPLETED") == expected + exports
    ends = ["phantom-main-bald-s1", "phantom-main-random-s1"]
    folders = ("product/", "predictions/", "uncertainty/", "labels/")
    assert {name for name in published() if name.startswith(folders) and not name.endswith(".h5")} == {
        *(f"product/{end}/model/model" for end in ends),
        *(f"predictions/{node}/test/case" for node in (*(f"{end}-c01" for end in ends), "phantom-main-s1-c00")),
        *(f"predictions/{end}-c01/pool/case" for end in ends),
        "uncertainty/phantom-main-s1-c00/uncertainty",
        "labels/phantom-main-s1/labels_c00/labels",
        *(f"labels/{end}/labels_c01/labels" for end in ends),
        *(f"labels/{end}/nnunet_raw/nnunet_raw" for end in ends),
    }


def test_the_best_product_is_that_of_the_highest_dice(tmp_path: Path, version: str) -> None:
    mine = copy_project(tmp_path / "project")
    module = mine / "modules" / "evaluate.nf"
    head, stub, tail = module.read_text().partition('    stub:\n    """\n')
    dice = "${node.id.contains('random') ? 0.9 : 0.2}"
    told = f"""echo '{{"mean": {{"foreground": {{"dice": {dice}}}}}}}' > ${{node.id}}.json"""
    changed = tail.replace("touch ${node.id}.json", told)
    assert changed != tail
    module.write_text(head + stub + changed)
    done = run_nextflow(
        tmp_path, *STUB, project=mine, timeout=HANG, version=version, measured=False, strategies="bald,random",
        seeds="1,2", cycles=2, folds=2, publish_product="best",
    )  # fmt: skip
    assert done.returncode == 0, done.output
    assert done.tasks()["EXPORT"] == 1
    assert [path.name for path in (tmp_path / "results" / "product").iterdir()] == ["phantom-main-random-s1"]
