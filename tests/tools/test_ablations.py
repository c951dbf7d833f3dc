"""Every ablation changes exactly the part it names, and the table says what came of it."""

import dataclasses

import pytest

from bitat_tf.config import CalibrationConfig, Recipe, StudentConfig
from bitat_tf.results import TrainingPoint

RECIPE = Recipe("test", student=StudentConfig(steps=40))

# What a variant may touch, by section; everything else must stay as in the whole method.
TOUCHED = {
    "bitat": set(),
    "no-transform": {"code_search"},
    "no-compensation": {"compensate"},
    "no-cross-layer-target": {"target"},
    "task-weights": {"task_weights"},
    "median-thresholds": {"threshold"},
    "zero-thresholds": {"threshold"},
    "no-head": {"fit_head"},
    "no-margin": {"margin"},
    "margin-0.3": {"margin"},
    "bottom-up": {"progressive_steps"},
    "top-down": {"progressive_steps", "order"},
    "random-order": {"progressive_steps", "order"},
    "quantization-loss": {"quantization_loss", "refresh_steps"},
    "release-most-first": {"release_steps"},
    "release-least-first": {"release_steps", "release_order"},
}


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("ablations")


def changed(before, after):
    return {
        field.name
        for field in dataclasses.fields(before)
        if getattr(before, field.name) != getattr(after, field.name)
    }


def test_every_variant_changes_the_part_it_names(tool, tmp_path):
    assert set(tool.VARIANTS) == set(TOUCHED)
    base = dataclasses.replace(RECIPE, calibration=CalibrationConfig(margin=0.1))
    experiments = tool.Experiments(base, tmp_path / "r", tmp_path / "t", tmp_path / "w")
    for name, touched in TOUCHED.items():
        recipe = experiments.recipe_of(tool.variant(name, base), seed=3)
        found = changed(base.calibration, recipe.calibration)
        found |= changed(base.student, recipe.student)
        assert found == touched, name
        assert recipe.seed == 3
    with pytest.raises(ValueError, match="of bitat, no-transform"):
        tool.variant("magic", base)


def record(tool, name, seed, test, calibrated=None):
    return tool.Record(
        name, seed, {}, "a machine", test, test, 0.7, 60.0, calibrated, (TrainingPoint(1, 1, 0),)
    )


def test_the_table_compares_with_the_whole_method_seed_by_seed(tool):
    records = [
        record(tool, "float", 0, 0.8),
        record(tool, "bitat", 0, 0.60, 0.4),
        record(tool, "bitat", 1, 0.70, 0.5),
        record(tool, "no-head", 0, 0.59, 0.3),
        record(tool, "no-head", 1, 0.67, 0.3),
    ]
    text = tool.markdown(records, "the command", RECIPE)
    (row,) = [line for line in text.splitlines() if line.startswith("| no-head")]
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["30.0 +- 0.0", "63.0 +- 5.7", "-2.0"]
    assert "| float" not in text
    assert "Seeds 0, 1" in text
    assert "the command" in text


def test_digits_end_to_end_and_again_without_training(tool, tmp_path, capsys):
    arguments = [
        *("--recipe", "digits-demo", "--seeds", "0", "--steps", "4", "--variants", "no-head"),
        *("--set", "teacher.epochs=1", "--set", "student.batchnorm_batches=2"),
        *("--set", "model.arguments={stem_channels: 8, blocks: [[2, 2]]}", "--quiet"),
        *("--set", "calibration.batches=1", "--work", str(tmp_path / "work")),
        *("--out", str(tmp_path / "out")),
    ]
    assert tool.main(arguments) == 0
    table = (tmp_path / "out" / "ablations-digits.md").read_text()
    assert "| bitat |" in table
    assert "| no-head |" in table
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.json")}
    assert len(made) == 3  # teacher, whole, variant
    assert tool.main(arguments) == 0
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.json")}
    capsys.readouterr()
