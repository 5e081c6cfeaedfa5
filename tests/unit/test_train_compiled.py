"""Whether a network is compiled, and what is said of it."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nnactive_nf.core.errors import UserError
from nnactive_nf.train.compiled import COMPILERS, WORTH_ITERATIONS, Compilation, compilation, lacking
from nnactive_nf.train.trainer import ActiveTrainer


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on PATH, with compilers of C and C++, and Python's header beside it."""
    for variable, names in COMPILERS.values():
        monkeypatch.delenv(variable, raising=False)
        (tmp_path / names[0]).touch(mode=0o755)
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "device", "iterations", "compiled", "why"),
    [
        ("off", "cuda", 10**6, False, "--compile off"),
        ("auto", "cpu", 10**6, False, "--compile auto compiles on a GPU alone"),
        ("auto", "cuda", WORTH_ITERATIONS - 1, False, "--compile auto: 9,999 iterations are to be run, it pays from"),
        ("auto", "cuda", WORTH_ITERATIONS, True, "--compile auto"),
        ("on", "cuda", 1, True, "--compile on"),
        ("on", "cpu", 1, True, "--compile on"),
    ],
)
def test_where_it_pays(tools: Path, asked: str, device: str, iterations: int, compiled: bool, why: str) -> None:
    found = compilation(asked, device, iterations)
    assert found.compiled == compiled and found.why.startswith(why)
    assert found.record() == {"compiled": compiled, "compiled_why": found.why}
    assert found.told == ("" if asked == "off" else f"the network is {'' if compiled else 'not '}compiled: {found.why}")


@pytest.mark.parametrize(("device", "compiler", "variable"), [("cuda", "gcc", "CC"), ("cpu", "g++", "CXX")])
def test_a_machine_that_cannot(
    tools: Path, device: str, compiler: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each device wants its own compiler, by the variable that torch reads or by the usual names."""

    def refused(what: str) -> None:
        with pytest.raises(
            UserError, match=f"^--compile on: torch.compile wants {what}.*; add it to the image, or use"
        ):
            compilation("on", device, 10**6)
        if device == "cuda":
            found = compilation("auto", device, 10**6)
            assert not found.compiled and found.why.startswith("--compile auto: torch.compile wants ")

    (tools / compiler).rename(tools / "mine")
    refused(rf"a compiler \({compiler.replace('+', '.')}, or what {variable} names\) on PATH")
    monkeypatch.setenv(variable, "mine")
    assert compilation("on", device, 1) == Compilation(True, "--compile on")
    (tools / "Python.h").unlink()
    refused("Python's header files")


@pytest.mark.skipif(lacking("cpu") != "", reason="torch.compile lacks what it wants here")
def test_the_compiled_network_is_the_same_and_so_is_its_state() -> None:
    """With kernels that are compiled for this CPU: outputs, gradients, and names of the weights."""
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.LeakyReLU(), torch.nn.Conv3d(2, 2, 1))
    x = torch.randn(2, 1, 5, 5, 5)
    trainer: Any = SimpleNamespace(network=network, _module=lambda: ActiveTrainer._module(trainer))

    def step() -> tuple[torch.Tensor, list[torch.Tensor]]:
        network.zero_grad()
        out = trainer.network(x)
        out.square().sum().backward()
        return out.detach(), [parameter.grad.clone() for parameter in network.parameters()]

    expected, gradients = step()
    ActiveTrainer.compile_network(trainer)
    assert trainer.network is not network and ActiveTrainer._module(trainer) is network
    found, compiled_gradients = step()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(compiled_gradients, gradients)
    assert list(ActiveTrainer._module(trainer).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
