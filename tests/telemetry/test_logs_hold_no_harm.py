import json
import logging
from typing import Any, override

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.core.identity import RowKey
from daemon.telemetry.logs import DEBUG_ONLY, MAX_ITEMS, MAX_VALUES, QUIET_LIBRARIES
from tests.telemetry.conftest import Logs

HOSTILE = "a\nlevel=error \x1b[31m forged\r\u2028\u2029\x85\x00\u202e\ud800"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=60)
        | st.dictionaries(st.text(max_size=120) | st.sampled_from(sorted(DEBUG_ONLY)), inner, max_size=60)
        | st.tuples(inner, inner)
    ),
    max_leaves=30,
)


type Json = str | float | bool | list[Json] | dict[str, Json] | None


def texts_in(value: Json) -> list[str]:
    """Give every text in a record, names included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for name, inner in value.items() for text in (name, *texts_in(inner))]
    return [text for inner in value for text in texts_in(inner)] if isinstance(value, list) else []


def names_in(value: Json) -> set[str]:
    """Give the name of every field in a record, at any depth."""
    if isinstance(value, dict):
        return {*value, *(name for inner in value.values() for name in names_in(inner))}
    return {name for inner in value for name in names_in(inner)} if isinstance(value, list) else set()


@given(value=values, event=st.text(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_logged_comes_out_as_one_safe_record(logs: Logs, value: Any, event: str):
    """Any value gives one line of JSON without control characters, within the limits, without ids and payloads."""
    logs.stream.seek(0)
    logs.stream.truncate()
    logs.configure(limit=100).info(event, value=value)
    (line,) = logs.lines
    assert line.isprintable()
    record = json.loads(line)
    assert all(text.isprintable() and len(text) <= 100 for text in texts_in(record))
    assert names_in(record).isdisjoint(DEBUG_ONLY)


@given(value=values, event=st.text(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_logged_for_people_is_one_safe_line(logs: Logs, value: Any, event: str):
    """The readable form of any value is one line without control characters as well."""
    logs.stream.seek(0)
    logs.stream.truncate()
    logs.configure(form="console").info(event, value=value, stack=value, exception=value)
    (line,) = logs.lines
    assert line.isprintable()


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical"])
@pytest.mark.parametrize("configured", ["debug", "info"])
def test_ids_and_payloads_are_never_above_debug(logs: Logs, level: str, configured: Any):
    """Ids, keys and payloads are dropped from each record above debug, at any depth, even where debug is configured."""
    fields: dict[str, Any] = dict.fromkeys(DEBUG_ONLY, "o-1")
    row = RowKey("main", "o-1")
    logger = logs.configure(level=configured).bind(**fields)
    getattr(logger, level)("x", event_count=1, nested={**fields, "list": [fields, row]}, row=row, raw_bytes=b"o-1")
    (line,) = logs.lines
    assert "o-1" not in line
    assert logs.record["nested"] == {"list": [{}, {"view": "main"}]}
    assert logs.record["event_count"] == 1


def test_ids_and_payloads_are_there_at_debug(logs: Logs):
    """A debug record keeps ids, keys and payloads, cleaned like all else."""
    logs.configure(level="debug").debug("x", event_id="o-1", key="k\n", payload=b'{"a": 1}\xff')
    record = logs.record
    assert (record["event_id"], record["key"], record["payload"]) == ("o-1", "k\\n", '{"a": 1}\\xff')


class Holder:
    """An object that would show a payload."""

    @override
    def __repr__(self) -> str:
        return "Holder(payload='o-1')"


class Broken:
    """An object that cannot be shown."""

    @override
    def __repr__(self) -> str:
        raise RuntimeError("o-1")


def test_unknown_objects_are_named_not_shown(logs: Logs):
    """Above debug an object is its type's name; at debug it is what it says of itself, if it can."""
    logger = logs.configure(level="debug")
    logger.info("x", holder=Holder(), broken=Broken())
    logger.debug("x", holder=Holder(), broken=Broken())
    above, at = logs.records
    name = f"{Holder.__module__}"
    assert (above["holder"], above["broken"]) == (f"<{name}.Holder>", f"<{name}.Broken>")
    assert (at["holder"], at["broken"]) == ("Holder(payload='o-1')", f"<{name}.Broken>")


class BadName:
    """A field's name that cannot be a text."""

    @override
    def __str__(self) -> str:
        raise RuntimeError("o-1")


def test_a_record_that_cannot_be_put_together_is_told(logs: Logs):
    """A value that fails while it is looked at costs its record, not the work; the kind of failure is written."""
    logs.configure().info("x", table={BadName(): 1})
    assert logs.record["event"] == "a record could not be written"
    assert logs.record["error"] == "RuntimeError"


def test_control_characters_are_escaped_everywhere(logs: Logs):
    """Newlines, escapes, separators, reversing marks and lone surrogates are escaped in events, names and values."""
    logs.configure().bind(bound=HOSTILE).info(HOSTILE, **{HOSTILE: {HOSTILE: [HOSTILE]}}, error=TypeError(HOSTILE))
    logging.getLogger(f"some.{HOSTILE}").warning(HOSTILE)
    assert all(line.isprintable() for line in logs.lines)
    clean = "a\\nlevel=error \\x1b[31m forged\\r\\u2028\\u2029\\x85\\x00\\u202e\\ud800"
    own, library = logs.records
    assert own["event"] == own["bound"] == own["error"]["message"] == library["event"] == clean
    assert own[clean] == {clean: [clean]}


def test_ordinary_text_is_left_as_it_is(logs: Logs):
    """Letters of any language and the usual signs are not escaped."""
    text = 'Zürich → 東京 "quoted" \\ 🚀'
    logs.configure().info(text)
    assert logs.record["event"] == text


@pytest.mark.parametrize("filler", ["x", "\n"])
def test_long_texts_are_cut_to_the_limit(logs: Logs, filler: str):
    """A text is cut to the limit after escaping, and says how long it was."""
    logs.configure(limit=80).info("x", value=filler * 80, nested=[filler * 10_000])
    short, long = logs.record["value"], logs.record["nested"][0]
    assert len(long) == 80
    assert long.endswith("… (10000 characters)")
    assert len(short) == 80
    assert short.endswith("… (80 characters)") is (filler == "\n")


@pytest.mark.parametrize("name", ["n" * 10_000, "\n" * 10_000])
def test_long_names_are_cut(logs: Logs, name: str):
    """A field's name is cut like its value, after escaping."""
    logs.configure().info("x", **{name: 1})
    assert len(list(logs.record)[-1]) == 100


@pytest.mark.parametrize("name", ["stack", "exception"])
def test_no_field_gets_lines_of_its_own(logs: Logs, name: str):
    """Fields that the readable form would print below the line stay in it."""
    logs.configure(form="console").info("x", **{name: "forged"})
    (line,) = logs.lines
    assert f"{name}_=forged" in line


def test_large_collections_are_cut(logs: Logs):
    """Of a list or table the first entries are written, with how many there were more."""
    logs.configure().info(
        "x", items=list(range(1000)), table={str(at): at for at in range(1000)}, unordered=set(range(60))
    )
    record = logs.record
    assert record["items"] == [*range(MAX_ITEMS), "… 950 more"]
    assert len(record["table"]) == MAX_ITEMS + 1
    assert record["table"]["…"] == "950 more"
    assert len(record["unordered"]) == MAX_ITEMS + 1


def test_a_record_of_many_fields_is_cut(logs: Logs):
    """A record has a limit of fields too."""
    logs.configure().info("x", **{f"field_{at}": at for at in range(1000)})
    assert len(logs.record) == MAX_ITEMS + 1


def test_a_record_s_size_is_bounded_as_a_whole(logs: Logs):
    """Lists of lists of lists do not multiply: one record holds a bounded number of values."""
    inner: Any = "x" * 200
    for _ in range(4):
        inner = [inner] * 50
    logs.configure().info("x", value=inner)
    assert sum(text == "x" * 200 for text in texts_in(logs.record)) <= MAX_VALUES
    assert len(logs.lines[0]) < MAX_VALUES * 300


def test_a_value_that_holds_itself_is_cut(logs: Logs):
    """Endless nesting ends."""
    loop: dict[str, Any] = {}
    loop["again"] = loop
    logs.configure().info("x", loop=loop)
    assert json.dumps(logs.record).count("again") < 10


def test_a_field_cannot_pass_for_the_level_or_time(logs: Logs):
    """A field called like one of the record's own is written under another name."""
    logs.configure().info("x", level="critical", timestamp="never")
    assert logs.record["level"] == "info"
    assert (logs.record["level_"], logs.record["timestamp_"]) == ("critical", "never")


@pytest.mark.parametrize("library", QUIET_LIBRARIES)
def test_libraries_that_log_credentials_never_log_at_debug(logs: Logs, library: str):
    """Debug records of the AWS clients hold headers, and are not written even where debug is configured."""
    logs.configure(level="debug")
    child = logging.getLogger(f"{library}.endpoint")
    child.debug("authorization: secret")
    child.setLevel(logging.DEBUG)
    child.debug("authorization: secret")
    child.setLevel(logging.NOTSET)
    child.info("fine")
    assert [record["event"] for record in logs.records] == ["fine"]


def test_libraries_stay_as_quiet_as_the_rest(logs: Logs):
    """Where the level is above info, those libraries do not speak at info either."""
    logs.configure(level="error")
    logging.getLogger("botocore").info("fine")
    assert logs.lines == []
