"""The registry, the text that names a strategy, and the page that describes them."""

import json
import re
from pathlib import Path

import pytest

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.strategies import FILE, Named, registry
from nnactive_nf.core.uncertainty import MAPS
from nnactive_nf.query.run import STRATEGIES, choice_of

DOCS = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
TABLE = DOCS.split("## The strategies\n")[1].split("\n## ")[0]


def test_registry_and_code_name_the_same_strategies() -> None:
    entries = json.loads(FILE.read_text())
    assert [entry["name"] for entry in entries] == list(STRATEGIES)
    for entry in entries:
        assert set(entry) == {
            "name", "label", "paper_name", "description", "maps", "oracle_aware", "start", "view_map", "options"
        }  # fmt: skip
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
        ("blad", "unknown strategy 'blad': did you mean 'bald'"),
        ("zzz", "unknown strategy 'zzz': there are random"),
        ("", "it has no name"),
        ("bald:beta=1", "strategy 'bald' has no option 'beta'; its options are: cap"),
        ("random:beta=1", "its options are: none"),
        ("power_bald:beta", "is not option=value"),
        ("power_bald:beta=", "is not option=value"),
        ("power_bald:beta=1:beta=2", "given twice"),
        ("power_bald:beta=x", "'x' is not a number"),
        ("power_bald:beta=nan", "'nan' is not a number"),
        ("power_bald:beta=inf", "'inf' is not a number"),
        ("power_bald:beta=0", "0 is not more than 0"),
        ("power_bald:cap=1.5", "'1.5' is not a whole number"),
        ("power_bald:cap=0", "0 is less than 1"),
        ("clasp_pe:class_fraction=1.1", "1.1 is more than 1"),
        ("clasp_pe:schedule=linear", "'linear' is none of exponential, sigmoid"),
        ("replay", "strategy 'replay' needs the option 'path'"),
    ],
)
def test_mistakes_are_told(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        choice_of(text)
