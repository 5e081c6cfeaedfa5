"""The annotation page in headless Chromium (WebGL by SwiftShader): what is drawn is saved, where it was drawn."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import SimpleITK as sitk
from conftest import lacks
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from scipy.spatial.transform import Rotation

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.query_table import QUERY_TYPES, write_query
from nnactive_nf.hand_out.page import PageCase, PagePatch, niivue_text, page_text
from nnactive_nf.hand_out.run import hand_out
from nnactive_nf.receive.run import receive

pytestmark = pytest.mark.browser

OPTIONS = [
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
CLASSES = [("liver", 3), ("background", 0), ("tumour", 7)]
UNDECIDED = 255
SHAPE = (28, 24, 20)
LOW, HIGH = (8, 6, 4), (22, 19, 16)
BRIGHT = (12, 9, 7)  # in the middle of the only bright voxels, on no axis of symmetry
SPACING = np.diag([1.0, 1.3, 1.7])
TURNED = Rotation.from_euler("xyz", [14, -11, 23], degrees=True).as_matrix()
PERMUTED = np.eye(3)[[2, 0, 1]]

# Axes of the voxels in the world; determinants below 0 are left-handed.
AXES = {
    "identity": np.eye(3),
    "flipped": np.diag([-1, -1, 1]),
    "left-handed": np.diag([-1, 1, 1]),
    "upside-down": np.diag([1, -1, -1]),
    "oblique": TURNED,
    "oblique-left-handed": TURNED @ np.diag([1, 1, -1]),
    "permuted": PERMUTED,
    "permuted-flipped-oblique": TURNED @ PERMUTED @ np.diag([-1, 1, -1]),
}

Ijk = tuple[int, int, int]


def nifti(values: npt.NDArray, affine: npt.NDArray) -> bytes:
    return gzip.compress(nibabel.Nifti1Image(values, affine).to_bytes())


def affine_of(axes: npt.NDArray) -> npt.NDArray:
    affine = np.eye(4)
    affine[:3, :3] = axes @ SPACING
    affine[:3, 3] = [-31.5, 12.25, 7]
    return affine


def one_case(name: str, number: int, affine: npt.NDArray, uncertainty: bool = True) -> PageCase:
    """A dark case with 3 x 3 x 3 bright voxels, and two patches: one begun with a bit of class 3, one undecided."""
    image = np.zeros(SHAPE, np.int16)
    image[tuple(slice(v - 1, v + 2) for v in BRIGHT)] = 900
    start = np.full(SHAPE, UNDECIDED, np.uint8)
    start[8:22, 6:19, 4:16] = 0
    start[19:21, 16:18, 13:15] = 3
    maps = nifti((image / 1000).astype(np.float32), affine) if uncertainty else None
    patches = [PagePatch(number, LOW, HIGH), PagePatch(number + 1, (0, 0, 0), (8, 6, 20))]
    return PageCase(
        name, [("CT", nifti(image, affine)), ("PET", nifti(-image, affine))], nifti(start, affine), maps, patches
    )


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        yield opened
        opened.close()


def open_page(browser: Browser, path: Path, text: str) -> tuple[Page, list[str]]:
    """The page, and what it complained of or asked the network for."""
    path.write_text(text, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    context.set_default_timeout(60_000)
    page, heard = context.new_page(), []
    page.on("console", lambda m: heard.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:", path.as_uri())) else heard.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    return page, heard


@pytest.fixture(scope="module")
def viewer() -> str:
    text = niivue_text()
    if text is None:
        lacks("niivue", "no NiiVue in .venv/share/niivue (setup/niivue.sh fetches it with npm)")
    return text


@pytest.fixture(scope="module")
def cases() -> dict[str, PageCase]:
    return {name: one_case(name, 1 + 2 * k, affine_of(axes)) for k, (name, axes) in enumerate(AXES.items())}


@pytest.fixture(scope="module")
def opened(
    browser: Browser, viewer: str, cases: dict[str, PageCase], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, list[str]]]:
    text = page_text("Made-up query, cycle 1", list(cases.values()), CLASSES, UNDECIDED, viewer)
    page, heard = open_page(browser, tmp_path_factory.mktemp("page") / "index.html", text)
    page.evaluate("annotation.useSize(1)")
    yield page, heard
    page.context.close()


@pytest.fixture(scope="module")
def page(opened: tuple[Page, list[str]]) -> Page:
    return opened[0]


def show(page: Page, number: int) -> None:
    page.evaluate("(number) => annotation.show(number)", number)


def saved(page: Page) -> dict[str, bytes]:
    """What "Save all" downloads."""
    with page.expect_download() as waiting:
        page.click("#save-all")
    assert waiting.value.suggested_filename == "Made-up_query_cycle_1.zip"
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def voxels(page: Page) -> dict[Ijk, int]:
    """Voxels of the patch on show that differ from its start, and their class's index (0 background, 1 liver, ...)."""
    found = page.evaluate(
        """(() => {
            const { labels, first, box } = annotation.shown, [nx, ny] = [0, 1].map((k) => box.high[k] - box.low[k]);
            const ijk = (i) => [i % nx, Math.floor(i / nx) % ny, Math.floor(i / nx / ny)].map((v, k) => v + box.low[k]);
            return Array.from(labels, (value, i) => [...ijk(i), value]).filter((one, i) => one[3] !== first[i]);
        })()"""
    )
    return {(i, j, k): value for i, j, k, value in found}


def box_of(low: Ijk, high: Ijk) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def on_page(page: Page, affine: npt.NDArray, ijk: Ijk) -> list[tuple[float, float]]:
    """Where the middle of a voxel of the file is on the page, in the axial, coronal and sagittal plane."""
    mm = (affine @ [*ijk, 1])[:3].tolist()
    return [tuple(place) for place in page.evaluate("(mm) => annotation.viewer.onPage(mm)", mm)]


def start_again(page: Page) -> None:
    page.evaluate("document.getElementById('reset').click()")


CLICKED = [(17, 14, 11), (14, 12, 9), (9, 17, 6)]  # voxels, one by the mouse in each of the three planes


@pytest.fixture(scope="module")
def drawn(page: Page, cases: dict[str, PageCase]) -> dict[str, dict[Ijk, int]]:
    """Voxels drawn in the first patch of each case, by the page's own stroke and the mouse; it is done then."""
    found = {}
    for name, axes in AXES.items():
        show(page, cases[name].patches[0].number)
        page.keyboard.press("2")
        page.evaluate("annotation.viewer.stroke([[10, 8, 5], [12, 8, 5]], 1)")
        for plane, ijk in enumerate(CLICKED):
            page.mouse.click(*on_page(page, affine_of(axes), ijk)[plane])
        found[name] = voxels(page)
        page.keyboard.press("d")
    return found


@pytest.fixture(scope="module")
def files(page: Page, drawn: dict[str, dict[Ijk, int]]) -> dict[str, bytes]:
    """What is saved then."""
    return saved(page)


@pytest.mark.parametrize("name", AXES)
def test_a_stroke_lies_where_it_was_drawn(drawn: dict[str, dict[Ijk, int]], name: str):
    assert drawn[name] == {(10, 8, 5): 1, (11, 8, 5): 1, (12, 8, 5): 1} | dict.fromkeys(CLICKED, 2)


def test_all_that_is_saved_is_what_was_drawn(files: dict[str, bytes], cases: dict[str, PageCase]):
    assert set(files) == {*(f"{name}.nii.gz" for name in cases), "tasks.json", "tasks.csv"}
    for name, case in cases.items():
        given, got = gzip.decompress(case.start), gzip.decompress(files[f"{name}.nii.gz"])
        assert got[:352] == given[:352], "the header, so the geometry, is the given one's"
        expected = np.full(SHAPE, UNDECIDED, np.uint8)
        box = box_of(LOW, HIGH)
        expected[box] = np.asarray(nibabel.Nifti1Image.from_bytes(given).dataobj)[box]
        expected[10:13, 8, 5] = 3
        for ijk in CLICKED:
            expected[ijk] = 7
        np.testing.assert_array_equal(np.asarray(nibabel.Nifti1Image.from_bytes(got).dataobj), expected)


@pytest.mark.parametrize("name", AXES)
def test_another_program_finds_the_class_at_its_point(files: dict[str, bytes], tmp_path: Path, name: str):
    (tmp_path / "saved.nii.gz").write_bytes(files[f"{name}.nii.gz"])
    image = sitk.ReadImage(str(tmp_path / "saved.nii.gz"))
    for ijk, value in {(17, 14, 11): 7, (12, 8, 5): 3, (18, 14, 11): 0, (2, 2, 2): UNDECIDED}.items():
        right, front, top = (affine_of(AXES[name]) @ [*ijk, 1])[:3]
        assert image[image.TransformPhysicalPointToIndex((-right, -front, top))] == value, ijk


@pytest.mark.parametrize("name", AXES)
def test_where_the_image_is_bright_the_screen_is(page: Page, cases: dict[str, PageCase], name: str):
    show(page, cases[name].patches[0].number)
    page.evaluate("annotation.viewer.setOpacity('labels', 0)")
    places = on_page(page, affine_of(AXES[name]), BRIGHT)
    screen = Image.open(io.BytesIO(page.screenshot())).convert("L")
    page.evaluate("annotation.viewer.setOpacity('labels', 0.6)")
    assert [screen.getpixel((round(x), round(y))) for x, y in places] == [255] * 3
    away = [(x + by, y + by) for (x, y), by in zip(places, (75, 45, 45), strict=True)]
    assert [screen.getpixel((round(x), round(y))) for x, y in away] == [0] * 3


def test_tasks_tell_what_became_of_each_patch(page: Page):
    page.fill("#annotator", 'Dr. "A", B')
    page.press("#annotator", "Enter")
    for number, key in {1: "d", 2: "l", 3: "d"}.items():
        show(page, number)
        page.keyboard.press(key)
    show(page, 4)
    page.click("#refuse")
    page.fill("#reason", "motion, and metal")
    page.press("#reason", "Enter")
    expect(page.locator("#patch-title")).not_to_contain_text("Patch 4,")
    files = saved(page)
    tasks = json.loads(files["tasks.json"])
    states = [(task["patch"], task["case"], task["state"], task["reason"], task["annotator"]) for task in tasks]
    assert states[:4] == [
        (1, "identity", "done", "", 'Dr. "A", B'),
        (2, "identity", "later", "", 'Dr. "A", B'),
        (3, "flipped", "done", "", 'Dr. "A", B'),
        (4, "flipped", "refused", "motion, and metal", 'Dr. "A", B'),
    ]
    assert states[5] == (6, "left-handed", "later", "", ""), "not looked at yet"
    rows = list(csv.DictReader(io.StringIO(files["tasks.csv"].decode())))
    assert list(rows[0]) == ["patch", "case", "state", "reason", "minutes", "annotator"]
    assert [{**row, "patch": int(row["patch"]), "minutes": float(row["minutes"])} for row in rows] == tasks
    whole = np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(files["flipped.nii.gz"])).dataobj)
    assert (whole[box_of(LOW, HIGH)] != UNDECIDED).all()
    assert (whole[:8, :6] == UNDECIDED).all(), "a patch that was refused has no labels"


def test_a_stroke_that_leaves_the_outline_is_cut_at_once(page: Page):
    show(page, 7)
    page.keyboard.press("b")
    page.keyboard.press("1")
    affine = affine_of(AXES["upside-down"])
    before = voxels(page)
    inside, outside = (on_page(page, affine, ijk)[0] for ijk in [(19, 10, 9), (26, 10, 9)])
    on_page(page, affine, (19, 10, 9))  # the plane of both
    count = "annotation.viewer.nv.drawBitmap.reduce((sum, value) => sum + (value === 1), 0)"
    counts = [page.evaluate(count)]
    page.mouse.move(*inside)
    page.mouse.down()
    page.mouse.move(*outside, steps=6)
    counts.append(page.evaluate(count))
    page.mouse.up()
    after = voxels(page)
    assert {ijk: after[ijk] for ijk in after if ijk not in before} == {(i, 10, 9): 1 for i in (19, 20, 21)}
    assert counts[1] == counts[0] + 3


def test_undo_eraser_fill_and_start_again(page: Page):
    show(page, 9)
    start_again(page)
    assert voxels(page) == {}
    page.evaluate("annotation.viewer.goTo([14, 12, 9])")
    ring = [[10, 8, 9], [18, 8, 9], [18, 16, 9], [10, 16, 9], [10, 8, 9]]
    page.evaluate("(ring) => annotation.viewer.stroke(ring, 2)", ring)
    outline = voxels(page)
    assert len(outline) == 32
    page.keyboard.press("1")
    page.keyboard.press("f")
    page.mouse.click(*on_page(page, affine_of(AXES["oblique"]), (13, 11, 9))[0])
    filled = voxels(page)
    assert filled == outline | {(i, j, 9): 1 for i in range(11, 18) for j in range(9, 16)}
    page.keyboard.press("e")
    page.mouse.click(*on_page(page, affine_of(AXES["oblique"]), (10, 12, 9))[0])
    assert voxels(page) == {ijk: value for ijk, value in filled.items() if ijk != (10, 12, 9)}
    page.keyboard.press("u")
    assert voxels(page) == filled
    page.keyboard.press("u")
    assert voxels(page) == outline
    start_again(page)
    assert voxels(page) == {}
    page.keyboard.press("d")
    show(page, 9)
    assert page.evaluate("annotation.shown.state") == "done"
    page.keyboard.press("u")
    assert voxels(page) == outline
    assert page.evaluate("annotation.shown.state") == "open", "what is changed is to be looked at once more"


def test_an_outline_fills_itself(page: Page):
    show(page, 1)
    start_again(page)
    affine = affine_of(AXES["identity"])
    page.keyboard.press("2")
    page.keyboard.press("o")
    corners = [on_page(page, affine, ijk)[0] for ijk in [(11, 9, 8), (17, 9, 8), (17, 15, 8), (11, 15, 8)]]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    square = {(i, j, 8): 2 for i in range(11, 18) for j in range(9, 16)}
    assert voxels(page) == square
    page.mouse.click(*on_page(page, affine, (12, 16, 5))[0])
    assert voxels(page) == square | {(12, 16, 5): 2}, "a click is a point"


def test_slices_between_are_interpolated(page: Page):
    """Squares of 3 and 9 voxels, four slices apart: those between grow; another class stays."""
    show(page, 3)
    start_again(page)
    affine = affine_of(AXES["flipped"])
    page.mouse.click(*on_page(page, affine, (14, 12, 9))[0])  # so that axial is the plane drawn on last
    start_again(page)
    for size, k in ((1, 6), (4, 10)):
        for j in range(12 - size, 13 + size):
            page.evaluate("(line) => annotation.viewer.stroke(line, 2)", [[14 - size, j, k], [14 + size, j, k]])
    page.evaluate("annotation.viewer.stroke([[14, 12, 8]], 1)")
    page.keyboard.press("2")
    page.keyboard.press("i")
    found = voxels(page)
    areas = {k: sum(1 for ijk, value in found.items() if ijk[2] == k and value == 2) for k in range(4, 16)}
    assert (areas[5], areas[6], areas[10], areas[11]) == (0, 9, 81, 0)
    assert 9 <= areas[7] < areas[8] < areas[9] <= 81
    assert found[14, 12, 8] == 1
    page.keyboard.press("i")
    assert "no slices lie between" in page.text_content("#message")


def test_keys_go_through_patches_classes_and_views(page: Page):
    show(page, 1)
    page.keyboard.press("n")
    expect(page.locator("#patch-title")).to_contain_text("Patch 2,")
    page.keyboard.press("p")
    expect(page.locator("#patch-title")).to_contain_text("Patch 1,")
    page.keyboard.press("2")
    assert page.locator("#classes label:has(:checked)").text_content() == "tumour2"
    for view in ("axial", "coronal", "sagittal", "3d", "planes"):
        page.keyboard.press("v")
        assert page.locator("#views [aria-pressed=true]").get_attribute("value") == view
    page.locator("#annotator").press_sequentially("nd")
    assert page.evaluate("annotation.shown.number") == 1, "letters of a name are no commands"
    page.press("#annotator", "Enter")
    page.keyboard.press("n")
    expect(page.locator("#patch-title")).to_contain_text("Patch 2,")


def test_the_pre_segmentation_is_shown_and_not_drawn_on(page: Page):
    show(page, 7)
    page.evaluate("annotation.viewer.stroke([[10, 9, 6], [12, 9, 6]], 1)")
    before = voxels(page)
    page.keyboard.press("r")
    shown = "annotation.viewer.read().filter((value) => value === 1).length"
    assert page.evaluate(shown) == 8
    page.keyboard.press("b")
    page.mouse.click(*on_page(page, affine_of(AXES["upside-down"]), (14, 12, 9))[0])
    assert page.evaluate(shown) == 8
    page.keyboard.press("r")
    assert voxels(page) == before


def test_channels_and_windows(page: Page):
    show(page, 1)
    assert page.input_value("#low") == "0"
    page.select_option("#preset", "liver")
    assert (page.input_value("#low"), page.input_value("#high")) == ("-45", "105")
    page.select_option("#channel", "1")
    assert not page.locator("#preset").is_visible()
    assert page.input_value("#high") == "0"
    page.select_option("#channel", "0")
    before = voxels(page)
    page.evaluate("annotation.viewer.setWindow(-45, 105)")
    assert voxels(page) == before


def test_it_fits_a_laptop_and_is_silent(opened: tuple[Page, list[str]]):
    page, heard = opened
    assert heard == []
    for height in (768, 620):
        page.set_viewport_size({"width": 1366, "height": height})
        assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
            1366,
            height,
        ]
        assert page.evaluate(
            "document.querySelector('aside').scrollWidth <= document.querySelector('aside').clientWidth"
        )
    page.set_viewport_size({"width": 1366, "height": 768})


def test_work_is_there_after_the_window_was_closed(page: Page):
    show(page, 9)
    page.evaluate("annotation.viewer.stroke([[10, 9, 6], [12, 9, 6]], 1)")
    page.keyboard.press("d")
    show(page, 9)
    before, tasks = voxels(page), json.loads(saved(page)["tasks.json"])
    page.evaluate("annotation.shown.seconds = 90")
    page.keyboard.press("p")
    expect(page.locator("#patch-title")).to_contain_text("Patch 8,")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    show(page, 9)
    assert voxels(page) == before
    after = json.loads(saved(page)["tasks.json"])
    assert [{**task, "minutes": 0} for task in after] == [{**task, "minutes": 0} for task in tasks]
    assert after[8]["minutes"] == pytest.approx(1.5, abs=0.1)
    count = {state: sum(task["state"] == state for task in tasks) for state in ("done", "refused")}
    assert page.text_content("#progress").startswith(f"{count['done']} of 16 done")
    assert f"{16 - count['done'] - count['refused']} patches that are not done" in page.text_content("#message")


@pytest.mark.hippocampus
def test_a_real_case_is_labelled(browser: Browser, viewer: str, hippocampus: Path, tmp_path: Path):
    """Its segmentation, in its patch, comes back with one stroke more."""
    image, label = (hippocampus / folder / "hippocampus_004.nii.gz" for folder in ("imagesTr", "labelsTr"))
    given = nibabel.load(label)
    low, high = (8, 14, 8), (28, 34, 28)
    box = box_of(low, high)
    start = np.full(given.shape, UNDECIDED, np.uint8)
    start[box] = np.asarray(given.dataobj)[box]
    case = PageCase("real", [("MRI", image.read_bytes())], nifti(start, given.affine), None, [PagePatch(1, low, high)])
    classes = [("background", 0), ("Anterior", 1), ("Posterior", 2)]
    text = page_text("Made-up query, cycle 1", [case], classes, UNDECIDED, viewer)
    page, heard = open_page(browser, tmp_path / "index.html", text)
    page.evaluate("annotation.useSize(1)")
    page.keyboard.press("2")
    page.mouse.click(*on_page(page, given.affine, (20, 30, 25))[0])
    page.keyboard.press("d")
    start[20, 30, 25] = 2
    back = nibabel.Nifti1Image.from_bytes(gzip.decompress(saved(page)["real.nii.gz"]))
    np.testing.assert_array_equal(np.asarray(back.dataobj), start)
    np.testing.assert_array_equal(back.affine, given.affine)
    assert heard == []
    page.context.close()


def test_what_the_page_of_a_package_saves_is_taken_in(
    browser: Browser, viewer: str, prepared: Path, phantom: Path, tmp_path: Path
):
    """From a query to labels: one patch is drawn on and done, one is refused, one is left."""
    dataset = Dataset.open(prepared / "prepared")
    case = dataset.pool[0]
    starts = [(0, 0, 0), (8, 16, 16), (2, 18, 0)]
    rows = [[rank, case, *zyx, 8, 12, 12, 1.0, "all"] for rank, zyx in enumerate(starts, start=1)]
    write_query(tmp_path / "query.csv", pd.DataFrame(rows, columns=list(QUERY_TYPES)))
    package = tmp_path / "phantom-main-s1" / "cycle_00"
    tasks = hand_out(
        dataset.folder, phantom, tmp_path / "query.csv", [], strategy="coverage", cycle=0, delivery="there", out=package
    )
    page, heard = open_page(browser, package / "index.html", (package / "index.html").read_text(encoding="utf-8"))
    assert page.text_content("title") == "phantom-main-s1 cycle_00"
    show(page, 1)
    first = [int(tasks.iloc[0][f"first_{axis}"]) for axis in "xyz"]
    at = [low + 5 for low in page.evaluate("annotation.shown.box.low")]  # the page has the patches' surroundings alone
    page.evaluate("annotation.useSize(1)")
    page.evaluate("(at) => annotation.viewer.stroke([at], 3)", at)
    page.keyboard.press("d")
    show(page, 2)
    page.click("#refuse")
    page.fill("#reason", "metal")
    page.click("#refuse")
    with page.expect_download() as download:
        page.click("#save-all")
    delivered = tmp_path / "labels" / "eve"
    delivered.mkdir(parents=True)
    download.value.save_as(delivered / "work.zip")
    assert heard == []
    page.context.close()
    answers = receive(dataset.folder, tmp_path / "query.csv", tmp_path / "labels").answers
    assert [(answer.state, answer.annotator) for answer in answers] == [
        ("done", "eve"),
        ("refused", "eve"),
        ("later", "eve"),
    ]
    assert answers[0].files[0].name == f"eve/work.zip/{case}.nii.gz"
    wide = dataset.grids[case].label_box(Box((0, 0, 0), (8, 12, 12)))
    assert list(wide.start_zyx[::-1]) == first
    np.testing.assert_array_equal(np.argwhere(answers[0].values_zyx == 3), [[5, 5, 5]])
    assert (answers[0].values_zyx != 3).sum() == wide.voxels - 1 and not np.isin(
        answers[0].values_zyx, [1, 2, 255]
    ).any()


def test_without_the_viewer_patches_are_shown_and_time_is_counted(browser: Browser, tmp_path: Path):
    """A minute without a movement counts, no more. The reserve is gone to where a patch is refused."""
    case = one_case("one", 1, affine_of(TURNED), False)
    case = replace(case, patches=[*case.patches, PagePatch(3, (0, 8, 0), (6, 12, 6), reserve=True)])
    text = page_text("Made-up query, cycle 1", [case], CLASSES, UNDECIDED, None)
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.clock.install()
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    assert "viewer with a pen is missing" in page.text_content("#message")
    assert page.locator("#done").is_disabled()
    page.mouse.move(600, 400)
    page.clock.run_for(30_000)
    page.mouse.move(610, 400)
    page.clock.run_for(300_000)
    minutes = page.evaluate("annotation.shown.seconds") / 60
    assert minutes == pytest.approx(1.5, abs=0.1)
    lit = []
    for k in (1, BRIGHT[2]):
        page.evaluate("(at) => annotation.viewer.goTo(at)", [*BRIGHT[:2], k])
        lit.append(np.asarray(Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("L")) > 250)
    assert lit[1].sum() > lit[0].sum() + 500
    page.click("#later")
    expect(page.locator("#patch-title")).to_contain_text("Patch 2,")
    page.click("#later")
    expect(page.locator("#message")).to_contain_text("What is left was put off")
    assert "reserve, if one is refused" in page.locator("#list li").last.text_content()
    assert page.text_content("#progress").startswith("0 of 2 done ")
    page.evaluate("annotation.show(1)")
    page.click("#refuse")
    page.fill("#reason", "too dark")
    page.click("#refuse")
    expect(page.locator("#patch-title")).to_contain_text("Patch 3,")
    assert "to do" in page.locator("#list li").last.text_content()
    assert page.text_content("#progress").startswith("0 of 2 done, 1 refused")
    assert "refused · 1.5 min · too dark" in page.locator("#list li").first.text_content()
    context.close()
