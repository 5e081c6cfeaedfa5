"""The documentation, taken apart: what its pages say in code, tables, headings and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conftest import ROOT
from markdown_it import MarkdownIt
from markdown_it.token import Token

# What a user or a contributor reads; of the others links alone count, as CHANGELOG.md names what is no more, too.
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
LINKING = (*PAGES, ROOT / "CHANGELOG.md", ROOT / "CITATIONS.md")

# Options of `nextflow run` and `nextflow` that the text names, by whether a word follows.
# tests/pipeline/test_parameters.py asks Nextflow for them.
NEXTFLOW_OPTIONS = {
    "-profile": True, "-c": True, "-params-file": True, "-work-dir": True, "-with-tower": False, "-ansi-log": True,
    "-resume": False, "-stub-run": False,
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """A fenced block (`language` is its info string), or code in a sentence or cell (`language` is None)."""

    page: Path
    line: int
    language: str | None
    text: str

    @property
    def where(self) -> str:
        """Page and line, as messages and test ids name it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Table:
    """A table's cells as they are written, the header first, and the heading and paragraph that it stands below."""

    page: Path
    heading: str
    before: str
    rows: tuple[tuple[str, ...], ...]


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """A page as markdown-it reads it; GitHub reads tables too."""
    return tuple(MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")))


def blocks(page: Path, language: str | None = None) -> list[Code]:
    """Fenced blocks, of all languages or one. A block in a list's item is one too."""
    found = [token for token in tokens(page) if token.type == "fence"]
    return [
        Code(page, (token.map or [0])[0] + 1, token.info, token.content)
        for token in found if language in (None, token.info)
    ]  # fmt: skip


def spans(page: Path) -> list[Code]:
    """Code in sentences and cells; `line` is that of its paragraph or row."""
    return [
        Code(page, (token.map or [0])[0] + 1, None, child.content)
        for token in tokens(page) for child in token.children or () if child.type == "code_inline"
    ]  # fmt: skip


def names_in(cell: str) -> list[str]:
    """What stands as code in a cell or sentence."""
    return re.findall(r"`([^`]+)`", cell)


def tables(page: Path) -> list[Table]:
    """All tables of a page."""
    found: list[Table] = []
    heading = before = ""
    rows: list[list[str]] | None = None
    for token, after in zip(tokens(page), [*tokens(page)[1:], None], strict=True):
        if token.type == "heading_open" and after:
            heading = after.content
        elif token.type == "table_open":
            rows = []
        elif token.type == "table_close":
            found.append(Table(page, heading, before, tuple(tuple(row) for row in rows or ())))
            rows = None
        elif token.type == "tr_open" and rows is not None:
            rows.append([])
        elif token.type == "inline" and rows is not None:
            rows[-1].append(token.content)
        elif token.type == "inline":
            before = token.content
    return found


def anchors(page: Path) -> list[str]:
    """The anchors that GitHub gives a page's headings: lower case, no punctuation, blanks as `-`, twins numbered."""
    found: list[str] = []
    for token, after in zip(tokens(page), tokens(page)[1:], strict=False):
        if token.type == "heading_open":
            text = "".join(child.content for child in after.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            twins = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
            found.append(f"{slug}-{twins}" if twins else slug)
    return found


def links(page: Path) -> list[str]:
    """Where links and pictures of a page lead."""
    children = [child for token in tokens(page) for child in token.children or ()]
    return [str(child.attrs[key]) for child in children for key in ("href", "src") if key in child.attrs]


def shell_lines(block: Code) -> Iterator[Code]:
    """The commands of a block, one for each, without remarks."""
    text, line = "", block.line
    for number, part in enumerate(block.text.splitlines(), start=block.line + 1):
        text, line = text + part, line if text else number
        if text.endswith("\\"):
            text = text[:-1]
            continue
        if words := shlex.split(text, comments=True):
            yield Code(block.page, line, block.language, shlex.join(words))
        text = ""


def commands() -> list[Code]:
    """Every command, and every list of options without one, in blocks of `bash` and as code in the text."""
    found = [line for page in PAGES for block in blocks(page, "bash") for line in shell_lines(block)]
    begins = re.compile(r"-{1,2}\w|(\.tools/bin/)?nextflow |make |(bin|setup|containers)/\w+\.\w+ ")
    return found + [span for page in PAGES for span in spans(page) if begins.match(span.text)]


def columns_of_tables() -> dict[str, list[str]]:
    """Columns that docs/outputs.md gives each file of `tables/`: in a table below it, or in a row of its own."""
    found: dict[str, list[str]] = {}
    for table in tables(ROOT / "docs" / "outputs.md"):
        header, *rows = table.rows
        file = next((name for name in names_in(table.before) if name.endswith((".csv", ".csv.gz"))), "")
        if header[0] == "column" and file != "cases.csv":  # which is no file of `tables/`
            found[file] = [name for row in rows for name in names_in(row[0])]
        elif header[-1] == "columns":
            found |= {names_in(row[0])[0]: names_in(row[-1]) for row in rows}
    return found
