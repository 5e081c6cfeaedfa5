"""Which Nextflow becomes that of the project (setup/nextflow.sh), and what fetches the viewer (setup/niivue.sh)."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

MINIMUM = "25.04.0"
# What the script needs of a machine, beside the Nextflow and the Maven that a test puts there.
NEEDED = (
    "bash",
    "cat",
    "chmod",
    "cksum",
    "cp",
    "cut",
    "dirname",
    "grep",
    "head",
    "ln",
    "mkdir",
    "mktemp",
    "mv",
    "paste",
    "rm",
    "sed",
    "sha256sum",
    "sort",
    "tar",
    "tr",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has nothing set up, and in `bin` all that its machine has on PATH."""
    shutil.copytree(ROOT / "setup", tmp_path / "setup")
    shutil.copy(ROOT / "nextflow.config", tmp_path)
    (tmp_path / "bin").mkdir()
    for name in NEEDED:
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    program(tmp_path / "bin/java", """echo 'openjdk version "17.0.1" 2021-10-19' >&2""")
    return tmp_path


def program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)


def nextflow(project: Path, version: str) -> Path:
    path = project / "bin" / "nextflow"
    program(
        path, f"printf '\\n      N E X T F L O W\\n      version {version} build 5950\\n      created 16-06-2025\\n'"
    )
    return path


def set_up(project: Path, script: str = "nextflow.sh") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(project / "setup" / script)], env={"PATH": f"{project}/.tools/bin:{project}/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_manifest_stops_an_older_nextflow_than_set_up_takes():
    assert f"nextflowVersion = '!>={MINIMUM}'" in (ROOT / "nextflow.config").read_text()


@pytest.mark.parametrize("version", ["25.04.0", "25.04.10", "25.10.2", "26.04.6"])
def test_one_on_path_is_taken(project: Path, version: str):
    found = nextflow(project, version)
    for _ in range(2):  # also where set-up's own launcher is on PATH
        done = set_up(project)
        assert (done.returncode, done.stderr) == (0, "")
        assert (project / ".tools/bin/nextflow").readlink() == found
        (project / ".tools/nextflow/stamp").unlink()


@pytest.mark.parametrize("version", ["24.10.6", "25.03.1-edge", "9.1.0", ""])
def test_an_old_one_is_not_taken_and_without_maven_set_up_ends(project: Path, version: str):
    found = nextflow(project, version)
    done = set_up(project)
    assert done.returncode == 1
    old, missing = done.stderr.splitlines()
    assert f"{found} is version {version or 'unknown'}, this workflow needs {MINIMUM} or newer" in old
    assert re.search(rf"neither Nextflow {MINIMUM} or newer nor Maven is on PATH. Install one", missing)
    assert not (project / ".tools/bin/nextflow").exists()


def test_mavens_takes_the_place_of_an_old_one_with_the_class_that_it_lacks(project: Path):
    """Maven and Java note what they are asked for."""
    nextflow(project, "24.10.6")
    version = (project / "bin/java").read_text().splitlines()[1]
    program(project / "bin/java", f'if [ "$1" = -version ]; then {version}; else echo "java $*" >> {project}/asked; fi')
    program(
        project / "bin/mvn",
        f'echo "mvn $*" >> {project}/asked\n'
        """for word; do case $word in -DoutputDirectory=*) mkdir -p "${word#*=}" ;; esac; done""",
    )
    done = set_up(project)
    assert done.returncode == 0, done.stderr
    assert "taking Maven's instead" in done.stderr
    asked = (project / "asked").read_text().splitlines()
    lib = f"{project}/.tools/nextflow/lib"
    assert [line.split()[0] for line in asked] == ["mvn", "java", "java", "java"]
    assert asked[1].endswith(f"-d {lib}/trace {project}/setup/nextflow/TraceUtils.groovy")
    assert asked[2].endswith(f"Pack.groovy {lib}/trace {lib}/trace.jar")
    assert f"-XX:ArchiveClassesAtExit={project}/.tools/nextflow/classes.jsa" in asked[3]
    assert asked[3].endswith(f"run {project}/main.nf --help")
    launcher = project / ".tools/bin/nextflow"
    assert not launcher.is_symlink()
    assert '-cp "$here/nextflow/lib/*"' in launcher.read_text()
    assert set_up(project).stderr == "", "nothing is done twice"


@pytest.mark.parametrize("folder", ["containers", "tests"])
def test_each_locked_package_has_hashes_and_installs_want_them(folder: str):
    lock = (ROOT / folder / "requirements.txt").read_text()
    packages = re.split(r"^(?=[A-Za-z0-9._-]+==)", lock, flags=re.MULTILINE)[1:]
    assert len(packages) > 15
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert "://" not in lock, "no index of a machine"
    for path in ("setup/venv.sh", "containers/Containerfile", "containers/nnactive.def"):
        assert "--require-hashes" in (ROOT / path).read_text()


CODE = b"the viewer"


def viewer(project: Path, digest: str) -> tuple[Path, Path]:
    """A project that wants the viewer of this digest; where images and the venv take it from."""
    for name in ("gzip", "rm", "touch"):
        link = project / "bin" / name
        link.exists() or link.symlink_to(str(shutil.which(name)))
    script = project / "setup/niivue.sh"
    script.write_text(re.sub(r"^want=.*$", f"want={digest}", script.read_text(), flags=re.MULTILINE))
    shutil.copytree(ROOT / "containers/niivue", project / "containers/niivue", ignore=shutil.ignore_patterns("*.js"))
    (project / ".venv").mkdir()
    (project / "packed/package/dist").mkdir(parents=True)
    (project / "packed/package/dist/niivue.umd.js").write_bytes(CODE)
    program(project / "bin/npm", f"echo $* >> {project}/asked; tar -czf viewer.tgz -C {project}/packed package")
    return project / "containers/niivue/niivue.umd.js", project / ".venv/share/niivue/niivue.umd.js"


def test_the_viewer_is_fetched_once_and_put_where_images_and_the_venv_look(project: Path):
    places = viewer(project, hashlib.sha256(CODE).hexdigest())
    for _ in range(2):
        done = set_up(project, "niivue.sh")
        assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [path.read_bytes() for path in places] == [CODE] * 2
    assert "Niivue" in (project / ".venv/share/niivue/LICENSE").read_text()
    assert re.fullmatch(r"pack --silent @niivue/niivue@\d+\.\d+\.\d+\n", (project / "asked").read_text())


@pytest.mark.parametrize(
    ("npm", "line"),
    [
        ("", "npm is missing"),
        ("exit 1", "npm could not fetch"),
        (None, "has not the digest that"),
    ],
)
def test_set_up_goes_on_without_the_viewer_and_says_so(project: Path, npm: str | None, line: str):
    places = viewer(project, "0" * 64)
    if npm == "":
        (project / "bin/npm").unlink()
    elif npm is not None:
        program(project / "bin/npm", npm)
    done = set_up(project, "niivue.sh")
    assert done.returncode == 0
    assert line in done.stderr.splitlines()[-1]
    assert done.stderr.endswith("; annotation pages will have no pen\n")
    assert not any(path.exists() for path in places)
