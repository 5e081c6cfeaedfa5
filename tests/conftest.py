"""What all tests share: where things are, the phantom, Nextflow as a user calls it, and who runs beside whom."""

from __future__ import annotations

import csv
import fcntl
import gc
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
NEXTFLOW = ROOT / ".tools" / "bin" / "nextflow"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# Tests that start whole programs of their own.
HEAVY = ("pipeline", "slow", "browser", "cluster", "hippocampus")

# The workflow's version, as images are named by it: the manifest's.
VERSION = re.findall(r"^ *version = '(.*)'", (ROOT / "nextflow.config").read_text(), flags=re.MULTILINE)[0]

# The cluster that setup/cluster.sh makes on this machine, and the image that its tests run in.
SLURM_CONF = ROOT / ".tools" / "slurm" / "slurm.conf"
IMAGE = ROOT / ".tools" / f"nnactive-nf-{VERSION}.sif"

# Newer Nextflow and the plugins of Seqera Platform lie beside the project where they are at all.
NEXTFLOW_VERSIONS = Path(os.environ.get("NEXTFLOW_VERSIONS_DIR", ROOT.parent / "shared" / "nextflow"))
NEXTFLOW_26 = Path(os.environ.get("NEXTFLOW_26", NEXTFLOW_VERSIONS / "26.04.6" / "nextflow"))

# The Nextflow of `make setup`, whose parser is the old one, and the newer one, whose parser is the strict one.
VERSIONS = ("25.04", "26.04")

# What a test may lack on a machine. With CI=true all of it is required, the newer Nextflow where its folder is there: a
# test that would skip for want of it fails. NNACTIVE_REQUIRED (names with commas or blanks) says otherwise.
PARTS = ("nextflow", "nextflow-versions", "chromium", "niivue", "slurm", "apptainer", "podman", "hippocampus")

# What a real cluster is spared: jobs are asked for every two seconds, and root has no rights beyond its user namespace.
HERE = """
apptainer.runOptions = '--userns'
executor {
    pollInterval = '2 sec'
    queueStatInterval = '2 sec'
    submitRateLimit = '20/1sec'
    exitReadTimeout = '20 sec'
}
"""

QUIET = "".join(f"{report}.enabled = false\n" for report in ("trace", "report", "timeline", "dag"))

# The same examples at each run, and others with --hypothesis-seed: a number, or `random` for a new one each time.
settings.register_profile("project", deadline=None, derandomize=True, print_blob=False)
settings.register_profile("seeded", settings.get_profile("project"), derandomize=False, database=None)
settings.load_profile("project")


def required_parts(environment: Mapping[str, str]) -> frozenset[str]:
    """The parts that this machine has promised to have."""
    if "NNACTIVE_REQUIRED" in environment:
        required = frozenset(re.findall(r"[^,\s]+", environment["NNACTIVE_REQUIRED"]))
        if unknown := required.difference(PARTS):
            raise pytest.UsageError(
                f"NNACTIVE_REQUIRED: unknown {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}"
            )
        return required
    if environment.get("CI") != "true":
        return frozenset()
    return frozenset(PARTS if NEXTFLOW_VERSIONS.is_dir() else set(PARTS) - {"nextflow-versions"})


def lacks(part: str, why: str) -> NoReturn:
    """Skip a test for want of one of `PARTS`, or fail it where that part is required."""
    assert part in PARTS, part
    if part in required_parts(os.environ):
        pytest.fail(f"{why}; {part} is required here, by CI=true or NNACTIVE_REQUIRED", pytrace=False)
    pytest.skip(why)


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads the seed and pytest-xdist hands it on
def pytest_configure(config: pytest.Config) -> None:
    required_parts(os.environ)  # a name that is not known is told at once
    seed = config.getoption("--hypothesis-seed")
    if seed == "random":
        config.option.hypothesis_seed = str(secrets.randbelow(1 << 32))
    if seed is not None:
        settings.load_profile("seeded")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.getoption("--hypothesis-seed")
    return None if seed is None else f"to see these examples again: --hypothesis-seed={seed}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Heavy files first, so that no worker is left with one at the end (each file's tests share a worker)."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in HEAVY))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector of garbage, which some libraries call, need not look at it again."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """At the end it tidies up as ever; else libraries tell of what it has left."""
    gc.unfreeze()


@dataclass(frozen=True)
class Command:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Run(Command):
    """How a `nextflow run` ended, and its trace (one row for each task) where it got as far."""

    folder: Path
    trace: list[dict[str, str]]

    def tasks(self, status: str | None = None) -> Counter[str]:
        """Number of tasks of each process (the name behind the last colon), of all or one `status`."""
        rows = (row for row in self.trace if status is None or row["status"] == status)
        return Counter(row["name"].split(" ")[0].rpartition(":")[2] for row in rows)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium."""
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return path
    lacks("chromium", "no Chromium on PATH (Debian: apt-get install chromium)")


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """The Decathlon's Hippocampus folder."""
    folder = Path(os.environ.get("HIPPOCAMPUS_DIR", ROOT.parent / "shared" / "data" / "Task04_Hippocampus"))
    if not (folder / "dataset.json").is_file():
        lacks("hippocampus", f"no Hippocampus data in {folder} (set HIPPOCAMPUS_DIR)")
    return folder


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 8 cases (4 patients), read only."""
    from nnactive_nf.phantom.folder import write_phantom

    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    write_phantom(folder, seed=1, cases=8)
    return folder


@pytest.fixture(scope="session")
def prepared(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `prepared/`, `oracle.h5` and `reference.h5` of the phantom, read only."""
    from nnactive_nf.prepare.run import Settings, prepare

    folder = tmp_path_factory.mktemp("prepared")
    settings = Settings("phantom", "3d_fullres", 0.25, 1, phantom / "groups.csv", None, folds=2, start_size=8)
    prepare(phantom, settings, 1, folder / "prepared", folder / "oracle.h5", folder / "reference.h5")
    return folder


@pytest.fixture(scope="session")
def labels_file(prepared: Path) -> Path:
    """Labels of cycle 0 for the prepared phantom: one patch of 8x16x16 around a foreground voxel in each pool case."""
    from patch_labels import write_patch_labels

    return write_patch_labels(prepared, prepared / "labels_c00.h5")


@pytest.fixture(scope="session")
def stage() -> Callable[..., Command]:
    """Run a stage's command as a task would: `stage("prepare", "--input", folder, ...)`."""

    def run(name: str, *args: object, cwd: Path | None = None, timeout: float = 600) -> Command:
        command = [sys.executable, str(ROOT / "bin" / f"{name}.py"), *map(str, args)]
        return _run(command, cwd or Path.cwd(), timeout, {})

    return run


@pytest.fixture
def nextflow(tmp_path: Path) -> Callable[..., Run]:
    """Run the workflow as a user does: `nextflow("-profile", "test", "-stub-run", strategies="random", cwd=folder)`.

    Keywords become parameters (`strategies=...` is `--strategies ...`, True is a bare option). The launch folder is
    the test's own; outdir is `results` and the work folder `work` in it, unless the arguments say otherwise.
    """

    def run(*args: object, cwd: Path | None = None, **options: Any) -> Run:
        return run_nextflow(cwd or tmp_path, *args, **options)

    return run


@pytest.fixture(scope="session")
def phantom_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The workflow run whole on the phantom, as `make demo` runs it, with real trainings; read only.

    All workers of pytest-xdist share one: the first runs it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "phantom_run"
    ended = folder / "ended.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ended.exists():
            done = run_nextflow(
                folder, "-profile", "test", publish_uncertainty=True, publish_models=True, tensorboard=True
            )
            ended.write_text(json.dumps(asdict(done), default=str))
    done = Run(**{**json.loads(ended.read_text()), "folder": folder})
    assert done.returncode == 0, done.output
    return done


@pytest.fixture(scope="session")
def slurm() -> dict[str, str]:
    """Variables that reach the SLURM of `setup/cluster.sh start`."""
    env = {"SLURM_CONF": str(SLURM_CONF), "PATH": f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}"}
    if not SLURM_CONF.exists() or not shutil.which("sinfo"):
        lacks("slurm", "no SLURM here (as root on Debian: setup/cluster.sh install; setup/cluster.sh start)")
    state = subprocess.run(["sinfo", "-h", "-o", "%T"], env={**os.environ, **env}, capture_output=True, check=False)
    if state.returncode != 0 or not state.stdout.strip():
        lacks("slurm", "SLURM does not answer (setup/cluster.sh start)")
    return env


@pytest.fixture(scope="session")
def apptainer_image() -> Path:
    """The image for Apptainer, packed or as a root folder."""
    if not (ROOT / ".tools" / "bin" / "apptainer").exists() or not IMAGE.exists():
        lacks("apptainer", "no Apptainer image here (setup/cluster.sh folder, or make sif)")
    return IMAGE


@pytest.fixture(scope="session")
def here_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings for this one-node cluster."""
    path = tmp_path_factory.mktemp("site") / "here.config"
    path.write_text(HERE)
    return path


def copy_project(folder: Path) -> Path:
    """The workflow without tools and environment, for a test to change."""
    folder.mkdir(parents=True)
    for name in ("main.nf", "nextflow.config", "nextflow_schema.json", "study_schema.json"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("workflows", "modules", "functions", "bin", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def nextflow_program(version: str = VERSIONS[0]) -> Path:
    """The Nextflow of one of `VERSIONS`: that of `make setup`, or a newer one that lies beside the project."""
    if version == VERSIONS[0] and not NEXTFLOW.exists():
        lacks("nextflow", "no .tools/bin/nextflow (make setup)")
    if version == VERSIONS[1] and not NEXTFLOW_26.exists():
        lacks("nextflow-versions", f"no Nextflow {version} in {NEXTFLOW_26} (set NEXTFLOW_26)")
    return {VERSIONS[0]: NEXTFLOW, VERSIONS[1]: NEXTFLOW_26}[version]


def nextflow_command(*args: object, project: Path = ROOT, version: str = VERSIONS[0], **params: object) -> list[str]:
    """The command line of a run."""
    command = [str(nextflow_program(version)), "run", str(project / "main.nf"), *map(str, args)]
    for name, value in params.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return [*command, "-with-trace", "trace_of_test.txt", "-ansi-log", "false"]


def run_nextflow(
    folder: Path,
    *args: object,
    timeout: float = 1200,
    env: dict[str, str] | None = None,
    project: Path = ROOT,
    version: str = VERSIONS[0],
    measured: bool = True,
    **params: object,
) -> Run:
    """Run the workflow in a launch folder, by one of the `VERSIONS` of Nextflow, and read its trace.

    Not `measured`, Nextflow writes no reports of its own, which take it longer than an empty task does: the trace is
    then what it prints, a name and COMPLETED (SUBMITTED in a run that failed) or CACHED for each task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = nextflow_command(*args, project=project, version=version, **params)
    trace = folder / "trace_of_test.txt"
    trace.unlink(missing_ok=True)
    if not measured:
        (folder / "quiet.config").write_text(QUIET)
        command = [word for word in command if word not in ("-with-trace", trace.name)] + ["-c", "quiet.config"]
    done = _run(command, folder, timeout, env or {})
    rows = _read_trace(trace) if measured else _printed_trace(done)
    return Run(done.returncode, done.stdout, done.stderr, folder, rows)


@cache
def ready_classes() -> dict[str, str]:
    """The newer Nextflow's classes, ready made by one start of it, as `make setup` has those of the other."""
    archive = ROOT / ".tools" / f"nextflow-{VERSIONS[1]}.jsa"
    with archive.with_suffix(".lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            subprocess.run(
                [NEXTFLOW_26, "-q", "run", ROOT / "main.nf", "--help"],
                cwd=folder,
                env={**os.environ, "NXF_JVM_ARGS": f"-XX:ArchiveClassesAtExit={archive}"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
    return {"NXF_JVM_ARGS": f"-XX:SharedArchiveFile={archive} -Xlog:cds=off,cds+dynamic=off"}


def _run(command: Sequence[str], cwd: Path, timeout: float, env: dict[str, str]) -> Command:
    quiet = {"NXF_DISABLE_CHECK_LATEST": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    ready = ready_classes() if command[0] == str(NEXTFLOW_26) else {}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **quiet, **ready, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Command(done.returncode, done.stdout, done.stderr)


def _printed_trace(done: Command) -> list[dict[str, str]]:
    status = {"Cached": "CACHED", "Submitted": "SUBMITTED" if done.returncode else "COMPLETED"}
    lines = re.findall(r"^\[../\w{6}\] (Cached|Submitted) process > (.+)$", done.stdout, flags=re.MULTILINE)
    return [{"name": name, "status": status[verb]} for verb, name in lines]


def _read_trace(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))
