"""Recipes on disk: found by name or path, read with overrides, compared, written."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from bitat_tf.config import Recipe
from bitat_tf.records import from_mapping, to_mapping


def data_dir_overrides(data_dir: str | None) -> list[str]:
    """The overrides of a recipe that `--data-dir` means; none where it is not given.

    Args:
        data_dir: directory of the TFDS data sets, or None.

    Returns:
        For `apply_overrides`.
    """
    return [] if data_dir is None else [f"data.data_dir={json.dumps(data_dir)}"]  # JSON is YAML


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `section.key=value` settings (values in YAML) to a recipe's mapping.

    Args:
        values: of a recipe, nested; not changed.
        overrides: such as `"student.steps=100"`.

    Returns:
        A new mapping; its keys are checked when the recipe is built from it.

    Raises:
        ValueError: when a setting is not of the form `key=value`.
    """
    result: dict[str, Any] = {
        k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()
    }
    for setting in overrides:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"A setting must read key=value. Received: {setting!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as err:
            raise ValueError(f"The value of {setting!r} is not valid YAML.") from err
        *parents, last = key.split(".")
        at = result
        for parent in parents:
            below = at.get(parent)
            at[parent] = dict(below) if isinstance(below, Mapping) else {}
            at = at[parent]
        at[last] = value
    return result


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("bitat_tf") / "recipes"
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe that ships with the package by name, or a YAML file by path.

    Args:
        name_or_path: for example `"cifar10-nano"` or `"my/recipe.yaml"`.
        overrides: settings such as `"student.steps=100"`.

    Returns:
        The recipe, every value checked.

    Raises:
        ValueError: when there is no such recipe, or it is not valid.
    """
    path = Path(name_or_path)
    if name_or_path in recipe_names():
        packaged = resources.files("bitat_tf") / "recipes" / f"{name_or_path}.yaml"
        text = packaged.read_text(encoding="utf-8")
    elif path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise ValueError(f"Cannot read the recipe {name_or_path}: {err}") from err
    else:
        raise ValueError(
            f"No recipe named {name_or_path!r}, and no such file. "
            f"Packaged recipes: {', '.join(recipe_names())}."
        )
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ValueError(f"{name_or_path} is not valid YAML: {' '.join(str(err).split())}") from err
    if not isinstance(values, Mapping):
        raise ValueError(f"{name_or_path} is not a recipe: its top level must be a mapping.")
    try:
        return from_mapping(Recipe, apply_overrides(values, overrides))
    except ValueError as err:
        raise ValueError(f"Recipe {name_or_path}: {err}") from err


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Settings in which two recipes differ, such as "student.steps is 400 and was 600".

    Less where the data lie, which another machine has elsewhere, what is kept or logged, and on
    what devices it runs.

    Args:
        old: of an earlier run.
        new: that it would go on with.

    Returns:
        A text for each setting; empty where nothing differs.
    """
    was, now = _flat(to_mapping(old)), _flat(to_mapping(new))
    return [
        f"{key} is {now[key]!r} and was {was[key]!r}"
        for key in was
        if was[key] != now[key]
        and key not in ("data.data_dir", "scale.strategy")
        and not key.startswith(("checkpoint.", "log."))
    ]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sections and their fields as one mapping, `section.key`."""
    flat: dict[str, Any] = {}
    for section, value in values.items():
        if isinstance(value, Mapping):
            flat.update({f"{section}.{key}": field for key, field in value.items()})
        else:
            flat[section] = value
    return flat


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe as YAML.

    Args:
        recipe: to write.
        path: of the file.

    Raises:
        OSError: when it cannot be written.
    """
    path.write_text(yaml.safe_dump(to_mapping(recipe), sort_keys=False), encoding="utf-8")
