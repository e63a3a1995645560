import pytest

from daemon import __version__
from daemon.cli.exit_codes import ExitCode, exit_code_of
from daemon.core import errors
from daemon.core.errors import ProjectiondError
from tests.support.commands import Workplace


def test_the_version_is_told(shop: Workplace):
    """`--version` prints name and version, and needs no settings."""
    assert shop.run("--version").out == f"projectiond {__version__}\n"


def test_help_holds_the_table_of_exit_codes(shop: Workplace):
    """`--help` has a line for each exit code, and examples; none is wider than a terminal of 80 columns."""
    text = shop.run("--help", COLUMNS="80").out
    for code in ExitCode:
        assert f"{code.value:>3}  {code.meaning}" in text
    assert "Examples" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", ["run", "check", "init", "demo"])
def test_each_command_shows_examples(shop: Workplace, command: str):
    """`COMMAND --help` has examples that begin with the command itself, each on one line."""
    text = shop.run(command, "--help", COLUMNS="80").out
    _, _, shown = text.partition("Examples")
    assert f"projectiond {command}" in shown
    assert "--json" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shop: Workplace, shell: str):
    """The shells' completion scripts are printed, and complete the commands."""
    script = shop.run(_PROJECTIOND_COMPLETE=f"source_{shell}")
    assert script.code == 0
    assert "_PROJECTIOND_COMPLETE" in script.out
    completed = shop.run(_PROJECTIOND_COMPLETE="complete_bash", COMP_WORDS="projectiond ch", COMP_CWORD="1")
    assert completed.out.split() == ["check"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("walk",), "No such command 'walk'"),
        (("run", "--twice"), "No such option: --twice"),
        (("check", "--config"), "Option '--config' requires an argument"),
    ],
)
def test_a_wrong_command_line_is_usage(shop: Workplace, words: tuple[str, ...], said: str):
    """What is no command, option or value ends with 2 and one message."""
    ended = shop.run(*words)
    assert ended.code == 2
    assert said in ended.err


def test_no_escape_sequences_reach_a_pipe(shop: Workplace):
    """Help, tables and messages are plain where they are no terminal's."""
    for words in (("--help",), ("check",), ("init", "--print"), ("check", "-c", "missing.toml")):
        ended = shop.run(*words)
        assert "\x1b" not in ended.out + ended.err


def test_no_color_holds_on_a_terminal(shop: Workplace):
    """With NO_COLOR on a terminal, `check` prints a table no wider than it, nothing cut, no escape sequences."""
    plain = shop.run_on_a_terminal("check", columns=72, NO_COLOR="1")
    assert "store.path" in plain
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 72
    assert "…" not in plain
    assert "\x1b[1m" in shop.run_on_a_terminal("check", columns=72)


def test_every_error_of_the_tree_has_an_exit_code():
    """Each class of the error tree leads to a documented code, and only a bug to 70; foreign errors are bugs."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProjectiondError)]
    codes = {kind.__name__: exit_code_of(kind.__new__(kind)).value for kind in kinds}
    assert codes == {
        "ProjectiondError": 70,
        "SettingsProblem": 2,
        "ProjectionProblem": 2,
        "EventProblem": 3,
        "SourceProblem": 5,
        "SourceUnavailable": 5,
        "LogLost": 3,
        "StoreProblem": 5,
        "StoreUnavailable": 5,
        "StoreFull": 5,
        "RowsContended": 3,
        "StoreRefused": 3,
        "StoreDamaged": 3,
        "StoreTooNew": 3,
        "Superseded": 3,
        "IllegalTransition": 70,
        "CommandRefused": 3,
        "OperationsMoved": 3,
    }
    assert exit_code_of(ValueError()) is ExitCode.BUG
