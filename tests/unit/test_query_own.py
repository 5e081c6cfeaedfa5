"""Strategies from a user's file; the worked example of docs/strategies.md is run as it stands there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from conftest import ROOT
from pages import blocks
from scipy.ndimage import binary_dilation

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import Labels, empty_patches, write_labels
from nnactive_nf.query.pool import Candidate
from nnactive_nf.query.run import Settings, query

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
    return "\n\n".join(block.text for block in blocks(ROOT / "docs" / "strategies.md", "python"))


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
        # the line of the file, not of the library that it calls
        ("mine", MAPPED + "import json\ndef mine(image):\n return json.loads('{')\n", "JSONDecodeError in line 4: "),
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


CHOOSING = (
    "MAPS = []\nclass mine:\n def scores(self, image):\n  import numpy as np\n  return np.zeros(image.grid.counts)\n"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("box=type(best.box)((0, 0, 9), (4, 4, 4))", r"size_zyx=\(4, 4, 4\)\), outside the image a$"),
        ("box=type(best.box)((-1, 0, 0), (4, 4, 4))", "outside the image a$"),
        ("case='z'", "chose case z, which is not in the pool"),
    ],
)
def test_a_choice_outside_the_image_or_the_pool_is_told(run, change: str, message: str) -> None:
    code = CHOOSING + (
        " def choose(self, candidates, pool, size):\n  best, others = candidates[0], candidates[-5:]\n"
        f"  return [best._replace({change}), *others]\n"
    )
    with pytest.raises(UserError, match=message):
        run("mine", code)
    picks, *_ = run("mine", code.replace(change, "score=1"))  # all else is as it must be
    assert len(picks) == 6


PICKS = """
from nnactive_nf.core.geometry import Box
from nnactive_nf.query.pool import Candidate

def _pick(case, start, size=(4, 4, 4)):
    return Candidate(case, Box(start, size), 0.0)
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("picks[0] = _pick('a', (0, 0, 0), (4, 4, 3))", "chose a patch of (4, 4, 3) voxels in a; a patch has (4, "),
        ("picks[0] = _pick('a', (0, 0, 0), (4, 0, 4))", "chose a patch of (4, 0, 4) voxels in a"),
        ("picks[0] = _pick('a', (5, 7, 6))", "in a, of which more than 40% is free space (free_overlap)"),
        ("picks[0] = _pick('b', (4, 0, 0))", "chose 3 patches in b, which may give 2 (patches_per_image)"),
        ("picks[0] = tuple(picks[0])", "chose tuple ('a', "),
        ("picks[0] = _pick('a', (0, 0.5, 0))", "TypeError: 'float' object cannot be interpreted as an integer"),
        ("picks = None", "TypeError: 'NoneType' object is not iterable"),
    ],
)  # fmt: skip
def test_a_choice_against_the_rules_is_told(tmp_path: Path, change: str, message: str) -> None:
    """Two patches of an image, and 25 of a patch's 64 voxels may be free; in the last corner of image a 26 are."""
    path, free = tmp_path / "mine.py", np.zeros(SHAPES["a"], bool)
    free[5:, 7:, 6:] = (np.arange(64) < 26).reshape(4, 4, 4)

    def ask(change: str, free: np.ndarray) -> list[Candidate]:
        tiny.prepared(tmp_path / "prepared", SHAPES, empty={"a": free})
        path.write_text(
            CHOOSING + " def choose(self, candidates, pool, size):\n"
            "  picks = [_pick(case, (0, y, 0)) for case in 'abc' for y in (0, 4)]\n"
            f"  {change}\n  return picks\n" + PICKS
        )
        settings = Settings("mine", 1, 1, 3, 6, (4, 4, 4), per_image=2, free_overlap=0.4)
        return query(tmp_path / "prepared", settings, strategy_file=path)[0]

    with pytest.raises(UserError) as told:
        ask(change, free)
    assert str(told.value).startswith(f"{path}: strategy 'mine': {message if message[0] == 'c' else ''}")
    assert message in str(told.value) and "\n" not in str(told.value)
    assert len(ask("pass", free)) == 6
    free[5, 7, 6] = False
    assert len(ask("picks[0] = _pick('a', [5, 7, 6], [4, 4, 4])", free)) == 6


def test_a_strategy_with_maps_cannot_start(run) -> None:
    code = "def mine(image): return image.intensities()[0]\n"
    with pytest.raises(UserError, match="needs a trained model, so it cannot be the start strategy"):
        run("mine", MAPPED + code, start=True)
    assert len(run("mine", "MAPS = []\n" + code, start=True)[0]) == 6


@pytest.mark.parametrize(
    "code",
    [
        "MAPS = []\ndef mine(image): return image.oracle() * 1.0\n",
        CHOOSING + " def choose(self, candidates, pool, size):\n"
        "  return sorted(candidates, key=lambda c: -pool.image(c.case).oracle()[c.box.slices].sum())[:size]\n",
    ],
    ids=["in scores", "in choose"],
)
def test_a_strategy_sees_no_truth_after_the_class_guarantee(tmp_path: Path, code: str) -> None:
    tiny.oracle(tmp_path / "oracle.h5", tiny.prepared(tmp_path / "prepared", SHAPES))
    path = tmp_path / "mine.py"

    def ask(code: str):
        path.write_text(code)
        settings = Settings("mine", 1, 0, 3, 8, (4, 4, 4), start=True, class_guarantee=True)
        return query(tmp_path / "prepared", settings, strategy_file=path, oracle_file=tmp_path / "oracle.h5")[0]

    with pytest.raises(UserError, match="'mine' needs the ground truth"):
        ask(code)
    assert len(ask("MAPS = []\ndef mine(image): return image.intensities()[0]\n")) == 8


def test_a_strategy_sees_what_is_labelled_so_far(tmp_path: Path) -> None:
    """One patch of image b; the map is 1 where nobody has looked, and images without labels have no mask."""
    dataset = tiny.prepared(tmp_path / "prepared", SHAPES)
    mask = np.full(SHAPES["b"], dataset.classes.ignore_value, np.uint8)
    mask[:4, 4:8, :4] = 0
    types = empty_patches(dataset.classes).dtypes.to_dict()
    row = {"case": "b", "y": 4, "dz": 4, "dy": 4, "dx": 4, "strategy": "random", "component": "all"}
    patches = pd.DataFrame([dict.fromkeys(types, 0) | row]).astype(types)
    write_labels(tmp_path / "l.h5", Labels("tiny", "n", 0, dataset.classes, {"b": mask}, patches))
    path = tmp_path / "mine.py"
    path.write_text(
        "MAPS = []\nimport numpy as np\ndef mine(image):\n mask = image.labels()\n"
        " return np.zeros(image.shape_zyx) if mask is None else (mask == image.classes.ignore_value).astype(float)\n"
    )
    files = {"strategy_file": path, "labels_file": tmp_path / "l.h5"}
    picks, *_ = query(tmp_path / "prepared", Settings("mine", 1, 1, 3, 20, (4, 4, 4)), **files)
    of_b = [(pick.score, pick.box.start_zyx) for pick in picks if pick.case == "b"]
    assert [score for score, _ in of_b] == [1.0] * 11 and (0.0, 4, 0) not in [start for _, start in of_b]
    assert {pick.score for pick in picks if pick.case != "b"} == {0.0}


def test_options_in_any_order_are_one_strategy(run) -> None:
    """Random streams are keyed by the name, so another order must not be another draw."""
    code = (
        "MAPS = []\ndef mine(image, first=0, second=0):\n"
        " return image.rng().normal(first, 1 + second, size=image.shape_zyx)\n"
    )
    one, choice, _ = run("mine:second=2:first=1", code)
    other, same, _ = run("mine:first=1:second=2", code)
    assert choice.name == same.name == "mine:first=1:second=2"
    assert [pick[:3] for pick in one] == [pick[:3] for pick in other]
