import pytest

from bitat_tf.cli import main as bitat


@pytest.fixture(scope="module")
def tool(load_tool):
    load_tool("experiments")
    return load_tool("measure_ends")


@pytest.mark.slow
def test_every_flatbuffer_of_a_run_is_scored(tool, tmp_path):
    run = tmp_path / "run"
    settings = ["teacher.epochs=2", "student.steps=20"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    assert bitat(["demo", "--out", str(run), *arguments]) == 0
    assert tool.main([str(run), "--out", str(tmp_path)]) == 0
    text = (tmp_path / tool.NAME).read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| run |")]
    assert len(rows) == 1 + 5  # the head, Keras and four flatbuffers
    agreement = [float(row[4].strip().rstrip("%")) for row in rows[1:]]
    assert agreement[0] == 100.0
    assert min(agreement[1:3]) >= 99.5
