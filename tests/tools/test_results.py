"""The pages of docs/results: each names its command, and says what its records say.

A page that stands on records is written again from them here, with the very command that it names;
nothing is trained or measured for that.
"""

import argparse
import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PAGES = [page for page in sorted(RESULTS.glob("*.md")) if page.name != "README.md"]
COMMAND = re.compile(r"python tools/(\w+)\.py[^`\n]*")
SPREAD = re.compile(r"(\d+\.\d+) \+- (\d+\.\d+)")
FROM_RECORDS = {
    "ablations",
    "compare_methods",
    "compare_own_model",
    "compare_twin",
    "summarize_runs",
}


def command_of(page):
    """Tool and arguments of the command that a page says it was written by."""
    found = COMMAND.search(page.read_text(encoding="utf-8"))
    if found is None:
        return "", []
    return found[1], shlex.split(found[0])[2:]


class Parsed(Exception):
    """Raised in place of all work behind the parsing."""


@pytest.fixture
def only_parse(monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def stop(self, *given):
        parse(self, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_a_command_that_its_tool_takes(page, load_tool, only_parse):
    tool, arguments = command_of(page)
    assert tool, "names no command"
    with pytest.raises(Parsed):
        load_tool(tool).main(arguments)


def test_a_command_with_another_option_would_be_found(load_tool, only_parse, capsys):
    with pytest.raises(SystemExit):
        load_tool("benchmark_refresh").main(["--size", "x"])
    assert "invalid int value" in capsys.readouterr().err


@pytest.mark.parametrize(
    "page", [page for page in PAGES if command_of(page)[0] in FROM_RECORDS], ids=lambda p: p.stem
)
def test_a_page_says_what_its_records_say(page, load_tool, tmp_path, monkeypatch):
    tool, arguments = command_of(page)
    out = tmp_path / "results"
    for record in RESULTS.rglob("*.json"):
        copy = out / record.relative_to(RESULTS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record, copy)
    monkeypatch.chdir(ROOT)
    given = [
        found
        for word in arguments
        for found in (sorted(map(str, ROOT.glob(word))) if "*" in word else [word])
    ]
    places = ["--out", str(out)]
    if tool != "summarize_runs":
        places += ["--work", str(tmp_path / "work"), "--quiet"]
    assert load_tool(tool).main([*given, *places]) == 0
    assert (out / page.name).read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    written = {path.name for path in out.rglob("*.png")}
    figures = re.findall(r"!\[.*\]\((?:[\w.-]+/)?([\w.-]+)\)", page.read_text(encoding="utf-8"))
    assert set(figures) <= written


@pytest.mark.parametrize("figure", sorted(RESULTS.rglob("*.png")), ids=lambda path: path.name)
def test_every_figure_stands_on_a_page(figure):
    name = figure.relative_to(RESULTS).as_posix()
    assert any(f"]({name})" in page.read_text(encoding="utf-8") for page in PAGES)


def spreads(page):
    """All `mean +- spread` of a page, to one decimal as texts have them."""
    found = SPREAD.findall(page.read_text(encoding="utf-8"))
    return {(f"{float(mean):.1f}", f"{float(spread):.1f}") for mean, spread in found}


@pytest.mark.parametrize(
    "text", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_a_mean_with_its_spread_is_one_of_a_results_page(text):
    assert spreads(text) <= set().union(*map(spreads, PAGES))
