"""The documents: links lead somewhere, Python runs, commands are ones that exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bitat_tf import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# What no test can run: other people's programs, and an app's build file.
FOREIGN = (
    ".",
    "cd",
    "git",
    "python3",
    ".venv/bin/pip",
    "pip",
    "tensorboard",
    "./third_party/install_android.sh",
    "bazelisk",
    "gradle",
)

# What a page takes as given, in the smallest form.
DIGITS = """
import bitat_tf as bitat
from tensorflow import keras
tf = __import__("tensorflow")
data = bitat.data.load(bitat.DataConfig("digits", flip=False, crop_padding=1), seed=0)
"""
GIVEN = {
    "docs/binarize.md": DIGITS
    + """
image = keras.Input((8, 8, 1))
x = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(image)
x = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(x)
model = keras.Model(image, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
images, train = data.calibration(32, batches=2), data.train(32)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
""",
    "docs/training.md": DIGITS
    + """
images = data
teacher, student = (
    bitat.models.build("mobilenet_v1_react_nano", input_size=8, input_channels=1,
                       blocks=((2, 2),), binary=binary)
    for binary in (False, True)
)
""",
}
# Fewer steps than a page takes.
SHORTER = (
    ("epochs=10", "epochs=1"),
    ("batches=8", "batches=2"),
    ("steps=200", "steps=30"),
    ("steps=80", "steps=10"),
    ("take(200)", "take(30)"),
    ("epoch=100", "epoch=5"),
)


def blocks(document, *languages):
    text = document.read_text(encoding="utf-8")
    return [body for language, body in BLOCK.findall(text) if language in languages]


def name_of(document):
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_code_is_of_a_kind_that_is_tested(document):
    languages = {language for language, _ in BLOCK.findall(document.read_text(encoding="utf-8"))}
    assert languages <= {"", "python", "console", "text"}


WITH_PYTHON = [d for d in DOCUMENTS if d.name != "README.md" and blocks(d, "python")]


@pytest.mark.parametrize("document", WITH_PYTHON, ids=name_of)
def test_the_python_runs(document, tmp_path):
    code = "\n".join(blocks(document, "python"))
    for long, short in SHORTER:
        code = code.replace(long, short)
    given = GIVEN[name_of(document)]
    done = subprocess.run(
        [sys.executable, "-c", given + code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def commands(document):
    """Command lines of a document's console blocks, and of those without a language."""
    for block in blocks(document, "console", ""):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_0-9]+=\S+", words[0]):
                del words[0]
            for part in " ".join(map(shlex.quote, words)).split(" '&&' "):
                if part:
                    yield shlex.split(part)


def source_of(tool):
    """A tool's code, and that of the tools it stands on."""
    text = tool.read_text(encoding="utf-8")
    names = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    below = [path for name in names if (path := tool.with_name(f"{name}.py")).is_file()]
    return text + "".join(source_of(path) for path in below)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_exist_with_the_options_they_are_given(document):
    for program, *arguments in commands(document):
        if program == "bitat":
            cli.build_parser().parse_args(arguments)  # ends the process where it does not parse
        elif program == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in arguments if "=" not in word} <= set(targets)
        elif program in ("python", "pytest"):
            tool = next(word for word in arguments if word.endswith(".py"))
            assert (ROOT / tool).is_file(), tool
            if tool.startswith("tools/"):
                source = source_of(ROOT / tool)
                options = [word for word in arguments if word.startswith("--")]
                assert all(f'"{option}"' in source for option in options), arguments
        else:
            assert program in FOREIGN or program.endswith("configure.py"), program


# Where a figure comes from: a command, or the page of results that names one.
SOURCE = re.compile(
    r"`[^`]*\b(?:python tools/\w+\.py|bitat \w+|make \w+|pytest )|results/[\w.-]+\.md"
)
NUMBER = re.compile(r"(?=(?:\D*\d){2})[\d.,]+(?: \+- [\d.]+)?(?: ?(?:%|KiB|ms))?")


def sections(document):
    """Of a document, each with its heading; comments in code are no headings."""
    text = BLOCK.sub(lambda block: block[0].replace("\n#", "\n #"), document.read_text("utf-8"))
    return re.split(r"^(?=#+ )", text, flags=re.MULTILINE)


def shows_figures(section):
    """Whether it has an image, or a table in which most rows end in numbers."""
    rows = [line.strip(" |").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    numbers = [any(NUMBER.fullmatch(cell.strip(" *")) for cell in row[1:]) for row in rows]
    return "![" in section or sum(numbers) > len(numbers) / 2


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_figures_and_tables_name_what_made_them(document):
    text = document.read_text(encoding="utf-8")
    for section in sections(document):
        if shows_figures(section):
            # A page of results is written whole, by the command that it names.
            given = text if document.parent.name == "results" else section
            assert SOURCE.search(given) or "\npython tools/" in given, section[:200]


def test_a_table_without_a_source_would_be_found():
    table = (
        "## Speed\n\n| | ms |\n| --- | ---: |\n| a | 0.3 |\n| b | 12.5 % |\n| c | 65.1 +- 0.3 |\n"
    )
    assert shows_figures(table)
    assert not SOURCE.search(table)
    assert not shows_figures("| rule | what it does |\n| --- | --- |\n| a | at most 3 |\n")


def test_the_readme_s_means_are_those_of_the_results():
    mean = re.compile(r"(\d+\.\d+) \+- (\d+\.\d+)")
    pages = "".join(p.read_text("utf-8") for p in (ROOT / "docs" / "results").glob("*.md"))
    known = {tuple(f"{float(number):.1f}" for number in found) for found in mean.findall(pages)}
    shown = mean.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(shown) > 6
    assert set(shown) <= known
