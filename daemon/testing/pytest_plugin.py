"""The pytest plugin of a project with projections: found by pytest itself once projectiond is installed beside it.

Owns options, the fixture `given`, the end of each test and the line of a session's summary. Must not import the daemon
before a test does: a session without specifications pays nothing.
"""

from collections.abc import Callable, Generator
from typing import Any

import pytest

from daemon.testing.specs.register import DEFAULT_SEEDS, REGISTER

_SEEDS = "projection_seeds"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a session may change."""
    group = parser.getgroup("projections", "specifications of projections (daemon.testing)")
    group.addoption(
        "--projection-seeds", type=int, default=None, metavar="N",
        help=f"other orders of keys and logs that each specification is tried in ({DEFAULT_SEEDS})",
    )  # fmt: skip
    group.addoption(
        "--projection-first-seed", type=int, default=1, metavar="SEED", help="the first one's seed (1)"
    )  # fmt: skip
    parser.addini(_SEEDS, "as --projection-seeds", default=str(DEFAULT_SEEDS))


def pytest_configure(config: pytest.Config) -> None:
    """Read the options."""
    config.addinivalue_line("markers", "projection(of): the projection that the fixture `given` is about")
    seeds: int | None = config.getoption("--projection-seeds")
    REGISTER.seeds = int(config.getini(_SEEDS)) if seeds is None else seeds
    first: int | None = config.getoption("--projection-first-seed")
    REGISTER.first_seed = 1 if first is None else first


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Let a test that passes fail all the same for what its specifications left unsaid."""
    __tracebackhide__ = True
    outer, REGISTER.open = REGISTER.open, []
    try:
        result = yield
        for stated in REGISTER.open:
            stated.close()
        return result
    finally:
        REGISTER.open = outer


@pytest.fixture
def given(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Give events to the projection of the nearest `@pytest.mark.projection(of=Orders)`: `given(...).then(...)`."""
    marker = request.node.get_closest_marker("projection")
    if marker is None or marker.kwargs.keys() != {"of"}:
        message = "the fixture `given` needs `@pytest.mark.projection(of=Orders)` on the test, or `pytestmark = ...`"
        raise pytest.UsageError(message)
    from daemon.testing.specs.spec import spec  # noqa: PLC0415 - only for those who use it

    return spec(marker.kwargs["of"]).given


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how often specifications were run, and what they excuse."""
    if not REGISTER.specs:
        return
    terminalreporter.write_line(f"projections: {REGISTER.specs} specifications, run in {REGISTER.runs} ways")
    for (projection, check, reason), count in sorted(REGISTER.excuses.items()):
        times = "" if count == 1 else f" ({count} specifications)"
        terminalreporter.write_line(f"  {projection} excuses `{check}`{times}: {reason}")
