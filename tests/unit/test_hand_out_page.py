"""The annotation page without a browser: all in one file, nothing from the network, names that break no markup."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from nnactive_nf.hand_out import page
from nnactive_nf.hand_out.page import PageCase, PagePatch, niivue_text, page_text

SHAPE = (8, 7, 6)
CLASSES = [("liver", 3), ("background", 0), ("tumour", 7)]
AFFINE = np.diag([-1.5, 1.5, 3, 1])


def nifti(values: npt.NDArray, affine: npt.NDArray = AFFINE) -> bytes:
    return gzip.compress(nibabel.Nifti1Image(values, affine).to_bytes())


def start_of(*values: int) -> npt.NDArray[np.uint8]:
    start = np.full(SHAPE, 255, np.uint8)
    start[2:5, 2:5, 1:4] = 0
    start.flat[: len(values)] = values
    return start


@pytest.fixture
def case() -> PageCase:
    image = nifti(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    patch = PagePatch(1, (2, 2, 1), (5, 5, 4))
    return PageCase("case_1", [("CT", image)], nifti(start_of(3)), nifti(np.zeros(SHAPE, np.float32)), [patch])


def data_of(text: str) -> dict:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[0])


def test_all_that_is_shown_stands_in_the_page(case: PageCase) -> None:
    text = page_text("Query", [case], CLASSES, 255, "viewer();")
    data = data_of(text)
    (told,) = data["cases"]
    (channel,) = told["channels"]
    given = {told["start"]: case.start, told["uncertainty"]: case.uncertainty, channel["file"]: case.channels[0][1]}
    embedded = dict(re.findall(r'<script type="text/plain" id="(file-\d+)">(.*?)</script>', text))
    assert {name: base64.b64decode(found) for name, found in embedded.items()} == given
    assert told["patches"] == [{"number": 1, "low": [2, 2, 1], "high": [5, 5, 4], "reserve": False}]
    assert told["axes"] == ["L", "A", "S"]
    assert [(one["name"], one["value"]) for one in data["classes"]] == [("background", 0), ("liver", 3), ("tumour", 7)]
    assert [one["colour"] for one in data["classes"]] == ["#9aa0a6", "#0072b2", "#d55e00"]
    assert data["undecided"] == 255
    assert "<script>viewer();</script>" in text


def test_nothing_is_loaded_and_the_browser_is_told_to_load_nothing(case: PageCase) -> None:
    text = page_text("Query", [case], CLASSES, 255, niivue_text())
    assert re.findall(r'(?:src|href)=(?!"data:)', text.split('<script type="text/plain"')[0]) == []
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0]
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r"https?:|\*", policy)
    ours = "".join(path.read_text() for path in page.TEMPLATES.iterdir())
    assert not re.search(r"https?://", ours)


def test_names_break_no_markup(case: PageCase) -> None:
    nasty = "</script><script>alert(1)</script><!-- & \"'\u2028"
    named = replace(case, name=nasty, channels=[(nasty, case.channels[0][1])])
    text = page_text(nasty, [named], [("background", 0), (nasty, 3)], 255, "a = '</script>';")
    assert "<script>alert" not in text
    assert "alert(1)</script>" not in text
    assert "a = '<\\/script>';" in text
    assert data_of(text)["title"] == data_of(text)["cases"][0]["name"] == nasty


def test_without_the_viewer_the_page_has_none(case: PageCase) -> None:
    with_it, without = (page_text("Query", [case], CLASSES, 255, code) for code in ("viewer();", None))
    assert len(re.findall("<script>", with_it)) == len(re.findall("<script>", without)) + 1


def test_the_first_cycle_has_no_uncertainty(case: PageCase) -> None:
    (told,) = data_of(page_text("Query", [replace(case, uncertainty=None)], CLASSES, 255, None))["cases"]
    assert told["uncertainty"] is None


def test_work_is_kept_under_what_it_belongs_to(case: PageCase) -> None:
    """The same page made twice finds it again; another query does not, nor one with other boxes or another start."""

    def key(title: str = "Query", one: PageCase = case) -> str:
        return data_of(page_text(title, [one], CLASSES, 255, None))["id"]

    packed_again = replace(case, start=gzip.compress(gzip.decompress(case.start), mtime=7))
    others = [
        key("Query 2"),
        key(one=replace(case, name="case_2")),
        key(one=replace(case, patches=[PagePatch(1, (2, 2, 1), (5, 5, 5))])),
        key(one=replace(case, start=nifti(start_of(7)))),
    ]
    assert key(one=packed_again) == key()
    assert len({key(), *others}) == 5


def change(case: PageCase, **what: object) -> PageCase:
    return replace(case, **what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"patches": [PagePatch(1, (2, 2, 1), (5, 8, 4))]}, r"case_1: patch 1 is \(2, 2, 1\) to \(5, 8, 4\) of"),
        ({"patches": [PagePatch(1, (2, 2, 1), (2, 3, 4))]}, "case_1: patch 1 is"),
        ({"patches": [PagePatch(1, (0, 0, 0), (1, 1, 1)), PagePatch(1, (2, 2, 2), (3, 3, 3))]}, "comes twice"),
        ({"uncertainty": nifti(np.zeros((8, 7, 5), np.float32))}, "uncertainty lies on another grid"),
        ({"channels": [("CT", nifti(np.zeros(SHAPE, np.int16), np.eye(4)))]}, "CT lies on another grid"),
        ({"start": nifti(start_of(4))}, r"start holds \[4\], which is no class"),
        ({"start": nifti(start_of().astype(np.int16))}, "start is no unscaled uint8"),
        ({"start": nifti(start_of())[:20]}, "start is no .nii.gz"),
        ({"start": nifti(start_of())[:-9]}, "start is damaged"),
        ({"start": gzip.compress(gzip.decompress(nifti(start_of()))[:-9])}, "start holds 327 voxels"),
        ({"start": b"nothing"}, "start is no .nii.gz"),
        ({"channels": [("CT", nifti(np.zeros((*SHAPE, 2), np.int16)))]}, "CT has the shape"),
    ],
)
def test_what_does_not_fit_is_refused(case: PageCase, what: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        page_text("Query", [change(case, **what)], CLASSES, 255, None)


@pytest.mark.parametrize(
    ("classes", "undecided"),
    [
        ([("liver", 1)], 255),
        ([("background", 0), ("liver", 1)], 1),
        ([("background", 0), ("liver", 1), ("tumour", 1)], 255),
        ([("background", 0), ("liver", 256)], 255),
        ([("background", 0), ("liver", 1)], 300),
    ],
)
def test_values_that_the_page_cannot_save_are_refused(case: PageCase, classes: list, undecided: int) -> None:
    with pytest.raises(ValueError, match="classes are"):
        page_text("Query", [case], classes, undecided, None)


def test_the_viewer_comes_with_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert niivue_text() is None
    (tmp_path / "share/niivue").mkdir(parents=True)
    (tmp_path / "share/niivue/niivue.umd.js").write_text("code")
    assert niivue_text() is None, "without its licence it is not shown"
    (tmp_path / "share/niivue/LICENSE").write_text("BSD 2-Clause License")
    assert niivue_text() == "/*! NiiVue\nBSD 2-Clause License\n*/\ncode"
