"""`projectiond run`: run the daemon and tell how it ended.

Owns the log's configuration, the totals of the run and the result that is printed. Must not know how shards are run.
"""

import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.exit_codes import ExitCode
from daemon.cli.loading import Loaded, load, quiet_stdout
from daemon.cli.output import Output
from daemon.cli.signals import EarlySignals, Stopped
from daemon.core.errors import SettingsProblem
from daemon.core.identity import Scope
from daemon.ports.observer import BatchCommitted, Fact
from daemon.settings import DynamoDbStoreSettings, LoggingSettings, Settings
from daemon.telemetry.logs import LogForm, Logger, configure_logging

if TYPE_CHECKING:
    from daemon.app import RunResult
    from daemon.telemetry.units import Bill, Prices

EVERY = "all"
_LABEL = re.compile(r"(?P<projection>.+)-g(?P<generation>[1-9][0-9]*):(?P<source>[^/]+)/(?P<shard>.+)")

_SHOWN = {
    "read": "events read",
    "applied": "applied",
    "duplicate_position": "duplicates by position",
    "duplicate_marker": "duplicates by marker",
    "duplicate_version": "duplicates by row version",
    "dead_lettered": "dead-lettered",
    "parked": "parked behind their key",
    "skipped": "skipped",
    "rows": "rows written",
    "effects": "effects",
    "commits": "commits",
}
"""A checkpoint's counters, as people read them."""


class Totals:
    """An observer that adds up what this run committed."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.counts: Counter[str] = Counter()

    def see(self, fact: Fact) -> None:
        """Add a commit's counters."""
        if type(fact) is BatchCommitted:
            counts = self.counts
            for name, count in fact.counts.items():
                counts[name] += count


def run_daemon(
    config: Path | None, *, once: bool, resume: Sequence[str], output: Output, early: EarlySignals
) -> ExitCode:
    """Run until a signal, or until all is settled with `once`; print the result. Raises ProjectiondError."""
    try:
        with early.at_once():
            loaded = load(config)
            check_labels(resume, loaded)
    except Stopped:
        _logger(LoggingSettings()).info("stopped", drained=True)
        _print((), Counter(), (), config, output, drained=True)
        return ExitCode.DONE
    return _run(loaded, once=once, resume=resume, output=output, early=early)


def _run(loaded: Loaded, *, once: bool, resume: Sequence[str], output: Output, early: EarlySignals) -> ExitCode:
    from daemon import __version__, app
    from daemon.assembly.telemetry import site_of
    from daemon.cli.loop import run_async
    from daemon.telemetry.facts import FanOut, LogObserver
    from daemon.telemetry.units import UnitsMeter

    settings = loaded.settings.settings
    logger = _logger(settings.logging).bind(daemon=settings.daemon.name)
    logger.info("starting", release=__version__, config=str(loaded.path or "none"), once=once)
    totals = Totals()
    meter = UnitsMeter(logger, prices_of(settings), time.monotonic, settings.logging.units_interval_seconds)
    site = site_of(settings, app.SystemClock(), logger)
    observer = FanOut([LogObserver(logger), totals, meter, *(() if site is None else site.observers)])

    async def main() -> "RunResult":
        return await app.run(settings, observer, once=once, resume=resume, site=site, asked=lambda: early.asked)

    with quiet_stdout():
        result = run_async(main)
    meter.tell()
    logger.info("stopped", drained=result.drained)
    _print(result.parked, totals.counts, meter.bills(), loaded.path, output, drained=result.drained)
    if not result.drained:
        return ExitCode.PENDING
    return ExitCode.ATTENTION if once and result.parked else ExitCode.DONE


def prices_of(settings: Settings) -> "Prices":
    """Return what a store's units cost; nothing, where it bills none."""
    from daemon.telemetry.units import Prices

    store = settings.store
    if isinstance(store, DynamoDbStoreSettings):
        return Prices(store.usd_per_million_write_units, store.usd_per_million_read_units)
    return Prices(0.0, 0.0)


def check_labels(labels: Sequence[str], loaded: Loaded) -> None:
    """Refuse a `--resume` that could never find its shard. Raises SettingsProblem."""
    names = sorted({spec.name for spec in loaded.specs})
    sources = sorted(loaded.settings.settings.sources)
    for label in labels:
        match = _LABEL.fullmatch(label)
        if label == EVERY or (match and match["projection"] in names and match["source"] in sources):
            continue
        raise SettingsProblem(
            f"--resume {label!r:.200} names no shard of this daemon; write PROJECTION-gN:SOURCE/SHARD as logs and "
            f"results show it (projections: {', '.join(names)}; sources: {', '.join(sources) or 'none'}), or {EVERY!r}"
        )


def resume_command(path: Path | None, scope: Scope) -> str:
    """Return the command that goes on with a parked shard."""
    words = ["projectiond", "run", *(["--config", str(path)] if path else []), "--resume", scope.label]
    return shlex.join(words)


def _logger(settings: LoggingSettings) -> Logger:
    import os

    terminal = sys.stderr.isatty()
    colours = terminal and not os.environ.get("NO_COLOR")
    form: LogForm = settings.format
    if form == "auto" and terminal:
        form = "console"
    return configure_logging(
        level=settings.level,
        form=form,
        max_field_characters=settings.max_field_characters,
        stream=sys.stderr,
        is_terminal=colours,
    )


def _print(
    parked: Sequence[tuple[Scope, str]],
    counts: Counter[str],
    bills: "Sequence[Bill]",
    path: Path | None,
    output: Output,
    *,
    drained: bool,
) -> None:
    output.document({
        "drained": drained,
        "counts": {name: counts[name] for name in _SHOWN},
        "consumed": [asdict(bill) for bill in bills],
        "parked": [
            scope._asdict() | {"scope": scope.label, "reason": reason, "command": resume_command(path, scope)}
            for scope, reason in parked
        ],
    })  # fmt: skip
    output.heading("This run")
    output.pairs((text, f"{counts[name]:,}") for name, text in _SHOWN.items() if counts[name] or name == "read")
    for bill in bills:
        units = ", ".join(f"{count:,.1f} {name}" for name, count in bill.units.items())
        output.line(f"consumed by {bill.projection or 'the daemon itself'}: {units} (${bill.usd:,.6f})")
    if not drained:
        output.line("Not everything was drained in time; nothing is lost, and the next start goes on from there.")
    for scope, reason in parked:
        output.heading(f"Parked: {scope.label}")
        output.pairs([("reason", reason), ("mend it, then", resume_command(path, scope))])
