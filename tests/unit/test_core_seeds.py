"""Random streams: the same for the same purpose, others for any other, whatever ran before."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.core.seeds import seed_sequence, stream

keys = st.lists(st.one_of(st.integers(0, 10_000), st.text(max_size=8)), max_size=3)
purposes = st.tuples(st.integers(0, 2**32), st.integers(0, 50), st.sampled_from(["query", "train", "folds"]), keys)


def draws(purpose) -> list[int]:
    seed, cycle, stage, names = purpose
    return stream(seed, cycle, stage, *names).integers(0, 2**62, 4).tolist()


@given(purposes)
def test_same_purpose_same_stream(purpose):
    first = draws(purpose)
    np.random.default_rng(0).normal(size=3)
    assert draws(purpose) == first


@given(purposes, purposes)
def test_other_purpose_other_stream(a, b):
    assert (draws(a) == draws(b)) == (a == b)


def test_a_number_and_its_text_are_two_keys():
    assert draws((1, 0, "query", [3])) != draws((1, 0, "query", ["3"]))
    assert draws((1, 0, "query", ["a", "b"])) != draws((1, 0, "query", ["b", "a"]))
    assert draws((1, 0, "query", ["ab"])) != draws((1, 0, "query", ["a", "b"]))


def test_streams_do_not_depend_on_the_process_and_stay_what_they_are(root):
    """The value is written down: a change to the seeding would silently change every published query."""
    code = "from nnactive_nf.core.seeds import stream; print(stream(12345, 1, 'query', 'case_a', 2).integers(0, 10**9))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(root / "bin"), "PYTHONHASHSEED": salt, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert outputs == {f"{stream(12345, 1, 'query', 'case_a', 2).integers(0, 10**9)}\n"} == {"963673203\n"}


def test_sequences_can_be_spawned_for_workers():
    children = seed_sequence(1, 2, "train", 0).spawn(2)
    assert children[0].generate_state(2).tolist() != children[1].generate_state(2).tolist()
