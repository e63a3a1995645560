import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from daemon.settings import DynamoDbStoreSettings, FileSourceSettings, Settings, SqliteStoreSettings, load_settings
from daemon.settings.base import Section
from daemon.settings.environment import variable_of
from daemon.settings.shape import Group, Leaf, Named, limits_of, shape_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its settings."""
    return tmp_path / "projectiond.toml"


def test_without_a_file_the_defaults_hold():
    """No file and no variable give the models' defaults, and every origin says so."""
    loaded = load_settings(None, {"HOME": "/root", "PROJECTIOND_CONFIG": "x"})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


def test_the_file_is_laid_over_the_defaults(file: Path):
    """What the file says holds, the rest keeps its default, and origins tell them apart."""
    file.write_text("[engine]\nlinger_ms = 7\n[engine.retry]\nmax_restarts = 1\n", encoding="utf-8")
    loaded = load_settings(file, {})
    assert loaded.settings.engine.linger_ms == 7
    assert loaded.settings.engine.retry.max_restarts == 1
    assert loaded.settings.engine.retry.initial_backoff_ms == Settings().engine.retry.initial_backoff_ms
    assert loaded.origins["engine.linger_ms"] == f"file {file}"
    assert loaded.origins["engine.retry.max_restarts"] == f"file {file}"
    assert loaded.origins["engine.retry.initial_backoff_ms"] == "default"


def test_the_environment_is_laid_over_the_file(file: Path):
    """A variable beats the file, and the origin names the variable."""
    file.write_text('[store]\npath = "a.db"\nbusy_timeout_ms = 1\n', encoding="utf-8")
    loaded = load_settings(file, {"PROJECTIOND__STORE__PATH": "b.db"})
    assert loaded.settings.store == SqliteStoreSettings(path="b.db", busy_timeout_ms=1)
    assert loaded.origins["store.path"] == "environment PROJECTIOND__STORE__PATH"
    assert loaded.origins["store.busy_timeout_ms"] == f"file {file}"


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("DAEMON__NAME", "42", "daemon.name", "42"),
        ("DAEMON__PRODUCTION", "false", "daemon.production", False),
        ("DAEMON__PROJECTIONS", '["a", "b.c"]', "daemon.projections", ("a", "b.c")),
        ("ENGINE__BATCH_MAX_BYTES", "8_388_608", "engine.batch_max_bytes", 8_388_608),
        ("ENGINE__COMMIT_DEADLINE_SECONDS", "10", "engine.commit_deadline_seconds", 10.0),
        ("ENGINE__CIRCUIT__MAX_DEAD_LETTER_SHARE", "5e-1", "engine.circuit.max_dead_letter_share", 0.5),
        ("ENGINE__LATE", "apply", "engine.late", "apply"),
        ("PROJECTIONS__ORDER_SUMMARY__LATE", "apply", "projections.order-summary.late", "apply"),
    ],
)
def test_a_variable_is_parsed_by_its_field(name: str, text: str, path: str, value: object):
    """Texts are taken as they are, numbers and booleans as in TOML, lists as JSON."""
    loaded = load_settings(None, {f"PROJECTIOND__{name}": text})
    found = {entry.key: entry.value for entry in loaded.effective()}
    assert found[path] == value
    assert type(found[path]) is type(value)


def test_a_table_from_the_environment_gives_way_to_its_keys(file: Path):
    """A table as JSON replaces the file's, and variables for single keys are laid over it."""
    file.write_text('[sources.orders]\npaths = ["file"]\nmax_depth = 3\n', encoding="utf-8")
    variables = {
        "PROJECTIOND__SOURCES__ORDERS__START": "latest",
        "PROJECTIOND__SOURCES__ORDERS": '{"paths": ["table"], "start": "earliest"}',
    }
    loaded = load_settings(file, variables)
    assert loaded.settings.sources == {"orders": FileSourceSettings(paths=("table",), start="latest")}
    assert loaded.origins["sources.orders.paths"] == "environment PROJECTIOND__SOURCES__ORDERS"
    assert loaded.origins["sources.orders.start"] == "environment PROJECTIOND__SOURCES__ORDERS__START"
    assert loaded.origins["sources.orders.max_depth"] == "default"


def test_a_variable_chooses_the_kind_that_others_are_keys_of(file: Path):
    """A variable may change a table's kind, and others set keys that only that kind has, whatever the file's kind."""
    file.write_text('[store]\nkind = "sqlite"\n', encoding="utf-8")
    variables = {"PROJECTIOND__STORE__BILLING": "provisioned", "PROJECTIOND__STORE__KIND": "dynamodb"}
    assert load_settings(file, variables).settings.store == DynamoDbStoreSettings(billing="provisioned")
    file.write_text('[store]\npath = "a.db"\n', encoding="utf-8")
    whole = {"PROJECTIOND__STORE": '{"kind": "dynamodb"}', "PROJECTIOND__STORE__PREFIX": "mine"}
    assert load_settings(file, whole).settings.store == DynamoDbStoreSettings(prefix="mine")


@pytest.mark.parametrize("name", ["my_old-orders", "my-old_orders", "my-old-orders"])
def test_a_variable_finds_the_name_as_the_file_spells_it(file: Path, name: str):
    """In a NAME, the `_` of a variable stands for `-` or `_`, whichever the file has."""
    file.write_text(f'[sources.{name}]\npaths = ["a"]\n', encoding="utf-8")
    settings = load_settings(file, {"PROJECTIOND__SOURCES__MY_OLD_ORDERS__PATHS": '["b"]'}).settings
    assert {key: source.log for key, source in settings.sources.items()} == {name: "b"}


def test_a_file_written_on_windows_is_read(file: Path):
    """A byte-order mark and CRLF line ends are no mistake."""
    file.write_bytes(b'\xef\xbb\xbf[store]\r\npath = "a.db"\r\n')
    assert load_settings(file, {}).settings.store == SqliteStoreSettings(path="a.db")


def test_settings_never_change():
    """Neither a section nor a table of sections can be changed once loaded."""
    settings = load_settings(None, {"PROJECTIOND__SOURCES__A__PATHS": '["a"]'}).settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.engine.linger_ms = 5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        del settings.sources["a"]  # pyright: ignore[reportIndexIssue]


class Loose(Section):
    """A section without limits."""

    share: float = 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", None])
def test_a_number_is_a_finite_number(value: object):
    """Even where a field sets no limits, only finite numbers are numbers."""
    assert Loose.model_validate({"share": 1}).share == 1.0
    with pytest.raises(ValidationError):
        Loose.model_validate({"share": value})


def test_overrides_of_a_projection_are_laid_over_the_engine(file: Path):
    """A projection without overrides follows [engine]; one with them follows them, zero included."""
    file.write_text('[engine]\nlate = "apply"\n[projections.mine]\nlinger_ms = 0\non_error = "park-key"\n', "utf-8")
    settings = load_settings(file, {}).settings
    mine, other = settings.for_projection("mine"), settings.for_projection("other")
    assert (mine.linger_ms, mine.on_error, mine.late) == (0, "park-key", "apply")
    assert mine.batch_max_events == settings.engine.batch_max_events
    assert (other.linger_ms, other.on_error, other.late) == (20, None, "apply")


def _leaves(group: Group, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Leaf, Any]]:
    for name, field in group.fields().items():
        shape = shape_of(field)
        if isinstance(shape, Leaf):
            yield (*at, name), shape, limits_of(field)
        elif isinstance(shape, Named):
            yield from _leaves(shape.of, (*at, name, "some-name"))
        else:
            yield from _leaves(shape, (*at, name))


LEAVES = tuple(_leaves(Group((Settings,)), ()))


@given(data=st.data(), leaf=st.sampled_from(LEAVES))
def test_a_file_and_a_variable_say_the_same(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, leaf: Any):
    """A value of any key means the same in a file and in its variable, or is refused with the same expectation."""
    path, shape, (low, high) = leaf
    values: dict[str, st.SearchStrategy[Any]] = {
        "text": st.sampled_from(shape.choices or ("a", "a.b", "/x")),
        "integer": st.integers(min_value=low, max_value=high),
        "number": st.floats(min_value=low, max_value=high).map(lambda number: round(number, 6)),
        "boolean": st.booleans(),
        "list": st.lists(st.sampled_from(["a", "b"]), max_size=3),
    }
    value = data.draw(values[shape.form])
    file = tmp_path_factory.getbasetemp() / "same.toml"
    file.write_text(f"[{'.'.join(path[:-1])}]\n{path[-1]} = {json.dumps(value)}\n", encoding="utf-8")
    text = value if isinstance(value, str) else json.dumps(value)
    outcomes = [_outcome(file, {}), _outcome(None, {variable_of(path): text})]
    assert outcomes[0] == outcomes[1]


def _outcome(path: Path | None, environment: dict[str, str]) -> object:
    try:
        return load_settings(path, environment).settings
    except Exception as error:  # noqa: BLE001 - whichever it is, it has to be the same for both
        problems = getattr(error, "problems", [error])
        return [getattr(problem, "expected", problem) for problem in problems]
