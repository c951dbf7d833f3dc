"""Every public name says what it is: arguments, array shapes, errors; and the API pages show it.

Public is what `docs/api` shows, what `__all__` of a shown package holds, and the public methods and
fields of those. Griffe, which mkdocstrings stands on, reads code and docstrings without importing.
"""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import griffe
import pytest

ROOT = Path(__file__).parent.parent
SHOWN = re.compile(r"^::: bitat_tf\.(\S+)", re.MULTILINE)
# What Keras calls, with arguments that Keras documents; mkdocs.yml hides the first two as well.
OF_KERAS = {"get_config", "build", "call", "compute_output_shape", "train_step", "test_step"}
OF_KERAS |= {"from_config", "on_train_begin", "on_train_batch_begin", "on_epoch_end"}
# A shape: "(batch, 10)", "(K, N)"; or words for one.
SHAPE = re.compile(r"\([\w*.' /+-]+,[\w*.,' /+-]*\)|any shape|same shape|as `\w+`|scalar|shaped as")
PACKAGE = griffe.load(
    "bitat_tf",
    search_paths=[str(ROOT)],
    docstring_parser="google",
    docstring_options={"warn_unknown_params": False, "warn_missing_types": False},
)


def at(path):
    """The object of a dotted path below `bitat_tf`, aliases followed."""
    found = PACKAGE[path] if path else PACKAGE
    return found.final_target if found.is_alias else found


def home(module, name):
    """Where a name of `__all__` is defined, by import: `train.calibrate` is also a module."""
    value = getattr(importlib.import_module(module.path), name)
    where, called = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    if where.startswith("bitat_tf.") and called and "<" not in called:
        return at(f"{where}.{called}".removeprefix("bitat_tf."))
    return module[name].final_target if module[name].is_alias else module[name]


def pages():
    """What the API pages name: page -> objects."""
    return {
        page.name: [at(path) for path in SHOWN.findall(page.read_text(encoding="utf-8"))]
        for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    }


def below(thing):
    """The public members that mkdocstrings shows with a module or class, and theirs."""
    yield thing
    if not (thing.is_module or thing.is_class):
        return
    for name, member in thing.members.items():
        if name.startswith("_") or (member.is_alias and not thing.exports):
            continue
        if thing.is_module and thing.exports is not None and name not in thing.exports:
            continue
        member = member.final_target if member.is_alias else member
        if not member.is_module:
            yield from below(member)


@cache
def shown():
    """Path -> object of all that the API pages show."""
    found = [x for things in pages().values() for thing in things for x in below(thing)]
    return {thing.path: thing for thing in found}


@cache
def public():
    """Path -> object of all that is public."""
    found = dict(shown())
    modules = [PACKAGE, *(thing for thing in found.values() if thing.is_module)]
    for module in modules:
        for name in module.exports or ():
            for thing in below(home(module, str(name))):
                found.setdefault(thing.path, thing)
    return found


def of_kind(*kinds):
    things = [thing for thing in public().values() if thing.kind.value in kinds]
    assert things
    return [pytest.param(thing, id=thing.path) for thing in sorted(things, key=lambda x: x.path)]


def sections(thing, kind):
    parsed = thing.docstring.parsed if thing.docstring else []
    return [item for section in parsed if section.kind.value == kind for item in section.value]


def names(items):
    """Names of a section; those that share a line are, but for the first, a type to Griffe."""
    given = (f"{item.name} {item.annotation or ''}" for item in items)
    return {name for text in given for name in re.findall(r"\w+", text)}


@cache
def tree(path):
    return ast.parse(Path(path).read_text(encoding="utf-8"))


@cache
def definitions(path):
    """Line of the `def` or decorator above it -> node; name of a module's function -> node."""
    nodes = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef)]
    by_line = {min([n.lineno, *(d.lineno for d in n.decorator_list)]): n for n in nodes}
    return by_line, {n.name: n for n in tree(path).body if isinstance(n, ast.FunctionDef)}


def own_statements(node):
    """Of a function's own body, not of those defined in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from own_statements(child)


def raised(thing):
    """The errors that a function raises itself, in a private one beside it, or by `check`."""
    by_line, by_name = definitions(str(thing.filepath))
    bodies, found = [by_line[thing.lineno]], set()
    for node in own_statements(bodies[0]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            helper = by_name.get(node.func.id)
            if helper is not None and helper.name.startswith("_"):
                bodies.append(helper)
            elif node.func.id == "check":  # bitat_tf.records
                found.add("ValueError")
    for body in bodies:
        for node in own_statements(body):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                error = node.exc.func
                found.add(error.attr if isinstance(error, ast.Attribute) else error.id)
    return {name for name in found if name[:1].isupper()}  # `raise failure(...)` makes one


FUNCTIONS = [p for p in of_kind("function") if p.values[0].name not in OF_KERAS]
CLASSES = of_kind("class")
# What is an array, whatever its annotation.
ARRAYS = {"images", "inputs", "kernel", "correlation", "vectors", "calibration_images", "labels"}


def described(thing, name):
    """What `Args` or `Attributes` say of a name."""
    items = sections(thing, "parameters") + sections(thing, "attributes")
    return " ".join(item.description for item in items if name in names([item]))


def errors(thing):
    said = " ".join(str(item.annotation) for item in sections(thing, "raises"))
    return set(re.findall(r"\w+", said))


def test_the_api_pages_show_every_name_of_every_all():
    hidden = {path for path, thing in public().items() if not thing.is_module} - set(shown())
    assert hidden == {"bitat_tf._version.__version__"}


@pytest.mark.parametrize("thing", of_kind("module", "class", "function"))
def test_it_has_a_docstring(thing):
    assert thing.has_docstring


def test_constants_and_aliases_say_what_they_are():
    bare = {
        path
        for path, thing in public().items()
        if thing.kind.value == "attribute" and thing.parent.is_module
        if thing.name[0].isupper() and not thing.has_docstring
    }
    assert not bare


@pytest.mark.parametrize("thing", FUNCTIONS)
def test_arguments_results_and_errors_are_documented(thing):
    given = {parameter.name.lstrip("*") for parameter in thing.parameters} - {"self", "cls"}
    assert given <= names(sections(thing, "parameters"))
    # A function with neither arguments nor errors may say in its first line what it returns.
    if given and str(thing.returns) != "None":
        assert sections(thing, "returns") or sections(thing, "yields")
    assert raised(thing) <= errors(thing)


@pytest.mark.parametrize("thing", CLASSES)
def test_fields_arguments_and_errors_of_a_class_are_documented(thing):
    said = names(sections(thing, "parameters")) | names(sections(thing, "attributes"))
    fields = {
        name
        for name, member in thing.attributes.items()
        if "dataclass" in thing.labels and not name.startswith("_")
        if "property" not in member.labels
    }
    assert fields <= said
    written = [thing.members[n] for n in ("__init__", "__post_init__") if n in thing.members]
    for method in written:
        if method.lineno not in definitions(str(thing.filepath))[0]:
            continue  # written by @dataclass
        given = {parameter.name.lstrip("*") for parameter in method.parameters} - {"self"}
        assert given <= said
        assert raised(method) <= errors(thing)


@pytest.mark.parametrize("thing", FUNCTIONS)
def test_arrays_have_a_shape(thing):
    for parameter in thing.parameters:
        annotation = str(parameter.annotation)
        if re.search(r"ndarray|\bArray\b", annotation) or (
            annotation == "Any" and parameter.name in ARRAYS
        ):
            assert SHAPE.search(described(thing, parameter.name)), parameter.name
    if re.search(r"ndarray|^Array\b", str(thing.returns)) and "property" not in thing.labels:
        assert any(SHAPE.search(item.description) for item in sections(thing, "returns"))


@pytest.mark.parametrize("thing", [p for p in CLASSES if "dataclass" in p.values[0].labels])
def test_array_fields_have_a_shape(thing):
    for name, member in thing.attributes.items():
        if not re.search(r"ndarray|\bArray\b", str(member.annotation)):
            continue
        said = member.docstring.value if "property" in member.labels else described(thing, name)
        assert SHAPE.search(said), name


def test_what_is_checked_would_be_found():
    """The checks see what they are for: a bare function fails them all."""
    code = (
        "def f(images, count):\n"
        '    """Do it."""\n'
        "    if count < 1:\n"
        "        raise ValueError(count)\n"
    )
    with griffe.temporary_visited_module(code) as module:
        thing = module["f"]
        module.filepath.write_text(code, encoding="utf-8")
        assert raised(thing) == {"ValueError"}
        assert not errors(thing)
        assert not names(sections(thing, "parameters"))
        assert not SHAPE.search(described(thing, "images"))
