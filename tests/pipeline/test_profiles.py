"""Every profile resolves to its engine, executor, queue settings and GPU options, and the jobs' scripts say so."""

from __future__ import annotations

import functools
import itertools
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, VERSION, VERSIONS, nextflow_program, run_nextflow

from nnactive_nf import __version__

pytestmark = pytest.mark.pipeline

ENGINES = ("docker", "podman", "apptainer", "singularity", "charliecloud")
EXECUTORS = {
    "slurm": "slurm",
    "lsf": "lsf",
    "pbspro": "pbspro",
    "sge": "sge",
    "awsbatch": "awsbatch",
    "googlebatch": "google-batch",
    "azurebatch": "azurebatch",
    "k8s": "k8s",
}
# An engine for each executor, so that both are tried in one start of Nextflow; each engine is tried so.
ENGINE_OF = dict(zip(EXECUTORS, itertools.cycle(ENGINES)))
EXECUTOR_OF = {engine: executor for executor, engine in ENGINE_OF.items()}
OTHERS = ("standard", "gpu", "cpu", "test", "test_full", "hippocampus_cpu", "hippocampus_quick", "stub")


@functools.cache
def resolved(profile: str, site: Path | None = None, version: str = VERSIONS[0]) -> dict[str, str]:
    """What `nextflow config` says under a profile, by name without quotes."""
    laid_over = ["-c", str(site)] if site else []
    done = subprocess.run(
        [nextflow_program(version), "-log", "/dev/null", *laid_over, "config", "-flat", "-profile", profile, str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pairs = (line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    return {name.replace("'", ""): value for name, value in pairs}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_runs_the_image_and_hands_on_the_gpu_of_the_scheduler(engine):
    profile = resolved(f"{EXECUTOR_OF[engine]},{engine}")
    assert [name for name in ENGINES if profile.get(f"{name}.enabled") == "true"] == [engine]
    handed_on = profile[f"{engine}.envWhitelist"].strip("'").split(",")
    assert {"CUDA_VISIBLE_DEVICES", "https_proxy", "HTTPS_PROXY"} <= set(handed_on)
    assert "nnactive-nf" in profile["process.container"]
    assert "checkpoint_store" in profile["process.ext.store"]
    assert "task.ext.store" in profile["process.containerOptions"] or "closure" in profile["process.containerOptions"]


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_is_paced_and_asks_for_gpus(name):
    profile = resolved(f"{name},{ENGINE_OF[name]}")
    assert profile["process.executor"] == f"'{EXECUTORS[name]}'"
    assert profile["process.cache"] == "'lenient'"
    assert int(profile["executor.queueSize"]) >= 100
    for setting in ("submitRateLimit", "pollInterval", "queueStatInterval", "exitReadTimeout"):
        assert profile[f"executor.{setting}"]
    assert (profile["process.accelerator"] == "null") == (name == "azurebatch")


@pytest.mark.parametrize("name", [*(f"{name},{engine}" for name, engine in ENGINE_OF.items()), *OTHERS])
def test_a_profile_leaves_the_resources_of_the_labels_alone(name):
    """A block withLabel in a profile would replace the one in base.config; memory goes by the data."""
    profile = resolved(name)
    assert "process.withLabel:gpu.memory" not in profile
    for setting in ("cpus", "time"):
        assert f"process.withLabel:gpu.{setting}" in profile
    if name != "stub":
        assert profile["process.withLabel:gpu.maxRetries"] == "5"


def test_without_a_profile_tasks_run_here_and_in_no_container():
    profile = resolved("standard")
    assert profile.get("process.executor") in (None, "'local'")
    assert not [name for name in ENGINES if profile.get(f"{name}.enabled") == "true"]
    assert "process.accelerator" not in profile


def test_gpu_and_cpu_choose_the_device():
    assert resolved("gpu")["params.device"] == "'cuda'"
    assert "process.accelerator" in resolved("gpu")
    assert resolved("cpu")["params.device"] == "'cpu'"
    assert resolved("cpu")["process.ext.no_gpu"] == "true"


@pytest.mark.parametrize("version", VERSIONS)
def test_who_names_gpu_gets_it(version):
    for profile in ("test,gpu", "gpu,test", "gpu,hippocampus_cpu"):
        assert resolved(profile, version=version)["params.device"] == "'cuda'", profile
    assert resolved("test", version=version)["params.device"] == "'cpu'"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifest_and_the_reports_of_a_run_by_its_time(version):
    profile = resolved("test_full", version=version)
    assert profile["params.input"] == "'msd:Task04_Hippocampus'" and profile["params.cycles"] == "3"
    assert profile["manifest.license"] == "'Apache-2.0'" and "nnactive-nf authors" in profile["manifest.contributors"]
    names = [profile[f"{report}.file"] for report in ("trace", "timeline", "report", "dag")]
    found = [re.fullmatch(r"'results/pipeline_info/[a-z]+_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)\.\w+'", it) for it in names]
    assert all(found) and len({match[1] for match in found if match}) == 1
    # not those of the run before, which a command that is refused must not touch
    assert resolved("test", version=version)["trace.file"] != names[0]
    assert not any(profile.get(f"{report}.overwrite") == "true" for report in ("trace", "timeline", "report", "dag"))


def test_profiles_combine():
    together = resolved("slurm,apptainer,gpu,test")
    assert together["process.executor"] == "'slurm'"
    assert together["apptainer.enabled"] == "true"
    assert together["params.input"] == "'phantom'"


def test_the_study_of_hippocampus_trains_long_enough_to_learn_from_labels():
    """What docs/studies.md says of both profiles: the same data and queries, trained for two different questions."""
    study, quick = resolved("hippocampus_cpu"), resolved("hippocampus_quick")
    steps = [int(profile["params.epochs"]) * int(profile["params.iterations"]) for profile in (study, quick)]
    assert steps[0] >= 1500 > steps[1]
    assert study["params.full_reference"] == "true"
    assert len(study["params.seeds"].split(",")) >= 3
    assert int(study["params.cycles"]) >= 3
    for name in ("dataset", "patch_size", "test_fraction", "split_seed", "device"):
        assert study[f"params.{name}"] == quick[f"params.{name}"]


def test_the_image_has_the_version_of_the_workflow():
    for engine in ENGINES:
        assert VERSION in resolved(f"{EXECUTOR_OF[engine]},{engine}")["process.container"]
    assert f"ARG VERSION={VERSION}\n" in (ROOT / "containers/Containerfile").read_text()
    assert f"VERSION={VERSION}\n" in (ROOT / "containers/nnactive.def").read_text()
    assert f'version = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text()
    assert __version__ == VERSION


def test_the_site_example_has_the_last_word():
    site = resolved("slurm,apptainer,gpu", ROOT / "conf" / "site.example.config")
    assert site["process.container"] == f"'/shared/images/nnactive-nf-{VERSION}.sif'"
    assert site["process.withLabel:gpu.queue"] == "'gpu'"
    assert "a100" in str({key: value for key, value in site.items() if "withLabel:gpu.accelerator" in key})
    assert site["process.withLabel:gpu.maxRetries"] == "5"
    assert site["process.ext.cluster_options"] == "'--account=my_project --qos=normal'"
    assert "cluster_options" in site["process.clusterOptions"]


def job_script(folder: Path, profile: str, process: str, **params: object) -> str:
    """The script that a scheduler would get for the first task of a process.

    The workflow is one process under the project's own configuration, and the scheduler's commands refuse every job:
    what is looked at is the text that Nextflow wrote.
    """
    commands = folder / "commands"
    commands.mkdir(parents=True)
    for name in ("sbatch", "bsub", "qsub"):
        path = commands / name
        path.write_text("#!/bin/sh\nexit 1\n")
        path.chmod(0o755)
    mini = folder / "mini"
    mini.mkdir()
    (mini / "main.nf").write_text(
        f"process {process} {{\n    label '{'gpu' if process == 'TRAIN' else 'cpu_low'}'\n    script:\n    'true'\n}}\n"
        f"workflow {{\n    {process}()\n}}\n"
    )
    (mini / "nextflow.config").write_text(f"includeConfig '{ROOT}/nextflow.config'\nprocess.errorStrategy = 'finish'\n")
    path = f"{commands}:{os.environ['PATH']}"
    run_nextflow(folder, "-profile", profile, project=mini, env={"PATH": path}, timeout=900, **params)
    scripts = list((folder / "work").glob("*/*/.command.run"))
    assert len(scripts) == 1
    return scripts[0].read_text()


# What a shell would take apart, or run.
ODD = '-it\'s "here" $(touch RAN) `touch RAN` ;touch RAN; & a'


@pytest.mark.parametrize(
    ("profile", "process", "wanted", "unwanted"),
    [
        (
            "slurm,docker,gpu",
            "TRAIN",
            ["--gres=gpu:1", "--signal=B:USR2@60", "--shm-size 8g", "-v /tmp:/machine_tmp --gpus all"],
            [],
        ),
        ("slurm,docker,gpu", "REPORT", ["docker run"], ["--gres", "--gpus", "--shm-size", "/machine_tmp"]),
        ("lsf,singularity,gpu", "TRAIN", ["#BSUB -gpu num=1", "singularity exec", "-B /tmp:/machine_tmp --nv"], []),
        ("pbspro,podman,gpu", "TRAIN", ["ncpus=1", "ngpus=1", "-v /tmp:/machine_tmp --device nvidia.com/gpu=all"], []),
        ("sge,docker,cpu", "TRAIN", ["docker run", "--shm-size 8g"], ["-l gpu", "--gpus", "/machine_tmp"]),
        ("sge,apptainer", "TRAIN", ["#$ -l gpu=1", "apptainer exec"], []),
        ("slurm,charliecloud", "TRAIN", ["--gres=gpu:1", "ch-run"], []),
    ],
)
def test_job_scripts(tmp_path, profile, process, wanted, unwanted):
    store = f"/shared/{ODD}"
    watched = tmp_path / ODD
    script = job_script(tmp_path, profile, process, checkpoint_store=store, outdir=watched, tensorboard=True)
    for text in wanted:
        assert text in script, text
    for text in unwanted:
        assert text not in script, text
    if process == "TRAIN":  # which is given the store, as one word of its shell
        (line,) = [line for line in script.splitlines() if "/shared/-it" in line]
        mounted = store if {"apptainer", "singularity"}.intersection(profile.split(",")) else f"{store}:{store}"
        assert mounted in shlex.split(line)
        board = f"{watched}/tensorboard"
        assert mounted.replace(store, board) in shlex.split(line)
        assert re.search(r"pgrep -f \"\$NXF_TASK_WORKDIR/.command.sh\"", script)
    assert "CUDA_VISIBLE_DEVICES" in script
