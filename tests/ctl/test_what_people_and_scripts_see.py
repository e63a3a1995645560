import json
import re
from pathlib import Path

import pytest

from daemon.cli.ctl.main import EXIT_CODES
from daemon.core.errors import CommandRefused, RefusalCode
from tests.ctl.conftest import Desk, run_here

GOLDENS = Path(__file__).parent / "goldens"

READING = {
    "status": ("status",),
    "shards": ("shards", "order-summary"),
    "lag": ("lag",),
    "top": ("top",),
    "tail": ("tail",),
    "audit": ("audit", "--limit", "5"),
    "explain": ("explain", "order-summary", "order-17"),
    "wait-position": ("wait", "order-summary", "--position", "orders/orders-0.jsonl:0.4711"),
    "wait-event": ("wait", "order-summary", "--event", "3f1c"),
    "replay-plan": ("replay", "plan", "order-summary", "--from", "earliest", "--to", "0.4711", "--dry-run"),
    "replay-status": ("replay", "status"),
    "rewind-dry-run": ("rewind", "order-summary", "--to", "earliest", "--dry-run"),
    "dead-letters-list": ("dead-letters", "list", "order-summary", "--reason", "handler-raised"),
    "dead-letters-show": ("dead-letters", "show", "order-summary:orders/orders-0.jsonl", "--position", "0.4700"),
    "keys-parked": ("keys", "parked"),
}
CHANGING = {
    "pause": ("pause", "order-summary", "--reason", "INC-7"),
    "resume": ("resume", "order-summary:orders/orders-0.jsonl"),
    "drain": ("drain", "all"),
    "restart": ("restart", "order-summary-g1:orders/orders-0.jsonl"),
    "rewind": ("rewind", "order-summary", "--to", "earliest", "--yes", "--wait"),
    "replay-apply": (
        "replay", "apply", "order-summary", "--from", "earliest", "--to", "0.4711", "--plan", "5f0c9a", "--wait",
    ),
    "replay-abort": ("replay", "abort", "order-summary"),
    "dead-letters-retry": ("dead-letters", "retry", "order-summary", "--reason", "handler-raised"),
    "dead-letters-discard": ("dead-letters", "discard", "order-summary", "--event", "3f1c", "--yes"),
    "keys-release": ("keys", "release", "order-summary", "order-17"),
    "skip": ("skip", "order-summary-g1", "orders/orders-0.jsonl", "--position", "0.5000", "--yes"),
}  # fmt: skip
EVERY = READING | CHANGING
FIXED = ("--request", "r-1")


def words_of(name: str) -> tuple[str, ...]:
    """A command's words, with a fixed request id where it takes one."""
    return EVERY[name] + (FIXED if name in CHANGING else ())


@pytest.mark.parametrize("name", EVERY)
def test_json_is_the_golden_one(desk: Desk, name: str):
    """`--json` prints the documents that scripts rely on, and nothing else, on stdout."""
    ended = desk.ctl(*words_of(name), "--json")
    golden = GOLDENS / f"{name}.json"
    assert [json.loads(line) for line in documents(ended.out)] == json.loads(golden.read_text(encoding="utf-8"))
    assert ended.code == 0
    assert ended.err == ""


@pytest.mark.parametrize("name", EVERY)
def test_text_is_the_golden_one(desk: Desk, name: str):
    """Without `--json` and off a terminal, plain columns are printed, one line a row, nothing cut, no escapes."""
    ended = desk.ctl(*words_of(name))
    assert ended.out == (GOLDENS / f"{name}.txt").read_text(encoding="utf-8")
    assert ended.code == 0


@pytest.mark.parametrize("name", ["status", "shards", "lag", "top", "audit", "explain", "pause", "replay-status"])
def test_tables_fit_the_terminal(desk: Desk, name: str):
    """On a terminal no line is wider than it, nothing is cut, and NO_COLOR leaves colours out."""
    shown = desk.on_a_terminal(*words_of(name), columns=70, NO_COLOR="1")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert len(lines) > 3
    assert max(map(len, lines)) <= 70
    assert "…" not in shown


def documents(out: str) -> list[str]:
    """Split what was printed into its documents: one, or one a line."""
    try:
        json.loads(out)
    except ValueError:
        return out.splitlines()
    return [out]


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (RefusalCode.USAGE, 2),
        (RefusalCode.REFUSED, 3),
        (RefusalCode.FORBIDDEN, 3),
        (RefusalCode.NOT_FOUND, 3),
        (RefusalCode.CONFLICT, 3),
        (RefusalCode.PENDING, 4),
        (RefusalCode.BUSY, 5),
        (RefusalCode.UNAVAILABLE, 5),
        (RefusalCode.BUG, 70),
    ],
)
def test_a_refusal_is_told_with_its_remedy_and_code(desk: Desk, code: RefusalCode, number: int):
    """Each refusal ends with its exit code; reason and remedy are on stderr, and in the JSON document."""
    desk.engine.refusal = CommandRefused(code, "replay r7 is under way", "abort it first")
    ended = desk.ctl("pause", "all", "--json")
    assert ended.code == number
    assert ended.document == {
        "error": {"code": str(code), "reason": "replay r7 is under way", "remedy": "abort it first"}
    }
    assert ended.err == "error: replay r7 is under way\nabort it first\n"


def test_pending_and_refused_shards_have_exit_codes(desk: Desk):
    """A change that a shard has not obeyed yet ends with 4, one that a shard refused with 3; both say which and why."""
    desk.engine.pending = 1
    pending = desk.ctl("pause", "order-summary")
    assert pending.code == 4
    assert "its owner is starting" in pending.out
    assert "--wait --request" in pending.out
    desk.engine.refused = 1
    refused = desk.ctl("pause", "order-summary")
    assert refused.code == 3
    assert "it stands elsewhere" in refused.out


def test_how_long_a_change_is_waited_for(desk: Desk):
    """Without options the daemon's own patience holds, --timeout says another, --wait means until it is done."""
    for words in ((), ("--timeout", "7"), ("--timeout", "0"), ("--wait",), ("--wait", "--timeout", "60")):
        desk.ctl("pause", "all", *words)
    assert [wait for _, _, _, wait in desk.engine.asked] == [None, 7.0, 0.0, 86_400.0, 60.0]


def test_a_request_id_is_passed_on(desk: Desk):
    """`--request` is the id under which the daemon carries a command out once; without it each has its own."""
    desk.ctl("pause", "all", "--request", "mine")
    desk.ctl("pause", "all")
    desk.ctl("pause", "all")
    mine, first, second = [request for _, _, request, _ in desk.engine.asked]
    assert mine == "mine"
    assert first != second


def test_waiting_in_vain_is_pending(desk: Desk):
    """`wait` ends with 0 when it is settled and with 4 when the time is over."""
    assert desk.ctl("wait", "order-summary", "--event", "3f1c").code == 0
    ended = desk.ctl("wait", "order-summary", "--event", "3f1c", "--timeout", "0")
    assert ended.code == 4
    assert "it stands at 0.4711" in ended.err


def test_skipping_asks_first_and_holds_the_position_it_showed(desk: Desk):
    """`skip` is refused where nobody can say yes; with --yes it sends where the shard was seen to stand."""
    words = ("skip", "order-summary-g1", "orders/orders-0.jsonl", "--position", "0.5000")
    refused = desk.ctl(*words)
    assert refused.code == 2
    assert "from 0.4711 up to 0.5000" in refused.err
    assert "--yes" in refused.err
    assert desk.ctl(*words, "--yes").code == 0
    command = desk.engine.asked[-1][0]
    assert (command.position, command.standing) == ((0, 5000), (0, 4711))


def test_what_loses_something_is_asked_first(desk: Desk):
    """Discarding, retrying or releasing all, and rewinding, ask first: without a terminal only --yes goes on."""
    for words, said in (
        (("rewind", "order-summary", "--to", "earliest"), "Begin?"),
        (("dead-letters", "discard", "order-summary", "--reason", "not-json"), "Discard 18 dead letters?"),
        (("dead-letters", "retry", "order-summary", "--all"), "Retry 18 dead letters?"),
        (("keys", "release", "order-summary", "--all"), "Release 2 keys, behind which wait 9 events?"),
    ):
        refused = desk.ctl(*words)
        assert (refused.code, said in refused.err, "--yes" in refused.err) == (2, True, True), words
        assert not [command for command, *_ in desk.engine.asked if hasattr(command, "arguments")]
        assert desk.ctl(*words, "--yes").code == 0
        assert desk.engine.asked.pop()[0].arguments() is not None
        desk.engine.asked.clear()


def test_the_price_is_shown_before_a_rewind(desk: Desk):
    """A rewind that is not confirmed yet has shown events, duration and price of its plan."""
    shown = desk.ctl("rewind", "order-summary", "--to", "earliest").out
    for part in ("1,204,700", "13 s", "about $0.0008", "notify", "beyond the marker horizon"):
        assert part in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pause",), "Missing argument 'TARGET'"),
        (("stop", "all"), "No such command 'stop'"),
        (("wait", "order-summary"), "one of position and event is wanted"),
        (("wait", "order-summary", "--position", "4711"), "SOURCE/SHARD:POSITION"),
        (("skip", "order-summary", "orders/orders-0.jsonl", "--position", "here", "--yes"), "whole numbers"),
        (("audit", "--limit", "0"), "Invalid value for '--limit'"),
        (("dead-letters", "retry", "order-summary"), "which dead letters are meant"),
        (("keys", "release", "order-summary"), "one of KEY and --all"),
        (("pause", "a:b"), "names no projection, generation or shard"),
    ],
)
def test_a_wrong_command_line_is_usage(desk: Desk, words: tuple[str, ...], said: str):
    """What is no command, option or value ends with 2, with what was expected."""
    ended = desk.ctl(*words)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())


def test_no_daemon_is_unreachable(desk: Desk, tmp_path: Path):
    """Where no daemon answers the command ends with 5 and says where it looked."""
    nowhere = str(tmp_path / "none.sock")
    ended = desk.ctl("status", "--json", PROJECTIONCTL_SOCKET=nowhere)
    assert ended.code == 5
    assert ended.document["error"]["code"] == "unreachable"
    assert nowhere in ended.err
    assert "look whether the daemon runs" in ended.err


def test_the_socket_is_found_by_the_settings_alone(desk: Desk):
    """In a container nothing is set up: settings file or variables say where the socket is, wrong elsewhere or not."""
    place = desk.place
    place.write("projectiond.toml", f'[control]\npath = "{desk.socket}"\n[store]\nnonsense = 1\n')
    assert run_here(place.path, ("status", "--json"), {}).code == 0
    place.write("elsewhere.toml", f'[control]\npath = "{desk.socket}"\n')
    place.write("projectiond.toml", "broken [")
    assert run_here(place.path, ("status",), {"PROJECTIOND_CONFIG": "elsewhere.toml"}).code == 0
    assert run_here(place.path, ("status",), {"PROJECTIOND__CONTROL__PATH": str(desk.socket)}).code == 0


def test_help_holds_exit_codes_and_examples(desk: Desk):
    """`--help` has a line for each exit code, and every command's help has examples; none is wider than 80 columns."""
    text = desk.ctl("--help", COLUMNS="80").out
    for code, meaning in EXIT_CODES.items():
        assert f"{code.value:>3}  {meaning}" in text
    assert max(map(len, text.splitlines())) <= 80, text
    groups = {"replay", "dead-letters", "keys"}
    for words in sorted({words[: 1 + (words[0] in groups)] for words in EVERY.values()}):
        shown = desk.ctl(*words, "--help", COLUMNS="80").out
        assert f"projectionctl {' '.join(words)}" in shown.partition("Examples")[2], words
        assert "--json" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(desk: Desk, shell: str):
    """The shells' completion scripts are printed."""
    script = desk.child(_PROJECTIONCTL_COMPLETE=f"source_{shell}")
    assert script.code == 0
    assert "_PROJECTIONCTL_COMPLETE" in script.out


def test_completion_knows_commands_and_shards(desk: Desk):
    """Commands, projections and shards are completed, as the daemon at hand knows them; without one, none."""

    def completed(line: str, **environment: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return desk.child(_PROJECTIONCTL_COMPLETE="complete_bash", **words, **environment).out.split()

    assert completed("projectionctl re") == ["resume", "restart", "rewind", "replay"]
    assert completed("projectionctl pause order-summary-g1:orders/orders-1") == [
        "order-summary-g1:orders/orders-1.jsonl"
    ]
    assert "all" in completed("projectionctl pause a")
    assert completed("projectionctl pause a", PROJECTIONCTL_SOCKET="/nowhere") == []


def test_watching_shows_it_again(desk: Desk):
    """`--watch --json` prints one document a line until it is interrupted, which is no failure."""
    import signal
    import subprocess

    from tests.support.commands import CTL

    words = [CTL, "status", "--watch", "--interval", "0.1", "--json", "--socket", str(desk.socket)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert len({json.loads(line)["replica"] for line in lines}) == 1
