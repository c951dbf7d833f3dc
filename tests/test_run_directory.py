"""What a killed process leaves in a run directory goes; what it finished stays."""

import subprocess
import sys

import pytest

from bitat_tf import run_directory
from bitat_tf.config import Recipe
from bitat_tf.recipe_files import load_recipe

RECIPE = Recipe(name="mine")


def test_only_unfinished_files_of_ours_are_removed(tmp_path):
    run_directory.start(tmp_path, RECIPE)
    kept = {"recipe.yaml", "student.keras", ".hidden", "notes.txt", ".notes.txt.ab12cd34.txt"}
    for name in kept - {"recipe.yaml"}:
        (tmp_path / name).write_text("whole")
    for name in (".student.keras.ab12cd34.keras", ".report.json.zz_9yx8w.json"):
        (tmp_path / name).write_text("ha")
    run_directory.clear_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_run_is_there_from_the_recipe_on(tmp_path):
    folder = tmp_path / "run"
    run_directory.clear_unfinished(folder)
    folder.mkdir()
    run_directory.clear(folder)
    (folder / ".recipe.yaml.ab12cd34.yaml").write_text("name: h")  # killed
    assert not run_directory.is_run(folder)
    run_directory.clear_unfinished(folder)
    run_directory.check_free(folder, overwrite=False)
    run_directory.start(folder, RECIPE)
    assert run_directory.is_run(folder)
    assert load_recipe(str(folder / "recipe.yaml")) == RECIPE


def test_an_overwritten_run_leaves_no_state_of_its_training(tmp_path):
    run_directory.start(tmp_path, RECIPE)
    for name in ("teacher", "student"):
        run_directory.states_path(tmp_path, name).mkdir()
        (run_directory.states_path(tmp_path, name) / "checkpoint").write_text("x")
        run_directory.best_path(tmp_path, name).write_text("x")
    run_directory.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_one_process_at_a_time_and_a_killed_one_holds_no_lock(tmp_path):
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, sys, time; "
            "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); "
            "print(flush=True); time.sleep(60)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    held.stdout.readline()
    with pytest.raises(ValueError, match="Another process is at work"):
        run_directory.locked(tmp_path).__enter__()
    held.kill()
    held.communicate()
    with run_directory.locked(tmp_path):
        pass
    with run_directory.locked(tmp_path):
        pass
