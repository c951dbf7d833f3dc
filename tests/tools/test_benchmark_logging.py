"""The page on what logging costs has a row for each network, of trainings that did log."""


def test_a_row_for_a_network(load_tool, tmp_path):
    tool = load_tool("benchmark_logging")
    few = ["--networks", "digits-demo", "--steps", "2", "--points", "3", "--rounds", "1"]
    assert tool.main([*few, "--out", str(tmp_path)]) == 0
    page = (tmp_path / "logging-cost.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| digits-demo")]
    step, ratio, point, between, share = row.strip("| ").split(" | ")[1:]
    assert between == "50"
    assert min(float(step), float(ratio), float(point)) > 0
    assert 0 < float(share.rstrip("%")) < 100


def test_without_a_folder_nothing_is_logged(load_tool, tmp_path):
    tool = load_tool("benchmark_logging")
    recipe = tool.load_recipe("digits-demo")
    without, none = tool.stretches(recipe, (8, 1), 1, 3, None)
    logged, points = tool.stretches(recipe, (8, 1), 1, 3, tmp_path)
    assert (len(without), len(none)) == (2, 0)
    assert (len(logged), len(points)) == (2, 2)
    assert list(tmp_path.glob("events.*"))
