import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from daemon.settings import DynamoDbStoreSettings, Settings, load_settings
from daemon.settings.base import Section, kind_of
from daemon.settings.reference import EXAMPLE_NAMES, render
from daemon.settings.shape import Group, Leaf, Named, shape_of, unit_of

CONFIG = Path(__file__).parents[2] / "config"
REFERENCE = CONFIG / "reference.toml"


def fields_of(group: Group, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every leaf of the models with its path, NAMEs being those of the reference's examples.

    The second kind of a table has a path of its own, `store-dynamodb`, although the file says [store] for both.
    """
    named = at
    for index, model in enumerate(group.models):
        if index:
            at = (*named[:-1], f"{named[-1]}-{kind_of(model)}")
        for name, field in model.model_fields.items():
            shape = shape_of(field)
            if isinstance(shape, Leaf):
                yield (*at, name), field
            elif isinstance(shape, Named):
                yield from fields_of(shape.of, (*at, name, EXAMPLE_NAMES[name]))
            else:
                yield from fields_of(shape, (*at, name))


FIELDS = dict(fields_of(Group((Settings,))))


def parsed(*, with_examples: bool) -> dict[str, Any]:
    """Parse the committed file, with the keys that are left out by default switched on or not."""
    text = REFERENCE.read_text(encoding="utf-8")
    if not with_examples:
        return tomllib.loads(text)
    others = {
        f"{name}-{table['kind']}": table for other in instead(text) for name, table in tomllib.loads(other).items()
    }
    return tomllib.loads(re.sub(r"(?m)^#(?=[\[a-z])", "", text)) | others


def instead(text: str) -> list[str]:
    """Give the tables that stand in the place of others, each as the text of a settings file."""
    lines = "\n".join(line.removeprefix("##") for line in text.splitlines() if line.startswith("##"))
    return [table for table in re.split(r"(?m)^(?=\[)", lines) if table]


def at(tree: dict[str, Any], path: tuple[str, ...]) -> Any:
    """Give what a tree holds at a path, or None."""
    for part in path:
        tree = tree.get(part, {})
    return tree if tree != {} else None


def comments() -> dict[tuple[str, ...], str]:
    """Give the comment above each key of the committed file, as one line of text."""
    found: dict[tuple[str, ...], str] = {}
    table: tuple[str, ...] = ()
    block: list[str] = []
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            block.append(line.removeprefix("# "))
            continue
        key = line.lstrip("#")
        if key.startswith("["):
            table = tuple(key.strip("[]").split("."))
        elif " = " in key:
            if line.startswith("##kind"):
                table = ("-".join([*table, tomllib.loads(key)["kind"]]),)
            found[(*table, key.split(" = ")[0])] = " ".join(block)
        block = []
    return found


def test_the_reference_is_what_the_code_says():
    """The committed file is the one the models give now."""
    assert REFERENCE.read_text(encoding="utf-8") == render(), (
        "config/reference.toml is out of date: run `python -m daemon.settings.reference > config/reference.toml`"
    )


def test_the_command_writes_the_reference():
    """`python -m daemon.settings.reference` prints the file and nothing else."""
    command = [sys.executable, "-m", "daemon.settings.reference"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONFIG.parent, encoding="utf-8")
    assert printed.stdout == render()
    assert not printed.stderr


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_key_is_in_the_reference(path: tuple[str, ...]):
    """Each key of each model stands in the file with its default, or, without one, with an example."""
    field, value = FIELDS[path], at(parsed(with_examples=True), path)
    default = None if field.is_required() else field.default
    expected: object = (field.examples or [None])[0] if default is None else default
    assert value == ([*cast("tuple[str, ...]", expected)] if isinstance(expected, tuple) else expected)
    assert value is not None


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_reason_is_the_field_s_own(path: tuple[str, ...]):
    """The comment above a key begins with the field's description, and goes on with its unit and default."""
    field, comment = FIELDS[path], comments()[path]
    assert field.description
    assert comment.startswith(f"{field.description} Holds ")
    if shape_of(field) in {Leaf("integer"), Leaf("number")}:
        assert f"({unit_of(path[-1])})" in comment
    assert "Required; the value here is an example." in comment or "Default: " in comment


def test_the_reference_holds_no_key_of_its_own():
    """Every key in the file is a key of a model."""

    def keys(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if isinstance(value, dict) and "env" not in value:
            for name, inner in cast("dict[str, object]", value).items():
                yield from keys(inner, (*path, name))
        else:
            yield path

    assert set(keys(parsed(with_examples=True), ())) == set(FIELDS)


def test_the_reference_is_itself_a_settings_file():
    """Loaded as it stands, the file gives the defaults, apart from its one example source and projection."""
    settings = load_settings(REFERENCE, {}).settings
    plain = Settings()
    for name in ("daemon", "store", "coordination", "engine", "logging"):
        assert getattr(settings, name) == getattr(plain, name)
    assert list(settings.sources) == [EXAMPLE_NAMES["sources"]]
    assert settings.for_projection(EXAMPLE_NAMES["projections"]) == plain.for_projection("any")


def test_the_examples_of_the_reference_hold(tmp_path: Path):
    """With every key that is left out by default switched on, the file loads (as plain JSON, for its field map)."""
    file = tmp_path / "all.toml"
    file.write_text(re.sub(r"(?m)^#(?=[\[a-z])", "", REFERENCE.read_text(encoding="utf-8")), encoding="utf-8")
    changed = {
        "PROJECTIOND__SOURCES__ORDERS__ENVELOPE": "json",
        "PROJECTIOND__SOURCES__ORDERS_KAFKA__ENVELOPE": "json",
        "PROJECTIOND__SOURCES__ORDERS_KAFKA__SECURITY__PROTOCOL": "sasl-tls",
        "KAFKA_PASSWORD": "a",
        "KAFKA_KEY_PASSWORD": "b",
    }
    load_settings(file, changed)
    for other in instead(REFERENCE.read_text(encoding="utf-8")):
        file.write_text(other, encoding="utf-8")
        load_settings(file, {})


def test_every_number_s_name_ends_in_its_unit():
    """No number of the settings has to be guessed the unit of."""
    numbers = [path[-1] for path, field in FIELDS.items() if shape_of(field) in {Leaf("integer"), Leaf("number")}]
    assert [name for name in numbers if not unit_of(name)] == []
    assert len(numbers) > 20


def test_every_section_says_what_it_is():
    """Each table of the settings has a docstring, which the reference shows above it."""
    undocumented = [model.__name__ for model in Section.__subclasses__() if not model.__doc__]
    assert undocumented == []


def test_the_demonstration_s_file_names_its_logs_and_read_models():
    """config/demo.toml loads, and holds the two logs and three read models of the demonstration."""
    settings = load_settings(CONFIG / "demo.toml", {"PROJECTIOND__STORE__PATH": "/tmp/x.db"}).settings
    assert settings.daemon.projections == ("projections.flight", "projections.punctuality", "projections.board")
    assert {name: source.envelope for name, source in settings.sources.items()} == {
        "flights": "cloudevents",
        "movements": "json",
    }
    fields = settings.sources["movements"].fields
    assert fields is not None
    assert (fields.id, fields.type, fields.time, fields.data) == ("event_id", "kind", "at", ".")


def test_the_production_file_is_strict():
    """config/production.toml loads, refuses trial settings and unversioned changes, and logs JSON."""
    settings = load_settings(CONFIG / "production.toml", {}).settings
    assert settings.daemon.production
    assert settings.daemon.require_version_bump
    assert settings.logging.format == "json"


def test_the_production_file_s_other_store_is_guarded(tmp_path: Path):
    """The DynamoDB store that config/production.toml offers instead loads, and is guarded against loss."""
    text = (CONFIG / "production.toml").read_text(encoding="utf-8")
    offered = text.partition("\n# [store]")[2].partition("\n\n")[0]
    file = tmp_path / "other.toml"
    file.write_text("[store]" + offered.replace("\n# ", "\n"), encoding="utf-8")
    store = load_settings(file, {}).settings.store
    assert isinstance(store, DynamoDbStoreSettings)
    assert (store.create_tables, store.point_in_time_recovery, store.deletion_protection) == (False, True, True)
    assert not store.allow_test_endpoint
