"""Strategies from a user's file; the worked example of docs/strategies.md is run as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from scipy.ndimage import binary_dilation

from nnactive_nf.core.errors import UserError
from nnactive_nf.query.run import Settings, query

DOCS = Path(__file__).parents[2] / "docs" / "strategies.md"
SHAPES = {"a": (9, 11, 10), "b": (8, 12, 9), "c": (10, 10, 10)}


@pytest.fixture
def run(tmp_path: Path):
    dataset = tiny.prepared(tmp_path / "prepared", SHAPES)
    rng = np.random.default_rng(3)
    maps = {case: tiny.maps_of(rng, 2, 3, SHAPES[case]) for case in SHAPES}
    shard = tiny.uncertainty(tmp_path / "u.h5", dataset, maps)

    def ask(text: str, code: str, **changes):
        path = tmp_path / "mine.py"
        path.write_text(code)
        settings = Settings(text, 1, 1, 3, 6, (4, 4, 4), **changes)
        picks, _, choice = query(tmp_path / "prepared", settings, strategy_file=path, uncertainty_files=[shard])
        return picks, choice, maps

    return ask


def example() -> str:
    return "\n\n".join(re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL))


def test_the_function_of_the_docs_scores_by_its_map(run) -> None:
    picks, choice, maps = run("entropy_near_foreground:margin=1", example())
    assert choice.maps == ("predictive_entropy", "prediction")
    assert choice.name == "entropy_near_foreground:margin=1"
    assert len(picks) == 6
    for pick in picks:
        of_case = maps[pick.case]
        near = binary_dilation(of_case["prediction"] > 0, iterations=1)
        wanted = np.where(near, of_case["predictive_entropy"], 0)[pick.box.slices].mean(dtype=np.float64)
        assert pick.score == pytest.approx(wanted, abs=1e-9)
    assert [p.score for p in picks] == sorted((p.score for p in picks), reverse=True)


def test_the_class_of_the_docs_scores_positions(run) -> None:
    first, *_ = run("noised_entropy", example())
    again, *_ = run("noised_entropy", example())
    other, *_ = run("noised_entropy:spread=2", example())
    assert [p[:3] for p in first] == [p[:3] for p in again]
    assert [p[:3] for p in first] != [p[:3] for p in other]


def test_a_class_may_choose(run) -> None:
    code = (
        "MAPS = []\nclass last:\n def scores(self, image):\n  import numpy as np\n"
        "  return np.arange(np.prod(image.grid.counts)).reshape(image.grid.counts)\n"
        " def choose(self, candidates, pool, size):\n  return candidates[-size:]\n"
    )
    picks, choice, _ = run("last", code)
    assert len(picks) == 6 and choice.start
    assert {p.case for p in picks} == {"c"}  # of whose 8 candidates the two best, (6, 6, 6) and (6, 6, 2), are left out
    assert picks[0].box.start_zyx == (6, 2, 6)


MAPPED = 'MAPS = ["predictive_entropy"]\n'


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("mine", "def mine(image): return 1\n", "no line MAPS"),
        (
            "mine",
            'MAPS = ["entropie"]\ndef mine(image): return 1\n',
            "MAPS names 'entropie'; did you mean '",
        ),
        ("mine", "MAPS = []\ndef mine(image) return 1\n", "SyntaxError"),
        ("mine", "MAPS = []\nimport nothing_of_this_name\n", "ModuleNotFoundError"),
        ("min", MAPPED + "def mine(image): return 1\n", "did you mean 'mine'"),
        ("bald", MAPPED + "def bald(image): return 1\n", "name of a built-in strategy"),
        ("mine:x=1", MAPPED + "def mine(image): return 1\n", "do not fit mine"),
        ("mine", MAPPED + "def mine(image): return 1\n", r"returned map int64 of shape \(\)"),
        ("mine", MAPPED + "def mine(image): return image.map('predictive_entropy') * float('nan')\n", "not numbers"),
        ("mine", MAPPED + "def mine(image): return image.map('prediction')\n", "does not declare"),
        ("mine", MAPPED + "def mine(image): return image.oracle()\n", "needs the ground truth"),
        ("mine", MAPPED + "def mine(image):\n return 1 / 0\n", "ZeroDivisionError in line 3: division by zero"),
        (
            "mine",
            MAPPED
            + "class mine:\n def scores(self, image): return image.patch_means(image.map('predictive_entropy'))\n"
            + " def choose(self, candidates, pool, size): return [candidates[0]] * size\n",
            "intersects another",
        ),
        (
            "mine",
            MAPPED
            + "class mine:\n def scores(self, image): return image.patch_means(image.map('predictive_entropy'))\n"
            + " def choose(self, candidates, pool, size): return candidates[:1]\n",
            "chose 1 patches, 6 were asked for",
        ),
    ],
)
def test_mistakes_are_told(run, text: str, code: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(text, code)


def test_private_and_imported_names_are_no_strategies(run) -> None:
    code = MAPPED + "from math import sqrt\nfrom textwrap import dedent\ndef _help(): pass\ndef mine(image): return 1\n"
    for name in ("_help", "dedent", "sqrt"):
        with pytest.raises(UserError, match="unknown strategy"):
            run(name, code)
