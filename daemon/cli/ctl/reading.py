"""`status`, `shards`, `lag`, `top`, `tail`, `audit`, `explain`: what a daemon says of itself, as tables.

Owns which parts of a report people see, and in which order. Must not know how a report is gathered.

Invariant: with JSON asked for, the report is printed as the daemon gave it.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from daemon.cli.ctl.call import Caller, Frame
from daemon.cli.ctl.words import NOTHING, ago, count, label, moment, plain_arguments, rate, span, tally, text
from daemon.cli.output import Output

type Show = Callable[[Mapping[str, Any], Output], None]

_STUCK_STATES = frozenset({"parked", "paused", "fenced"})


def look(
    caller: Caller, command: str, args: Mapping[str, Any], show: Show, *, watch: bool = False, interval: float = 2.0
) -> None:
    """Ask and show; with `watch`, again and again until interrupted."""
    if not watch:
        print_report(caller.ask(command, args), show, as_json=caller.as_json)
        return
    with suppress(KeyboardInterrupt):
        while True:
            again = Caller(caller.socket, caller.config, as_json=caller.as_json)
            _anew(again.ask(command, args), show, as_json=caller.as_json)
            time.sleep(interval)


def stream(caller: Caller, command: str, args: Mapping[str, Any], show: Show, *, anew: bool) -> None:
    """Show rows as they come, each in the place of the one before (`anew`) or below it, until interrupted."""
    with suppress(KeyboardInterrupt):
        if anew:
            caller.ask(command, args, row=lambda row: _anew(row, show, as_json=caller.as_json))
        else:
            caller.ask(command, args, row=lambda row: _below(row, show, as_json=caller.as_json))


def print_report(report: Mapping[str, Any], show: Show, *, as_json: bool) -> None:
    """Print a report once."""
    output = Output(as_json=as_json)
    output.document(report)
    if not as_json:
        show(report, output)


def _below(row: Frame, show: Show, *, as_json: bool) -> None:
    if as_json:
        _line(row)
    else:
        show(row, Output(as_json=False))


def _anew(report: Frame, show: Show, *, as_json: bool) -> None:
    """Print a report where the one before stood, on a terminal; below it elsewhere."""
    if as_json:
        _line(report)
        return
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[H\x1b[2J\x1b[3J")
    show(report, Output(as_json=False))
    sys.stdout.flush()


def _line(document: Frame) -> None:
    import json

    sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


# -- reports -------------------------------------------------------------------------------------------------------


def show_status(report: Mapping[str, Any], output: Output) -> None:
    """Show how every projection stands, and how to leave where one is stuck."""
    for projection in report["projections"]:
        marks = [f"version {projection['version']}"]
        marks += ["live"] if projection["live"] else []
        marks += [] if projection["code"] else ["no code of this version here"]
        output.heading(f"{label(projection['generation'])}  ({', '.join(marks)})")
        pairs = [("shards", f"{projection['shards']:,}: {tally(projection['states'])}")]
        if projection["paused"] is not None:
            pairs.append(("told to stand still", text(projection["paused"])))
        pairs += [("under way", one) for one in projection["underway"]]
        output.pairs(pairs)
        for shard in projection["stuck"]:
            output.line(f"  {label(shard['scope'])}")
            output.pairs([(f"  {name}", said) for name, said in _stuck(shard, report["at"])])
    if not report["projections"]:
        output.line("No projection is known here.")
    others = [name for name in report["replicas"] if name != report["replica"]]
    output.heading("Replicas")
    output.pairs([("answers", report["replica"]), *(("also there", name) for name in others)])


def _stuck(shard: Mapping[str, Any], now: str) -> list[tuple[str, str]]:
    state = shard["state"]
    if shard["since"] is not None:
        state = f"{state} for {ago(shard['since'], now)}, since {moment(shard['since'])}"
    pairs = [("state", state), ("why", text(shard["why"])), ("at", text(shard["stuck_at"] or shard["position"]))]
    if shard["restarts"]:
        pairs.append(("restarts", count(shard["restarts"])))
    if shard["retry_seconds"] is not None:
        pairs.append(("tried again in", span(shard["retry_seconds"])))
    if shard["leave"]:
        pairs.append(("to leave", shard["leave"]))
    return pairs


def show_shards(report: Mapping[str, Any], output: Output) -> None:
    """Show every shard."""
    rows = [
        (
            label(shard["scope"]),
            shard["state"] + (f" ({len(shard['pending'])} pending)" if shard["pending"] else ""),
            text(shard["position"]),
            moment(shard["watermark"]),
            "yes" if shard["caught_up"] else "no",
            count(shard["counters"].get("applied", 0)),
            text(shard["replica"]) + (" *" if shard["here"] else ""),
        )
        for shard in report["shards"]
    ]
    columns = ("SHARD", "STATE", "POSITION", "WATERMARK", "CAUGHT UP", "APPLIED", "OWNER (* answers)")
    _table_or(output, columns, rows, "No shard is known.")


def show_lag(report: Mapping[str, Any], output: Output) -> None:
    """Show how far every shard is behind."""
    columns = ("SHARD", "STATE", "POSITION", "END", "EVENTS", "BEHIND", "RATE", "ETA", "TO LOSS")
    _table_or(output, columns, [_lag_row(shard) for shard in report["shards"]], "No shard is known.")
    for shard in report["shards"]:
        if shard["problem"]:
            output.line(f"{label(shard['scope'])}: {shard['problem']}")


def _lag_row(shard: Mapping[str, Any]) -> tuple[str, ...]:
    behind = shard["events"]
    waiting = count(behind) if behind is not None else _bytes(shard["bytes"])
    if shard["held"]:
        waiting += f" ({shard['held']:,} held)"
    return (
        label(shard["scope"]),
        shard["state"],
        text(shard["position"]),
        text(shard["end"]),
        waiting,
        span(shard["seconds"]),
        rate(shard["rate"]),
        span(shard["eta_seconds"]),
        span(shard["seconds_to_loss"]),
    )


def show_top(row: Mapping[str, Any], output: Output) -> None:
    """Show one look at every shard, the busiest and the furthest behind first, with the sums above."""
    shards: Sequence[Mapping[str, Any]] = row["shards"]
    waiting = [shard["events"] for shard in shards if shard["events"] is not None]
    states: dict[str, int] = {}
    for shard in shards:
        states[shard["state"]] = states.get(shard["state"], 0) + 1
    output.line(
        f"{moment(row['at'])}   {len(shards)} shards: {tally(states)}   "
        f"{rate(sum(shard['rate'] or 0.0 for shard in shards))}   {count(sum(waiting)) if waiting else NOTHING} waiting"
    )
    ordered = sorted(
        shards,
        key=lambda shard: (
            shard["state"] not in _STUCK_STATES, -(shard["rate"] or 0.0), -(shard["events"] or 0),
            label(shard["scope"]),
        ),
    )  # fmt: skip
    columns = ("SHARD", "STATE", "POSITION", "EVENTS", "BEHIND", "RATE", "ETA")
    rows = [(one[0], one[1], one[2], one[4], one[5], one[6], one[7]) for one in map(_lag_row, ordered)]
    _table_or(output, columns, rows[: output.lines_left(3)], "No shard is known.")


def show_tail(row: Mapping[str, Any], output: Output) -> None:
    """Show the events of one commit, one a line, as plain columns: many come, and they are searched."""
    for event in row["events"]:
        parts = (
            event["position"],
            event["verdict"],
            event["type"] or NOTHING,
            event["key"] or NOTHING,
            event["id"] or NOTHING,
        )
        output.line("  ".join([label(row["scope"]), *map(str, parts)]))
    if row["more"]:
        output.line(f"{label(row['scope'])}  and {row['more']:,} more up to {row['position']}: {tally(row['counts'])}")
    if row.get("missed"):
        output.line(f"({row['missed']:,} commits were not shown: they come faster than they are read)")


def show_audit(report: Mapping[str, Any], output: Output) -> None:
    """Show operations, newest first."""
    rows = [
        (
            f"{label(entry['generation'])} #{entry['sequence']}",
            moment(entry["at"]),
            f"{entry['by']['user']}@{entry['by']['host']}",
            entry["command"],
            entry["target"],
            plain_arguments(entry["arguments"]) or NOTHING,
            _outcome(entry),
        )
        for entry in report["entries"]
    ]
    _table_or(output, ("OPERATION", "WHEN", "WHO", "COMMAND", "TARGET", "ARGUMENTS", "OUTCOME"), rows, "Nothing yet.")


def _outcome(entry: Mapping[str, Any]) -> str:
    return tally({name: entry[name] for name in ("done", "pending", "refused")})


def show_explanation(report: Mapping[str, Any], output: Output) -> None:
    """Show where a row comes from."""
    for row in report["rows"]:
        live = ", live" if row["live"] else ""
        output.heading(f"{row['view']}/{row['key']} in {label(row['generation'])}{live}")
        if not row["present"]:
            output.line("  deleted" if row["deleted"] else "  there is no such row")
        if row["parked"]:
            output.line("  its key is parked: later events of it wait (projectionctl keys parked)")
        if row["event_id"] is None:
            continue
        covered = row["at_or_below"]
        output.pairs([
            ("event", row["event_id"]),
            ("position", f"{row['source']}/{row['shard']} at {row['position']}"),
            ("row version", count(row["version"])),
            ("marker", row["marked"]),
            ("shard's newest commit", count(row["commit_seq"])),
            ("checkpoint covers it", NOTHING if covered is None else "yes" if covered else "no"),
            *(("sequence", f"{name}: {number}") for name, number in row["sequences"].items()),
        ])  # fmt: skip


def _table_or(output: Output, columns: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    if rows:
        output.table(columns, rows)
    else:
        output.line(nothing)


def _bytes(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,} bytes"
