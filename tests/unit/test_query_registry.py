"""The registry, the text that names a strategy, and the page that describes them."""

import json
import re
from pathlib import Path

import pytest

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.strategies import FILE, Named, list_errors, registry
from nnactive_nf.core.strategy_file import load_strategies
from nnactive_nf.core.uncertainty import MAPS
from nnactive_nf.query.run import STRATEGIES, choice_of

DOCS = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
TABLE = DOCS.split("## The strategies\n")[1].split("\n## ")[0]


def test_registry_and_code_name_the_same_strategies() -> None:
    entries = json.loads(FILE.read_text())
    assert [entry["name"] for entry in entries] == list(STRATEGIES)
    for entry in entries:
        assert set(entry) - {"scheduled", "comparable"} == {
            "name", "label", "paper_name", "description", "maps", "oracle_aware", "start", "view_map", "options"
        }  # fmt: skip
        assert entry.get("scheduled", False) == ("steps" in entry["options"])
        assert set(entry["maps"]) <= set(MAPS)
        assert entry["view_map"] in ("", "mutual_information", *entry["maps"])
        assert not (entry["start"] and entry["maps"])


def test_the_docs_have_every_strategy_with_its_options_and_defaults() -> None:
    for name, entry in registry().items():
        (row,) = [line for line in TABLE.splitlines() if line.startswith(f"| `{name}` |")]
        for option, rule in entry.options.items():
            wanted = f"`{option}`" if rule["default"] is None else f"`{option}` ({rule['default']})"
            assert wanted in row
        assert row.count("`") == 2 * (1 + len(entry.options))


def test_the_docs_set_every_strategy_beside_the_reference() -> None:
    (section,) = [part for part in DOCS.split("\n## ") if part.startswith("Beside the reference\n")]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {3}
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[0]) if name in registry()]
    assert sorted(named) == sorted(registry())


def test_options_are_typed_and_have_defaults() -> None:
    assert choice_of("power_bald").options == {"beta": 1, "cap": None}
    assert choice_of(" power_bald : beta = 2.5 : cap=3 ").options == {"beta": 2.5, "cap": 3}
    assert Named.parse("a:b=c=d") == Named("a", (("b", "c=d"),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blad", "--strategy: unknown strategy 'blad'; did you mean 'bald'?"),
        ("", "--strategy: unknown strategy ''; did you mean"),
        ("random_fg33:beta=1", "--strategy random_fg33:beta=1: random_fg33 has no options"),
        ("bald:beta=1", "--strategy bald:beta=1: unknown option 'beta' of bald; did you mean 'cap'?"),
        ("power_bald:bta=1", "unknown option 'bta' of power_bald; did you mean 'beta'?"),
        ("power_bald:beta", "power_bald:beta: 'beta' is no option with a value; write name:option=value"),
        ("power_bald:beta=", "'beta' is no option with a value"),
        ("power_bald:=2", "'' is no option with a value"),
        ("power_bald:beta=1:beta=2", "option 'beta' is given twice"),
        ("power_bald:beta=x", "beta x: must be a number"),
        ("power_bald:beta=nan", "beta nan: must be a number"),
        ("power_bald:beta=inf", "beta inf: must be a number"),
        ("power_bald:beta=-1", "--strategy power_bald:beta=-1: beta -1: must be more than 0"),
        ("power_bald:beta=0", "beta 0: must be more than 0"),
        ("power_bald:cap=1.5", "cap 1.5: must be a whole number"),
        ("power_bald:cap=0", "cap 0: must be at least 1"),
        ("clasp_pe:class_fraction=1.1", "class_fraction 1.1: must be at most 1"),
        (
            "clasp_pe:schedule=exponental",
            "schedule exponental: must be one of exponential, sigmoid; did you mean exponential?",
        ),
        ("replay", "--strategy replay: option 'path' is missing: Folder with"),
    ],
)
def test_mistakes_are_told(text: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        choice_of(text)


def test_all_that_is_wrong_with_a_list_is_said_at_once() -> None:
    texts = (
        "random,randon,power_bald:bta=1,power_bald,power_bald:beta=1,random,class_pe:cap=1:cap=2,"
        "bald:cap=1,bald:cap:1,bald:cap=1.0"
    )
    assert list_errors(texts.split(",")) == [
        "--strategies: unknown strategy 'randon'; did you mean 'random'?",
        "--strategies power_bald:bta=1: unknown option 'bta' of power_bald; did you mean 'beta'?",
        "--strategies class_pe:cap=1:cap=2: option 'cap' is given twice",
        "--strategies bald:cap:1: 'cap' is no option with a value; write name:option=value",
        "--strategies bald:cap:1: '1' is no option with a value; write name:option=value",
        "--strategies: random is named twice; name it once",
        "--strategies: power_bald and power_bald:beta=1 are one strategy; name it once",
        "--strategies: bald:cap=1 and bald:cap=1.0 are one strategy; name it once",
        "--strategies: bald:cap=1 and bald:cap:1 would have the same file names",
    ]
    assert list_errors(["random", "bald:cap=1", "bald:cap=2", "bald"]) == []


def test_a_users_file_adds_names_and_knows_its_options(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("MAPS: list[str] = []\n\ndef mine(image, margin=1):\n    pass\n")
    theirs = load_strategies(path, "--strategy_file own.py")
    assert theirs.maps == () and list(theirs.public) == ["mine"]
    assert list_errors(["mine", "mine:margin=2", "mine:margin=2.0", "mine:x=1", "mino", "mine:margin"], theirs) == [
        "--strategy_file own.py: options of strategy 'mine' do not fit mine(image, margin=1): "
        "got an unexpected keyword argument 'x'",
        "--strategies: unknown strategy 'mino'; did you mean 'mine'?",
        "--strategies mine:margin: 'margin' is no option with a value; write name:option=value",
        "--strategies: mine:margin=2 and mine:margin=2.0 are one strategy; name it once",
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            'MAPS = ["predictive_entropi"]\n\ndef mine(image):\n    pass\n\nclass bald:\n    pass\n',
            [
                "MAPS names 'predictive_entropi'; did you mean 'predictive_entropy'?",
                "'bald' is the name of a built-in strategy; take another",
            ],
        ),
        (
            "x = 1\n",
            [
                "no public function or class is defined in it",
                "no line MAPS = [...] that names the maps it needs; write MAPS = [] for none",
            ],
        ),
        ('MAPS = ["pre" + "diction"]\n\ndef mine(image):\n    pass\n', ["no line MAPS = [...] that names"]),
        ("MAPS = 3\n\ndef mine(image):\n    pass\n", ["no line MAPS = [...] that names"]),
        ("MAPS = []\n1 / 0\n", ["cannot be loaded (ZeroDivisionError: division by zero)"]),
    ],
)
def test_what_is_wrong_with_a_users_file(tmp_path: Path, code: str, expected: list[str]) -> None:
    path = tmp_path / "own.py"
    path.write_text(code)
    with pytest.raises(UserError) as told:
        load_strategies(path, "--strategy_file own.py")
    assert len(told.value.lines) == len(expected)
    for line, start in zip(told.value.lines, expected, strict=True):
        assert line.startswith(f"--strategy_file own.py: {start}")
