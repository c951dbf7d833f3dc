"""What the documentation site shows beside docs/: a hook of MkDocs, run by `make docs`.

README.md is the site's home; CONTRIBUTING.md, CHANGELOG.md and the notebooks are pages of it, so
each is written once. `docs/commands.md` and `docs/recipes.md` hold a marker in whose place the text
goes that the commands and recipes themselves have.
"""

import argparse
import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from unittest import mock

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

from bitat_tf import cli
from bitat_tf.recipe_files import recipe_names

ROOT = Path(__file__).parent.parent
_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie beside docs/."""
    for name, page in _PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)  # links as from inside docs/
        text = text.replace("](notebooks/README.md)", "](notebooks.md)")
        files.append(File.generated(config, page, content=text))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        path = f"notebooks/{notebook.name}"
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill the markers in, and lead links out of docs/ to the pages added above."""
    if page.file.src_uri == "commands.md":
        markdown = markdown.replace("<!-- commands -->", "\n".join(_commands()))
    if page.file.src_uri == "recipes.md":
        markdown = markdown.replace("<!-- recipes -->", "\n".join(_recipes()))
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../README.md", f"]({up}index.md").replace(
        f"]({up}../notebooks/", f"]({up}notebooks/"
    )


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Links of a notebook, which MkDocs takes as they are."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    html = re.sub(r'href="(\w+)\.ipynb"', r'href="../\1/"', html)
    return re.sub(r'href="\.\./docs/(\w+)\.md', r'href="../../\1/', html)


def _commands() -> Iterator[str]:
    """A section for each command: its help."""
    # argparse breaks lines at the width of the terminal
    with mock.patch.dict(os.environ, COLUMNS="100"):
        for name, parser in _subparsers(cli.build_parser()):
            yield f"## bitat {name}\n\n```text\n{parser.format_help().rstrip()}\n```\n"


def _subparsers(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.items())
    raise ValueError("The command has no subcommands.")


def _recipes() -> Iterator[str]:
    """A section for each recipe: the file, whose header says what it costs and gives."""
    folder = resources.files("bitat_tf") / "recipes"
    for name in recipe_names():
        text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
        yield f"## {name}\n\n```yaml\n{text.rstrip()}\n```\n"
