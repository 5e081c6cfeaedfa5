"""The report in headless Chromium: it opens silently, draws every figure, and everything on it works."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from study import Curves, known_winner, make_study

from nnactive_nf.analyse.study import read_study
from nnactive_nf.analyse.write import analyse
from nnactive_nf.core.design import Design
from nnactive_nf.report.render import Pictures, write_report
from nnactive_nf.report.tables import Tables

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
STRATEGIES = ("random", "random_fg33", "predictive_entropy", "power_bald:beta=10")
LOW = ("phantom", "low")


def make_report(
    folder: Path, curves: Curves, lacking: tuple[str, ...] = (), pictures: bool = True, full: bool = True
) -> Path:
    """The report of a made-up study; `lacking` are nodes whose metrics are taken away."""
    make_study(folder, curves, view_patches=3 if pictures else 0, full_dice=0.9 if full else None)
    for node in lacking:
        (folder / "metrics" / f"{node}.json").unlink()
    design = Design.read(folder / "design.json")
    named = [folder / name for name in ("metrics", "labels", "queries", "oracle", "full", "training")]
    analyse(read_study(design, *named), folder / "tables", draws=200)
    shown = [Pictures(folder / "views", folder / "labels")] if pictures else []
    more = ({"epochs": 200, "seeds": "1,2,3"}, {"nextflow": "25.04.4"}, "Made-up study")
    write_report(
        Tables.read(design, folder / "tables"),
        folder / "report.html",
        None,
        shown,
        *more,
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = (LOW, ("phantom", "high"))
    curves = known_winner(settings, STRATEGIES)
    return make_report(tmp_path_factory.mktemp("report"), curves)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        yield opened
        opened.close()


@dataclass
class Opened:
    """A page, and what it complained of or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def scroll_through(self) -> None:
        """As a reader does: figures are drawn when they come near the screen."""
        height = self.page.evaluate("document.documentElement.scrollHeight")
        for top in range(0, height + 800, 700):
            self.scroll_to(top)
            self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.page.wait_for_function(
            "[...document.querySelectorAll('.plot')].every((e) => !e.getClientRects().length || e.hasAttribute('role'))"
        )

    def scroll_to(self, top: int) -> None:
        """At once: the page glides, and each frame of that is painted."""
        self.page.evaluate(f"window.scrollTo({{ top: {top}, behavior: 'instant' }})")

    def choose(self, name: str, value: str) -> None:
        self.page.select_option(f"#{name}", value)


@pytest.fixture(scope="module")
def show(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Opened]]:
    """Open a report, listening to what it complains of and asks for.

    All are opened in one window and at one address, where the browser still has plotly.js compiled.
    """
    shown = tmp_path_factory.mktemp("shown") / "report.html"
    context = browser.new_context()
    opened = listen(context)

    def run(path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> Opened:
        shutil.copyfile(path, shown)
        opened.page.goto("about:blank")
        opened.page.set_viewport_size({"width": width, "height": height})
        opened.page.emulate_media(media="null", color_scheme=scheme)
        opened.complaints.clear()
        opened.requests.clear()
        open_page(opened.page, shown)
        return opened

    yield run
    context.close()


@pytest.fixture(scope="module")
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report at desktop width, opened once for the tests that leave it as it is."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = listen(context)
    open_page(opened.page, report)
    yield opened.page
    context.close()


def listen(context: BrowserContext) -> Opened:
    """An empty page, and all that it will complain of and ask for."""
    context.set_default_timeout(90_000)  # machines that do other things beside
    opened = Opened(context.new_page())
    page = opened.page
    page.on("console", lambda m: opened.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:")) else opened.requests.append(r.url))
    return opened


def open_page(page: Page, path: Path) -> None:
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-theme]")
    page.locator("#curve-grid").scroll_into_view_if_needed()
    page.wait_for_selector("#curve-grid .main-svg, #curve-grid .empty")
    Opened(page).scroll_to(0)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_it_is_silent_complete_and_fits(report: Path, show, width: int, scheme: str):
    opened = show(report, width, 844, scheme)
    opened.scroll_through()
    assert opened.complaints == []
    assert opened.requests == [opened.page.url]  # the report itself, no more
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.evaluate(
        "[...document.querySelectorAll('.plot')].map((e) => [e.id, e.querySelector('.main-svg')?.clientWidth || 0])"
    )
    assert len(drawn) == 2 + 5 + 12  # with the last ensembles of 4 strategies and 3 seeds
    assert all(0 < size <= width for _, size in drawn), drawn
    outside = page.evaluate(
        """[...document.querySelectorAll('main *')].filter((e) => !e.closest('.table-wrap, .main-svg, .hoverlayer')
            && e.getBoundingClientRect().right > window.innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []


def test_themes_differ_and_can_be_switched(report: Path, show, page: Page):
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = show(report, scheme="dark").page
    light_ground, dark_ground = page.evaluate(colour), dark.evaluate(colour)
    assert light_ground != dark_ground
    dark.click("#theme")
    assert dark.evaluate(colour) == light_ground
    dark.click("#theme")
    assert dark.evaluate(colour) == dark_ground


def test_one_curve_per_strategy(page: Page):
    names = page.evaluate(
        "[...document.querySelectorAll('.plot.curve')].map((e) => e.data.map((t) => t.meta).filter((name) => name))"
    )
    assert names[0] == list(STRATEGIES)
    first = page.evaluate("document.querySelector('.plot.curve').data.filter((t) => t.meta)[3].y")
    assert first == pytest.approx([0.5, 0.62, 0.74], abs=0.003)


def test_hover_tells_the_number(page: Page):
    last = page.locator(".plot.curve").first.locator(".scatterlayer .points path").last
    last.scroll_into_view_if_needed()
    point = last.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.wait_for_selector(".plot.curve .hoverlayer .hovertext")
    text = page.locator(".plot.curve .hoverlayer .hovertext").first.text_content()
    assert re.search(r"cycle \d: 0\.\d{4}", text), text


def test_trainings_can_be_looked_at_by_trajectory_and_curve(report: Path, show):
    opened = show(report)
    opened.scroll_through()
    state = """(() => { const all = [...document.querySelectorAll('#t-grid .plot')].filter((e) => e.offsetParent);
        return [all.length, all[0].data.length, all[0].layout.yaxis.title.text, all[0].layout.title.text]; })()"""
    assert opened.page.evaluate(state)[:3] == [12, 2 * 2, "loss"]
    opened.choose("t-kind", "dice")
    opened.page.select_option("#t-view", label="Predictive entropy, seed 2, all cycles")
    assert opened.page.evaluate(state) == [3, 2 * 2, "online Dice", "Start, seed 2, cycle 0"]
    assert opened.page.locator("#t-facts").text_content() == "phantom, low. "
    assert opened.complaints == []


def test_axes_classes_and_seeds_can_be_chosen(report: Path, show):
    opened = show(report)
    state = """(() => { const e = document.querySelector('.plot.curve');
        return [e.layout.xaxis.title.text, e.layout.yaxis.title.text, e.data.length]; })()"""
    x, y, traces = opened.page.evaluate(state)
    assert (x, y) == ("labelled patches", "test Dice, mean of classes")
    opened.choose("curve-x", "foreground_voxels")
    opened.choose("curve-class", "tail")
    opened.choose("curve-measure", "nsd")
    x, y, _ = opened.page.evaluate(state)
    assert (x, y) == ("labelled foreground voxels", "test NSD, tail")
    opened.choose("curve-class", "mean")
    opened.choose("curve-measure", "dice")
    opened.page.check("#curve-seeds")
    assert opened.page.evaluate(state)[2] == traces + 4 * 3


def test_strategies_can_be_hidden_everywhere(report: Path, show):
    opened = show(report)
    opened.scroll_through()
    page = opened.page
    hidden = """[...document.querySelectorAll('.plot')].filter((e) => ['cost-plot', 'efficiency-plot'].includes(e.id)
        || e.classList.contains('curve')).map((e) => e.data.filter((t) => t.visible === false).length)"""
    assert set(page.evaluate(hidden)) == {0}
    box = page.locator(".legend input[value='predictive_entropy']").first
    box.focus()
    page.keyboard.press("Space")
    assert all(number > 0 for number in page.evaluate(hidden))
    boxes = page.locator(".legend input[value='predictive_entropy']").all()
    assert [other.is_checked() for other in boxes] == [False] * 4
    page.keyboard.press("Space")
    assert set(page.evaluate(hidden)) == {0}


def test_tables_sort(report: Path, show):
    page = show(report).page
    numbers = "[...document.querySelectorAll('#table-results tbody tr')].map((r) => Number(r.cells[2].dataset.v))"
    head = page.locator("#table-results th").nth(2)
    assert head.text_content().strip() == "AUBC"
    before = page.evaluate(numbers)
    head.locator("button").click()
    assert page.evaluate(numbers) == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert page.evaluate(numbers) == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    page.locator("#table-results th").nth(1).locator("button").click()
    labels = page.locator("#table-results tbody td.strategy").all_text_contents()
    assert labels[:2] == ["Random"] * 2  # strategies stay in the plan's order, not the alphabet's
    assert head.get_attribute("aria-sort") is None


def test_tables_can_be_narrowed_to_a_setting(report: Path, show):
    page = show(report).page
    rows = page.locator("#table-results tbody tr:visible")
    both = rows.count()
    page.get_by_label(re.compile("^Setting to show: Mean ± standard deviation")).select_option("phantom, high")
    assert rows.count() == both // 2
    assert set(rows.locator("td.setting").all_text_contents()) == {"phantom, high"}
    with page.expect_download() as waiting:
        page.locator(".table-head:has(+ * #table-results) button").click()
    assert len(Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()) == 1 + both // 2
    page.emulate_media(media="print")  # paper shows all, as it cannot be asked
    assert rows.count() == both


def test_a_table_can_be_saved(page: Page):
    with page.expect_download() as waiting:
        page.locator(".table-head button").first.click()
    assert waiting.value.suggested_filename == "verdicts.csv"
    lines = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith('"Setting","Strategy","against Random"')
    assert len(lines) == 1 + 2 * 4


def test_matrix_and_ranks_follow_their_choices(report: Path, show):
    opened = show(report)
    opened.scroll_through()
    page = opened.page
    matrix = "document.getElementById('ppm').data[0].z"
    assert page.input_value("#ppm-where") == "over all settings"
    assert page.evaluate(matrix)[3][:3] == [1, 1, 1]
    assert page.evaluate(matrix)[0] == [None, 0, 0, 0]
    # each budget after the start is won: two of two, as published (the start counted) two of three
    written = page.evaluate("document.getElementById('ppm').layout.annotations.map((one) => one.text)")
    assert sum(text.startswith("1.00<br>") and "(0.67)" in text for text in written) == 6
    assert written.count("0.00") == 6
    opened.choose("ppm-where", "phantom, low")
    opened.choose("ppm-class", "tail")
    opened.choose("ppm-correction", "holm")
    assert "phantom, low" in page.get_attribute("#ppm", "aria-label")
    names = "document.getElementById('rank').data.map((t) => t.y[0])"
    assert page.evaluate(names)[0] == "PowerBALD, beta 10"
    opened.choose("rank-where", "phantom, high")
    opened.choose("rank-measure", "final_dice")
    assert "phantom, high" in page.get_attribute("#rank", "aria-label")


# Sums of the canvases of a kind, or of one of them.
PIXELS = """([kind, place]) => [...document.querySelectorAll(`.plane canvas[data-kind="${kind}"]`)].filter(
    (_, i) => place === null || i === place).map((c) => {
    const rgba = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let sum = 0; for (let i = 0; i < rgba.length; i += 1) sum = (sum * 31 + rgba[i]) % 1000003; return sum; })"""


def test_outline_lies_where_the_patch_is(page: Page):
    """The outline's colour stands at the patch's edges, in the image's true proportions."""
    expect(page.locator("#g-facts")).to_contain_text("patch 8")
    box, found, shape = page.evaluate(
        """(() => {
            const data = JSON.parse(document.getElementById('data').textContent);
            const id = document.getElementById('g-trajectory').value, cycle = document.getElementById('g-cycle').value;
            const p = data.gallery.queries[data.gallery.index[id][cycle]].patches[0];
            const c = document.querySelector('.plane canvas[data-kind=image]');
            const rgba = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            const rows = [], columns = [];
            for (let r = 0; r < c.height; r += 1) for (let k = 0; k < c.width; k += 1) {
              const i = 4 * (r * c.width + k);
              if (rgba[i] < 20 && rgba[i + 1] > 215 && rgba[i + 2] > 240) { rows.push(r); columns.push(k); }
            }
            const of = (list) => [list.reduce((a, b) => Math.min(a, b), 1e9), list.reduce((a, b) => Math.max(a, b), 0)];
            return [p, [of(rows).map((v) => v / c.height), of(columns).map((v) => v / c.width)], [c.width, c.height]];
        })()"""
    )
    for axis in (1, 2):
        low, high = found[axis - 1]
        assert low == pytest.approx(box["box"][axis][0], abs=0.02)
        assert high == pytest.approx(box["box"][axis][1], abs=0.02)
    assert shape[0] / shape[1] == pytest.approx(box["extent"][2] / box["extent"][1], rel=0.02)


def test_slider_goes_through_the_slices(page: Page):
    expect(page.locator("#g-facts")).to_contain_text("patch 8")
    for place, axis in enumerate("zyx"):
        slider = page.locator(f"#g-slice-{axis}")
        seen = {kind: set() for kind in ("image", "uncertainty", "label")}
        words = set()
        slider.focus()
        page.keyboard.press("Home")
        for _ in range(int(slider.get_attribute("max")) + 1):
            for kind, sums in seen.items():
                sums.add(page.evaluate(PIXELS, [kind, place])[0])
            words.add(page.locator(f"#g-out-{axis}").text_content())
            page.keyboard.press("ArrowRight")
        slices = int(slider.get_attribute("max")) + 1
        assert slices >= 8
        assert len(words) == slices
        assert len(seen["image"]) > slices / 2
        assert len(seen["uncertainty"]) > slices / 2


def test_gallery_shows_every_query(report: Path, show):
    opened = show(report)
    page = opened.page
    expect(page.locator("#g-facts")).to_contain_text("patch 8")
    trajectories = page.evaluate("[...document.querySelectorAll('#g-trajectory option')].map((o) => o.value)")
    assert len(trajectories) == 2 * 4 * 3
    assert page.locator("#g-cycle option").all_text_contents() == ["0 (start)", "1", "2"]
    before = page.evaluate(PIXELS, ["image", None])
    page.click("#g-next")
    expect(page.locator("#g-facts")).to_contain_text("rank 2")
    assert page.evaluate(PIXELS, ["image", None]) != before
    page.click("#g-prev")
    expect(page.locator("#g-facts")).to_contain_text("rank 1,")
    assert page.evaluate(PIXELS, ["image", None]) == before
    opened.choose("g-trajectory", "phantom-low-random-s1")
    expect(page.locator("[data-panel=uncertainty]").first).to_be_hidden()
    assert "needs no uncertainty map" in page.locator("#g-scale").text_content()
    opened.choose("g-cycle", "0")
    expect(page.locator("#g-facts")).to_contain_text("rank 1,")
    assert all(canvas.bounding_box()["width"] > 50 for canvas in page.locator(".plane canvas[data-kind=image]").all())


def test_words_for_those_who_do_not_see(page: Page):
    Opened(page).scroll_through()
    unnamed = page.evaluate(
        """[...document.querySelectorAll('[role=img], select, input, button, [role=region]')].filter((e) => !(
            e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim()
            || (e.labels && [...e.labels].some((l) => l.textContent.trim())))).map((e) => e.outerHTML.slice(0, 90))"""
    )
    assert unnamed == []
    label = page.get_attribute(".plot.curve", "aria-label")
    assert "PowerBALD, beta 10" in label
    assert "from 0.500 to 0.7" in label
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_it_prints(report: Path, show):
    page = show(report).page
    document = page.pdf(format="A4")
    assert document.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", document)) > 3


# ---- studies of which little can be said ----------------------------------------------------------------------------


def flat(names: tuple[str, ...], seeds: tuple[int, ...], values: list[float]) -> Curves:
    return {LOW: {name: {seed: list(values) for seed in seeds} for name in names}}


CASES: dict[str, tuple[Curves, tuple[str, ...], str]] = {
    "one seed": (known_winner(seeds=(1,)), (), "With one seed no strategy can be said to beat another"),
    "one cycle": (known_winner(cycles=1), (), "With one cycle no strategy has chosen anything yet"),
    "two cycles": (known_winner(cycles=2, seeds=(1, 2)), (), "Against Random"),
    "missing cycle": (known_winner(), ("phantom-low-bald-s2-c01",), "phantom-low-bald-s2: no results of cycle 1"),
    "nothing of a strategy": (
        known_winner(strategies=("random", "bald")),
        tuple(f"phantom-low-bald-s{seed}-c0{cycle}" for seed in (1, 2, 3) for cycle in (1, 2)),
        "No two strategies have two complete seeds in common",
    ),
    "one strategy": (known_winner(strategies=("random",)), (), "How far has it come?"),
    "no random baseline": (known_winner(strategies=("bald", "predictive_entropy")), (), "No random strategy was run"),
    "all equal": (flat(("random", "bald"), (1, 2, 3), [0.5, 0.6, 0.7]), (), "nothing tells them apart"),
    "a late strategy": (
        {LOW: {**known_winner(strategies=("random", "bald"))[LOW], "predictive_entropy": {1: [0.5, 0.6, 0.9]}}},
        (),
        "Predictive entropy has 1 of 3 seeds",
    ),
    "no full labels": (known_winner(strategies=("random", "bald")), (), "foreground efficiency is left out"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_it_says_what_cannot_be_said(name: str, tmp_path: Path, show):
    curves, lacking, sentence = CASES[name]
    path = make_report(tmp_path, curves, lacking, pictures=name == "one cycle", full=name != "no full labels")
    opened = show(path)
    opened.scroll_through()
    assert opened.complaints == []
    opened.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    text = opened.page.evaluate("document.body.innerText")
    assert sentence in text
    assert not re.search(r"\b(NaN|nan|None|null|undefined|Infinity|inf)\b", text)
    labels = opened.page.evaluate(
        "[...document.querySelectorAll('[aria-label]')].map((e) => e.getAttribute('aria-label')).join(' ')"
    )
    assert not re.search(r"\b(NaN|nan|None|null|undefined|Infinity)\b", labels)
