"""`projectiond demo`: the demonstration, and its report for people.

Owns the words of the report. Must not know how the daemon is run or checked; `daemon.demo` does.
"""

from collections.abc import Iterator

from daemon.cli.exit_codes import ExitCode
from daemon.cli.output import Output
from daemon.demo.progress import display
from daemon.demo.report import DemoReport
from daemon.demo.runner import DemoOptions, demonstration
from daemon.demo.watch import LAYERS

_MIB = 1024 * 1024


def run_demo(options: DemoOptions, output: Output, *, keep: bool) -> ExitCode:
    """Run the demonstration and print its report; then run on with `keep`. Raises ProjectiondError."""
    with display() as shown, demonstration(options, shown) as demo:
        report = demo.run()
        output.document(report.document())
        _print(report, output)
        if report.problems:
            return ExitCode.ATTENTION
        if keep:
            demo.keep()
    return ExitCode.DONE


def _print(report: DemoReport, output: Output) -> None:
    manifest, phases, look = report.manifest, report.phases, report.look
    output.heading("Event logs")
    output.pairs([
        ("flights", f"{manifest.flights:,}"),
        ("events", f"{manifest.events():,} in {len(manifest.shards)} shards, {manifest.size_bytes / _MIB:,.0f} MiB"),
        ("mixed in", f"{manifest.lines() - manifest.events():,} duplicates"),
    ])  # fmt: skip
    output.heading("Folded")
    layers = [f"stopped by {layer}" for layer in LAYERS]
    output.table(("read model", "events read", "applied", *layers, "as mixed in"), _counts(report))
    duplicates = sum(look.duplicates().values())
    points = ", ".join(f"{kill.share:.0%}" for kill in report.kills) or "no point"
    times = "time" if len(report.kills) == 1 else "times"
    replicas = "1 process" if report.replicas == 1 else f"{report.replicas} replicas, dividing the shards by leases"
    both = sum(kill.replicas > 1 for kill in report.kills)
    hits = f" ({both} of them all replicas at once)" if both else ""
    applied = look.total("applied")
    output.pairs([
        ("in all", f"{look.read:,} events read, {applied:,} applied, {duplicates:,} duplicates stopped"),
        ("by", replicas),
        ("killed", f"{len(report.kills)} {times} with SIGKILL{hits}, at {points} of the events"),
        ("speed", f"{report.events_per_second:,.0f} events/s, kills and restarts included"),
        *_units(report),
    ])  # fmt: skip
    output.heading("Checked against the CSV, by code that shares nothing with the daemon")
    output.table(
        ("read model", "rows expected", "found", "right", "wrong"),
        [
            (model.model, *(f"{count:,}" for count in (model.expected, model.found, model.right, model.wrong)))
            for model in report.checked.models
        ],
    )
    output.heading("Time")
    output.pairs([
        ("logs", "there already" if report.logs_reused else f"{phases.logs:.1f} s"),
        ("fold", f"{phases.fold:.1f} s"),
        ("check", f"{phases.check:.1f} s"),
        ("in all", f"{phases.total:.1f} s"),
    ])  # fmt: skip
    if report.problems:
        output.heading("Wrong")
        for problem in report.problems:
            output.line(f"  {problem}")
    else:
        output.heading(f"All {report.checked.rows:,} rows are right, and every duplicate was stopped exactly once.")


def _units(report: DemoReport) -> Iterator[tuple[str, str]]:
    units = report.write_units_per_event
    if units is not None:
        yield "cost", f"{units:.2f} write units an event applied, as the daemons told that were not killed"


def _counts(report: DemoReport) -> Iterator[tuple[str, ...]]:
    for counts in report.counts:
        found = counts.found
        stopped = (f"{found[f'duplicate_{layer}']:,}" for layer in LAYERS)
        yield (
            counts.followed.projection,
            f"{found['read']:,}",
            f"{found['applied']:,}",
            *stopped,
            "exactly" if counts.agree else "NO",
        )
