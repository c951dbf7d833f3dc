"""Runs on one page; that the page of the repository is what its records give is in test_results."""

import dataclasses
from pathlib import Path

import pytest

from bitat_tf import report

RECORDS = Path(__file__).parents[2] / "docs" / "results" / "records" / "cifar10-nano"


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("summarize_runs")


@pytest.fixture
def runs(tmp_path):
    """Two runs that differ in their seed, as a user has them."""
    folders = []
    for seed in (3, 4):
        folder = tmp_path / f"run{seed}"
        folder.mkdir()
        result = report.load(sorted(RECORDS.iterdir())[0])
        data = {**result.recipe["data"], "data_dir": f"/home/user{seed}"}
        recipe = {**result.recipe, "seed": seed, "data": data}
        report.save(dataclasses.replace(result, recipe=recipe, command="/home/bitat"), folder)
        folders.append(folder)
    return folders


def change(folder, **changes):
    report.save(dataclasses.replace(report.load(folder), **changes), folder)


def test_a_column_for_each_seed_and_nothing_of_the_machine_s_paths(tool, runs, tmp_path, capsys):
    assert tool.main([*map(str, runs), "--title", "mine", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert "| test accuracy, % | seed 3 | seed 4 | mean +- spread |" in text
    assert "| 1-bit, trained | 67.18 | 67.18 | 67.18 +- 0.00 |" in text
    for record in tmp_path.rglob("records/mine/*/report.json"):
        assert "/home" not in record.read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "costs.png",
        "training.png",
        "calibration.png",
    }
    assert text in capsys.readouterr().out


def test_without_latency_there_is_no_table_of_it(tool, runs, tmp_path):
    for folder in runs:
        change(folder, latency=(), profiles=())
    assert tool.main([*map(str, runs), "--out", str(tmp_path)]) == 0
    assert "Latency" not in (tmp_path / "cifar10-nano.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": ()}, "bitat evaluate"),
        ({"audit": None}, "bitat convert"),
        ({"parity": None}, "bitat convert"),
        ({"recipe": {"name": "other", "seed": 4, "data": {}}}, "one recipe"),
    ],
)
def test_what_is_missing_is_one_line_and_nothing_is_written(
    tool, runs, tmp_path, capsys, changes, message
):
    change(runs[1], **changes)
    out = tmp_path / "out"
    out.mkdir()
    assert tool.main([*map(str, runs), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(out.rglob("*.md"))


def test_two_runs_of_one_name_are_refused(tool, runs, tmp_path, capsys):
    assert tool.main([str(runs[0]), str(runs[0]), "--out", str(tmp_path)]) == 1
    assert "share a name" in capsys.readouterr().err
