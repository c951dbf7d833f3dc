"""Kill -9 and resume, a few times over a small run, each start a process of its own."""

SMALL = (
    "model.arguments.stem_channels=8",
    "model.arguments.blocks=[[2, 2]]",
    "teacher.epochs=2",
    "student.steps=60",
    "student.progressive_steps=12",
    "student.refresh_steps=20",
    "checkpoint.steps=3",
)


def test_a_run_that_was_killed_ends_in_the_weights_of_one_that_was_not(load_tool, tmp_path, capsys):
    tool = load_tool("chaos_resume")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    status = tool.main(["--cycles", "2", "--work", str(tmp_path / "work"), *settings])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "2 kills in" in printed
    assert "0 with damage" in printed
    assert "Different from the run left alone: nothing." in printed


def test_what_differs_is_named(load_tool, tmp_path, capsys):
    """The comparison can fail: of two runs of other seeds nothing is the same."""
    tool = load_tool("chaos_resume")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "student.keras").write_bytes(b"PK half of a zip archive")
    (tmp_path / "killed" / "report.json").write_text("{")
    wrong = tool.whole(tmp_path / "killed")
    assert [text.partition(":")[0] for text in wrong] == ["student.keras", "report.json"]
