from pathlib import Path

import pytest

from bitat_tf import models

DOCUMENT = Path(__file__).parents[2] / "docs" / "backbones.md"


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("list_backbones")


def test_the_document_lists_every_backbone_at_every_size(tool):
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in models.names():
        for size, classes in tool.SIZES:
            assert f"| `{name}` | {size} | {classes} |" in text


def test_the_document_s_figures_are_those_of_the_builders(tool):
    text = DOCUMENT.read_text(encoding="utf-8")
    for line in tool.rows(["mobilenet_v2_nano"]):
        assert line in text


def test_a_folder_that_is_not_there_is_said_in_a_line(tool, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tool.models, "names", lambda: ["mobilenet_v1_react_nano"])
    assert tool.main(["--out", str(tmp_path / "missing" / "table.md")]) == 2
    assert "No such directory" in capsys.readouterr().err


def test_writes_its_table(tool, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tool.models, "names", lambda: ["mobilenet_v1_react_nano"])
    out = tmp_path / "table.md"
    assert tool.main(["--out", str(out)]) == 0
    assert "| `mobilenet_v1_react_nano` | 32 | 10 | 15 |" in out.read_text(encoding="utf-8")
    assert str(out) in capsys.readouterr().out
