"""Predicted sizes as a table; that they hold is in tests/binarize/test_prediction.py."""

import pytest


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("predict_sizes")


@pytest.mark.slow  # KerasCV alone takes half a minute to load
def test_writes_a_row_for_every_model_it_is_given(tool, tmp_path, capsys):
    assert tool.main(["--models", "keras_cv_mobilenet", "--out", str(tmp_path)]) == 0
    text = (tmp_path / tool.NAME).read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "python tools/predict_sizes.py --models keras_cv_mobilenet\n" in text
    name, binary, _, predicted, real, ratio = text.splitlines()[-1].strip("| ").split(" | ")
    assert (name, binary) == ("keras_cv_mobilenet", "3")
    sizes = [int(number.replace(",", "")) for number in (predicted, real)]
    assert sizes[0] / sizes[1] == pytest.approx(float(ratio), abs=0.005)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_the_page_names_its_command(tool):
    row = ("net", "3", "2", "1,000", "990", "1.01")
    text = tool.page([row], "python tools/predict_sizes.py", seconds=90.0)
    assert "```\npython tools/predict_sizes.py\n```" in text
    assert text.endswith("| net | 3 | 2 | 1,000 | 990 | 1.01 |\n")
