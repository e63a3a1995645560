"""Where a daemon puts its socket, and how a client finds it, with nothing set up."""

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from daemon.assembly.control import place_of
from daemon.control.client import Unreachable, WrongSocket, find_socket
from daemon.control.place import settle
from daemon.core.errors import SettingsProblem
from daemon.ports.observer import ControlTrouble
from daemon.settings import Settings
from daemon.testing.observer import RecordingObserver


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which daemons without a path put their sockets."""
    directory = place.parent
    for module in ("client", "place"):
        monkeypatch.setattr(f"daemon.control.{module}.default_directory", lambda: directory)
    return directory


@pytest.mark.usefixtures("home")
def test_the_only_daemon_is_found():
    """Without settings the one daemon that runs is meant; sockets of dead ones do not count."""
    with pytest.raises(Unreachable, match="has a socket here"):
        find_socket(None, None, {})
    dead = settle(None, "dead")
    dead.listening.close()
    with closing(settle(None, "shop")) as held:
        assert dead.path.exists()
        assert find_socket(None, None, {}) == held.path
    dead.close()


@pytest.mark.usefixtures("home")
def test_of_several_daemons_the_settings_choose(tmp_path: Path):
    """Of several daemons the settings' name chooses, any replica of it; without settings the choice is asked for."""
    config = tmp_path / "projectiond.toml"
    config.write_text('[daemon]\nname = "shop"\n', encoding="utf-8")
    with ExitStack() as stack:
        other, first, second = (stack.enter_context(closing(settle(None, name))) for name in ("bank", "shop", "shop"))
        with pytest.raises(WrongSocket, match=r"several daemons run here .*bank\.sock.*--socket PATH"):
            find_socket(None, None, {})
        assert find_socket(None, config, {}) in {first.path, second.path}
        assert find_socket(None, config, {"PROJECTIOND__DAEMON__NAME": "bank"}) == other.path
        assert find_socket(Path("/given.sock"), config, {}) == Path("/given.sock")
        config.write_text('[daemon]\nname = "shop"\n[control]\npath = "/set.sock"\n', encoding="utf-8")
        assert find_socket(None, config, {}) == Path("/set.sock")
        assert find_socket(None, config, {"PROJECTIOND__CONTROL__PATH": "/variable.sock"}) == Path("/variable.sock")


def test_a_socket_that_nobody_asked_for_is_done_without(home: Path):
    """Where the default place cannot be had the daemon runs on and says so; a configured path must be served."""
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    observer = RecordingObserver()
    assert place_of(Settings(), observer) is None
    (trouble,) = observer.of(ControlTrouble)
    assert "the daemon runs without" in trouble.reason
    assert "control.path" in trouble.reason
    with pytest.raises(SettingsProblem, match="others could reach the socket"):
        place_of(Settings.model_validate({"control": {"path": str(home / "x.sock")}}), observer)
    assert place_of(Settings.model_validate({"control": {"enabled": False}}), observer) is None
