"""Float, int8 and binary in one table, of one run or several, on any device."""

import csv
import dataclasses

import pytest

from bitat_tf import report
from bitat_tf.cli import main
from bitat_tf.recipe_files import load_recipe
from bitat_tf.records import to_mapping
from bitat_tf.report import charts, comparison
from bitat_tf.results import RunResult
from bitat_tf.run_directory import start

WARNING = "**The host's figures say nothing about phones"
EMPTY = RunResult(recipe={"name": "nothing-yet"}, versions={}, machine="a machine")


def test_rows_join_accuracy_size_and_latency(make_result):
    rows = report.comparison_rows(make_result())
    assert [row.model for row in rows] == ["float", "int8", "binary"]
    assert [row.test_accuracy for row in rows] == [0.722, 0.715, 0.651]
    assert [row.size_bytes for row in rows] == [612_344, 183_088, 41_320]
    assert [row.times_faster for row in rows] == pytest.approx([1, 2, 3])
    assert [row.times_smaller for row in rows] == pytest.approx([1, 3.3445, 14.8196], rel=1e-4)
    assert [row.memory_mb for row in rows] == [9.5, 5.0, 6.25]


def test_the_report_shows_them_with_the_warning(make_result):
    result = make_result()
    text = report.render(result)
    assert text.count(WARNING) == 2  # the comparison's and the operators'
    assert "| binary | 65.10 % | 41,320 bytes | 14.8 | 0.800 | 0.700 - 1.000 | 3.00 | 6.2 |" in text
    assert "0.800 ms in all, 100% of the whole inference's 0.800 ms" in text
    assert "| LceBconv2d | 2 | 0.600 | 75.0 % |" in text
    phone = tuple(dataclasses.replace(r, device="Pixel 8") for r in result.latency)
    assert WARNING not in report.render(dataclasses.replace(result, latency=phone, profiles=()))


def test_a_ratio_needs_a_float_figure_from_the_same_setting(make_result):
    result = make_result()
    latency = tuple(
        dataclasses.replace(r, threads=2) if r.model == "binary" else r for r in result.latency
    )
    rows = report.comparison_rows(dataclasses.replace(result, latency=latency))
    assert {row.model: row.times_faster is None for row in rows} == {
        "float": False,
        "int8": False,
        "binary": True,
    }


def test_an_unscored_model_has_no_accuracy_and_no_point(make_result):
    result = dataclasses.replace(make_result(), scores=())
    rows = report.comparison_rows(result)
    assert all(row.test_accuracy is None and row.times_smaller is None for row in rows)
    assert "not measured" in comparison.render_comparison(rows)
    assert charts.draw_comparison(rows) is None


def test_runs_are_merged_into_one_set_of_files(tmp_path, make_result):
    result = make_result()
    path = report.write_comparison({"a": result, "b": result, "c": EMPTY}, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "comparison.md",
        "comparison.csv",
        "comparison.json",
        "comparison.png",
    }
    with (tmp_path / "comparison.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [(row["run"], row["model"]) for row in table] == [
        (run, model) for run in "ab" for model in ("float", "int8", "binary")
    ]
    assert float(table[-1]["latency_ms"]) == 0.8
    text = path.read_text()
    assert "| a | binary |" in text
    assert "Without a latency: c." in text
    with pytest.raises(ValueError, match="a run with a latency"):
        report.write_comparison({"c": EMPTY}, tmp_path)


def test_the_command_merges_run_directories(tmp_path, make_result, capsys):
    recipe = load_recipe("digits-demo")
    for name in ("x", "y"):
        start(tmp_path / name, recipe)
        named = dataclasses.replace(make_result(), recipe=to_mapping(recipe))
        report.save(named, tmp_path / name)
    folders, out = [str(tmp_path / name) for name in ("x", "y")], tmp_path / "both"
    assert main(["report", *folders, "--out", str(out)]) == 0
    assert str(out / "comparison.md") in capsys.readouterr().out
    assert "| y | int8 |" in (out / "comparison.md").read_text()
    assert main(["report", folders[0], folders[0], "--out", str(out)]) == 2
    assert "once" in capsys.readouterr().err


def test_bars_are_stacked_by_type_and_reach_the_sum(make_result):
    figure = charts.draw_operators(make_result().profiles)
    (axes,) = figure.axes
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert max(ends) == pytest.approx(0.8)
    assert [container.get_label() for container in axes.containers] == ["LceBconv2d", "CONV_2D"]


def test_every_layer_with_macs_has_a_bar_of_its_kind(make_result):
    audit = make_result().audit
    (axes,) = charts.draw_layers(audit).axes
    assert len(axes.patches) == 3
    assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(1)
    assert [c.get_label().split(":")[0] for c in axes.containers] == ["1 bit", "float or int8"]
