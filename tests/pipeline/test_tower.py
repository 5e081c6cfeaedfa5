"""What Seqera Platform shows is there: every pattern of tower.yml matches a published file."""

from fnmatch import fnmatchcase

import pytest
import yaml
from conftest import ROOT, Run

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def test_every_pattern_of_tower_yml_matches_a_published_file(phantom_run: Run) -> None:
    results = phantom_run.folder / "results"
    published = [str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()]
    reports = yaml.safe_load((ROOT / "tower.yml").read_text())["reports"]
    assert reports
    for pattern, settings in reports.items():
        assert any(fnmatchcase(path, pattern) for path in published), pattern
        assert settings["display"]
