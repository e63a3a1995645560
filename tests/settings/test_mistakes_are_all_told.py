import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import Remedy, SettingsProblem
from daemon.settings import Problem, SettingsError, load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its settings."""
    return tmp_path / "projectiond.toml"


def problems_of(path: Path | None, text: str = "", **environment: str) -> tuple[Problem, ...]:
    """Load, expecting to fail; give the problems."""
    if path is not None and text:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(path, {f"PROJECTIOND__{name}": value for name, value in environment.items()})
    return raised.value.problems


def only(problems: tuple[Problem, ...]) -> Problem:
    """Expect one problem."""
    assert len(problems) == 1, problems
    return problems[0]


def test_an_empty_list_hides_no_other_mistake(file: Path):
    """Paths that are none, or missing, are told with how many there must be, and the missing field map beside them."""
    for paths in ("paths = []", "", "paths = [1]"):
        problems = problems_of(file, f'[sources.orders]\nenvelope = "json"\n{paths}\n')
        assert [problem.path.partition("[")[0] for problem in problems] == [
            "sources.orders.paths",
            "sources.orders.fields",
        ]
    problem = problems_of(file, "[sources.orders]\npaths = []\n")[0]
    assert (problem.value, problem.expected) == ("a list of 0", "a list of at least one text")


def test_five_mistakes_are_five_problems(file: Path):
    """A file with five mistakes is refused once, with all five: key, value, what was expected, remedy, origin."""
    text = """
        [daemon]
        grace_period_seconds = "25"
        [store]
        paht = "x.db"
        [sources.orders]
        envelope = "clodevents"
        [engine]
        batch_max_events = 0
    """
    problems = problems_of(file, text)
    here = f"file {file}"
    assert set(problems) == {
        Problem(
            "daemon.grace_period_seconds",
            '"25"',
            "a whole number from 5 to 3600 (seconds)",
            "write it without quotes",
            here,
        ),
        Problem("store.paht", "", "a known key", "did you mean store.path?", here),
        Problem(
            "sources.orders.envelope",
            '"clodevents"',
            'one of "cloudevents", "json"',
            'did you mean "cloudevents"?',
            here,
        ),
        Problem(
            "sources.orders.paths",
            "",
            "a list of at least one text; it has no default",
            "add `paths` to [sources.orders]",
            here,
        ),
        Problem(
            "engine.batch_max_events",
            "0",
            "a whole number from 1 to 1000000 (events)",
            "change it, or leave it out for the default, 2000",
            here,
        ),
    }
    assert len(problems) == 5


def test_the_message_lists_every_problem(file: Path):
    """The error's text numbers the problems, one a line, and its group says who has to act."""
    file.write_text("[engine]\nlinger_ms = -1\nlate = 3\n", encoding="utf-8")
    with pytest.raises(SettingsProblem) as raised:
        load_settings(file, {})
    assert raised.value.remedy is Remedy.FIX_SETTINGS
    head, first, second = str(raised.value).splitlines()
    assert head == "2 problems in the settings"
    assert first == (
        f"  1. engine.linger_ms = -1 (file {file}): expected a whole number from 0 to 60000 (milliseconds); change it, "
        "or leave it out for the default, 20"
    )
    assert second == (
        f'  2. engine.late = 3 (file {file}): expected one of "apply", "dead-letter"; change it, or leave it out for '
        'the default, "dead-letter"'
    )


WRONG: dict[str, tuple[str, str]] = {
    "daemon.name": ("[daemon]", 'name = ""'),
    "daemon.projections[1]": ("[daemon]", 'projections = ["a", "b c"]'),
    "daemon.production": ("[daemon]", 'production = "true"'),
    "daemon.require_version_bump": ("[daemon]", "require_version_bump = 1"),
    "store.path": ("[store]", 'path = ":memory:"'),
    "store.kind": ("[store]", 'kind = "redis"'),
    "sources.a.paths": ("[sources.a]", "paths = []"),
    "sources.b.kind": ("[sources.b]", 'kind = "pulsar"'),
    "sources.c": ("[sources]", "c = 1"),
    "sources.e.paths[0]": ("[sources.e]", "paths = [1]"),
    "sources.f.paths": ("[sources.f]", 'paths = ["x", "y", "x"]'),
    'sources."D d"': ('[sources."D d"]', 'paths = ["x"]'),
    "engine.linger_ms": ("[engine]", "linger_ms = 2.0"),
    "engine.commit_deadline_seconds": ("[engine]", "commit_deadline_seconds = nan"),
    "engine.marker_window_ids": ("[engine]", "marker_window_ids = true"),
    "engine.lat": ("[engine]", 'lat = "apply"'),
    "engine.circuit": ("[engine]", "circuit = 5"),
    "engine.retry.max_backoff_ms": ("[engine.retry]", "max_backoff_ms = 99_999_999"),
    "logging.level": ("[logging]", 'level = "INFO"'),
    "logging.format": ("[logging]", "format = []"),
    "projections.p.on_error": ("[projections.p]", 'on_error = "ignore"'),
    "sorces": ("", "sorces = 1"),
}


@given(chosen=st.sets(st.sampled_from(sorted(WRONG)), min_size=1))
def test_every_mistake_is_told_once_whatever_the_others(tmp_path_factory: pytest.TempPathFactory, chosen: set[str]):
    """Any set of mistakes gives exactly one problem for each, none hidden and none made up.

    Only a table whose kind is unknown is not looked into: its keys cannot be known either.
    """
    tables: dict[str, list[str]] = {"": []}
    for path in sorted(chosen):
        table, line = WRONG[path]
        tables.setdefault(table, []).append(line)
    text = "\n".join("\n".join([table, *lines]) for table, lines in tables.items())
    file = tmp_path_factory.getbasetemp() / "wrong.toml"
    found = [problem.path for problem in problems_of(file, text)]
    hidden = {"store.path"} if "store.kind" in chosen else set[str]()
    assert sorted(found) == sorted(chosen - hidden)


def test_mistakes_in_file_and_environment_are_told_together(file: Path):
    """One error holds what is wrong in the file and what is wrong in variables, each with its origin."""
    problems = problems_of(file, "[engine]\nlate = 1\n", ENGINE__LINGER_MS="soon", STORE__PHAT="x", DAEMON__NAME="-")
    assert {(problem.path, problem.origin) for problem in problems} == {
        ("engine.late", f"file {file}"),
        ("engine.linger_ms", "environment PROJECTIOND__ENGINE__LINGER_MS"),
        ("PROJECTIOND__STORE__PHAT", "environment PROJECTIOND__STORE__PHAT"),
        ("daemon.name", "environment PROJECTIOND__DAEMON__NAME"),
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ENGINE__LINGER_MS", ""),
        ("ENGINE__LINGER_MS", "1.0"),
        ("ENGINE__LINGER_MS", " 1"),
        ("ENGINE__LINGER_MS", "٣"),
        ("ENGINE__LINGER_MS", "9" * 5000),
        ("ENGINE__COMMIT_DEADLINE_SECONDS", "nan"),
        ("ENGINE__COMMIT_DEADLINE_SECONDS", "1e999"),
        ("DAEMON__PRODUCTION", "yes"),
        ("DAEMON__PROJECTIONS", "a.b"),
        ("DAEMON__PROJECTIONS", '{"a": 1}'),
        ("DAEMON__PROJECTIONS", "[" * 2000 + "]" * 2000),
        ("DAEMON__PROJECTIONS", "[" * 100 + "]" * 100),
        ("SOURCES__A", '{"paths": ["a"], "paths": ["b"]}'),
        ("SOURCES__A", '{"paths": ["a"], "max_depth": NaN}'),
        ("SOURCES__A", "[]"),
    ],
)
def test_a_variable_its_field_cannot_be_parsed_from_is_one_problem(name: str, text: str):
    """A variable that is not spelled as its field wants is refused, and nothing else is complained of."""
    problem = only(problems_of(None, **{name: text}))
    assert problem.origin == f"environment PROJECTIOND__{name}"
    assert problem.path == ".".join(part.lower() for part in name.split("__"))
    assert problem.expected
    assert problem.remedy


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("PROJECTIOND__ENGINE__LINGR_MS", "did you mean PROJECTIOND__ENGINE__LINGER_MS?"),
        ("PROJECTIOND__STOR__PATH", "did you mean PROJECTIOND__STORE?"),
        ("PROJECTIOND__STORE__PATH__X", "did you mean PROJECTIOND__STORE__PATH?"),
        ("PROJECTIOND__store__path", "did you mean PROJECTIOND__STORE__PATH?"),
        ("projectiond__STORE__PATH", "did you mean PROJECTIOND__STORE__PATH?"),
        ("PROJECTIOND__", "config/reference.toml lists every key"),
        ("PROJECTIOND__SOURCES__", "config/reference.toml lists every key"),
        ("PROJECTIOND__QQQ", "config/reference.toml lists every key"),
    ],
)
def test_an_unknown_variable_is_a_mistake(name: str, remedy: str):
    """A variable with the prefix that sets nothing is refused, with the nearest name that would."""
    with pytest.raises(SettingsError) as raised:
        load_settings(None, {name: "x"})
    problem = only(raised.value.problems)
    assert (problem.path, problem.value, problem.remedy) == (name, "", remedy)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[engine]\nlingr_ms = 1\n", "did you mean engine.linger_ms?"),
        ("[daemon]\nlinger_ms = 1\n", "did you mean engine.linger_ms?"),
        ("[engin]\n", "did you mean engine?"),
        ("[sources.a]\npaths = ['x']\npoll_interval = 1\n", "did you mean sources.a.poll_interval_ms?"),
        ("[logging]\nqqq = 1\n", "remove it; known here: level, format, max_field_characters, units_interval_seconds"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_known_one(file: Path, text: str, remedy: str):
    """A misspelt or misplaced key is told with the key that was meant."""
    assert only(problems_of(file, text)).remedy == remedy


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"a = ", "correct it: Invalid value"),
        (b"a = 1\na = 2\n", "correct it: Cannot overwrite a value"),
        (b"a = '\xff'\n", "byte 5 is not UTF-8; save it as UTF-8"),
        (b"a = " + b"[" * 5000, "it nests deeper than 16 levels; flatten it"),
        (b"a = " + b"[" * 100 + b"]" * 100, "it nests deeper than 16 levels; flatten it"),
        (b"a = " + b"9" * 5000, "correct it: Exceeds the limit"),
    ],
)
def test_a_file_that_is_no_toml_is_one_problem(file: Path, content: bytes, remedy: str):
    """A file that cannot be parsed says where and why, and no key is complained of."""
    file.write_bytes(content)
    problem = only(problems_of(file))
    assert (problem.path, problem.origin) == ("", f"file {file}")
    assert problem.remedy.startswith(remedy)


def test_a_missing_file_is_told_with_the_wrong_variables(tmp_path: Path):
    """Where there is no file, or a directory, that is said together with what is wrong in the environment."""
    missing = problems_of(tmp_path / "none.toml", STORE__PHAT="x")
    assert [problem.path for problem in missing] == ["", "PROJECTIOND__STORE__PHAT"]
    assert missing[0].remedy.startswith("there is none; make it")
    assert only(problems_of(tmp_path)).remedy == f"{os.strerror(21)}; mend its kind or rights, or name another"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('name = "a\\n[error] forged\\u001b[31m"', '"a\\n[error] forged\\x1b[31m"'),
        (f'name = "{"x" * 500}"', f'"{"x" * 60}…"'),
        ("name = 0x" + "f" * 5000, "a whole number of 20000 bits"),
        ("name = 2013-01-01T00:00:00Z", "2013-01-01T00:00:00+00:00"),
        ("name = ['a', 'b']", "a list of 2"),
        ("name = {a = 1}", "a table"),
        ("name = false", "false"),
        ("name = 1.5", "1.5"),
    ],
)
def test_a_refused_value_is_shown_on_one_short_line(file: Path, line: str, value: str):
    """Whatever a refused value holds, it is shown escaped, short and without what is inside a list or table."""
    assert only(problems_of(file, f"[daemon]\n{line}\n")).value == value


@pytest.mark.parametrize("path", [":memory:", "file:x.db?mode=memory", "", "a\\u0000b"])
def test_a_store_has_to_be_a_file(file: Path, path: str):
    """A path that names no durable file is refused before anything is opened."""
    assert only(problems_of(file, f'[store]\npath = "{path}"\n')).path == "store.path"


def test_the_error_keeps_no_trace_of_pydantic(file: Path):
    """The error is raised without pydantic's own behind it, which would repeat the input."""
    file.write_text("[daemon]\nname = 1\n", encoding="utf-8")
    try:
        load_settings(file, {})
    except SettingsError as error:
        told: list[Any] = traceback.format_exception(error)
        assert "ValidationError" not in "".join(told)
    else:
        pytest.fail("a number is no name")
