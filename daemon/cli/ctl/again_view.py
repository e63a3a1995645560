"""Re-delivery, dead letters and parked keys as people see them.

Owns which parts of a report are shown, and what is asked before something is changed. Must not know how it is done.
"""

import json
from collections.abc import Mapping
from typing import Any

from daemon.cli.ctl.call import Caller
from daemon.cli.ctl.changing import change, confirm
from daemon.cli.ctl.words import ago, count, label, moment, rate, some, span, tally, text
from daemon.cli.exit_codes import ExitCode
from daemon.cli.output import Output
from daemon.core.errors import CommandRefused, RefusalCode


def show_plan(report: Mapping[str, Any], output: Output) -> None:
    """Show what a re-delivery would come to: its price first, then shard by shard, then what would change."""
    output.heading(f"{label(report['generation'])}: deliver again from {report['since']} to {report['until']}")
    output.pairs([
        ("plan", report["plan"]),
        ("events", count(report["events"])),
        ("expected duplicates", count(report["duplicates"])),
        ("applied late", count(report["late"])),
        ("duration", span(report["duration"])),
        ("write units", f"{report['units']:,.0f}, about ${report['price']:,.4f}"),
        ("handlers left out", ", ".join(report["handlers"]) or "none"),
    ])  # fmt: skip
    output.table(
        ("SHARD", "AFTER", "UNTIL", "EVENTS", "DUPLICATES", "LATE", "FAIL", "COMMITS"),
        [
            (
                label(shard["scope"]), shard["after"], shard["until"], count(shard["events"]),
                tally(shard["duplicates"]), tally(shard["late"]), count(shard["failed"]), count(shard["commits"]),
            )
            for shard in report["shards"]
        ],
    )  # fmt: skip
    for shard in report["shards"]:
        if shard["refused"]:
            output.line(f"{label(shard['scope'])} would be refused: {shard['refused']}")
    for row in report["changes"]:
        output.line(f"{label(row['scope'])}  {row['view']}/{row['key']}")
        for sign, side in (("-", row["before"]), ("+", row["after"])):
            if side is not None:
                output.line(f"  {sign} {json.dumps(side, ensure_ascii=False, sort_keys=True)}")
    if report["more"]:
        output.line(f"and {report['more']:,} more rows would change")


def show_cursors(report: Mapping[str, Any], output: Output) -> None:
    """Show how far re-deliveries have come, and what each layer suppressed."""
    if not report["shards"]:
        output.line("No shard has, or had, a re-delivery.")
        return
    output.table(
        ("SHARD", "COMMAND", "STATE", "AT", "UNTIL", "EVENTS", "RATE", "SUPPRESSED", "LATE", "ROWS CHANGED"),
        [
            (
                label(shard["scope"]), shard["command"], shard["state"], shard["position"], shard["until"],
                count(shard["events"]), rate(shard["events_per_second"]), tally(shard["suppressed"]),
                tally(shard["late"]), count(shard["rows_changed"]),
            )
            for shard in report["shards"]
        ],
    )  # fmt: skip
    for shard in report["shards"]:
        if shard["summary"]:
            output.line(f"{label(shard['scope'])}: {shard['summary']}")


def show_letters(report: Mapping[str, Any], output: Output) -> None:
    """Show dead letters: counts first."""
    output.line(f"{some(report['total'], 'dead letter')}: {tally(report['by_reason'])}")
    if not report["letters"]:
        return
    output.table(
        ("SHARD", "POSITION", "EVENT", "KEY", "REASON", "HANDLER", "AGE", "ASKED"),
        [
            (
                label(one["scope"]), one["position"], text(one["event"]), text(one["key"]), one["reason"],
                text(one["handler"]), ago(one["at"], report["at"]), text(one["wish"]),
            )
            for one in report["letters"]
        ],
    )  # fmt: skip
    if len(report["letters"]) < report["total"]:
        output.line(f"and {report['total'] - len(report['letters']):,} more, see --limit")


def show_letter(report: Mapping[str, Any], output: Output) -> None:
    """Show one dead letter, its payload last."""
    letter = report["letter"]
    output.heading(f"{letter['reason']} at {label(letter['scope'])} {letter['position']}")
    kept = len(report["payload"].encode())
    cut = f", {kept:,} of them kept" if kept < report["payload_size"] else ""
    output.pairs([
        ("event", text(letter["event"])),
        ("key", text(letter["key"])),
        ("handler", text(letter["handler"])),
        ("since", moment(letter["at"])),
        ("what was wrong", text(report["detail"])),
        ("asked", text(letter["wish"])),
        ("to fold it again", text(report["retry"])),
        ("payload", f"{report['payload_size']:,} bytes" + cut),
    ])  # fmt: skip
    output.line(report["payload"])


def show_keys(report: Mapping[str, Any], output: Output) -> None:
    """Show parked keys: counts first."""
    output.line(f"{some(report['total'], 'parked key')}, behind which wait: {some(report['events'], 'event')}")
    if not report["keys"]:
        return
    output.table(
        ("SHARD", "KEY", "EVENTS", "FIRST AT", "EVENT", "REASON", "PARKED FOR", "ASKED"),
        [
            (
                label(one["scope"]), one["key"], count(one["events"]), one["position"], text(one["event"]),
                one["reason"], ago(one["since"], report["at"]), text(one["wish"]),
            )
            for one in report["keys"]
        ],
    )  # fmt: skip


def rewind(caller: Caller, target: str, to: str, *, yes: bool, wait: bool, timeout: float | None) -> ExitCode:
    """Show what rewinding comes to, have it confirmed, and begin it; with `wait`, show what came of it."""
    if not yes:
        plan = _again(caller).ask("replay.plan", {"target": target, "from": to, "to": "now"})
        if not caller.as_json:
            show_plan(plan, Output(as_json=False))
        confirm("Begin?", yes=yes)
    code = change(caller, "rewind", {"target": target, "to": to}, wait=wait, timeout=timeout)
    return _show_what_came(caller, target, code, wait=wait)


def apply(
    caller: Caller, target: str, since: str, until: str, plan: str, *, wait: bool, timeout: float | None
) -> ExitCode:
    """Begin a planned re-delivery; with `wait`, show what came of it."""
    args = {"target": target, "from": since, "to": until, "plan": plan}
    code = change(caller, "replay.apply", args, wait=wait, timeout=timeout)
    return _show_what_came(caller, target, code, wait=wait)


def _show_what_came(caller: Caller, target: str, code: ExitCode, *, wait: bool) -> ExitCode:
    if wait and code is ExitCode.DONE and not caller.as_json:
        show_cursors(_again(caller).ask("replay.status", {"target": target}), Output(as_json=False))
    return code


def letters(
    caller: Caller, verb: str, target: str, which: Mapping[str, Any], *, yes: bool, wait: bool, timeout: float | None
) -> ExitCode:
    """Retry or discard dead letters: their counts first, and a confirmation where something is lost by it."""
    if not any(which.values()):
        raise CommandRefused(
            RefusalCode.USAGE, "which dead letters are meant is not said", "give --key, --reason, --event ... or --all"
        )
    found = _again(caller).ask("dead-letters.list", {"target": target, **which, "limit": 0})
    if not caller.as_json:
        show_letters(found, Output(as_json=False))
    if not found["total"] and not caller.repeats:  # what was asked before may have left none: the daemon knows
        raise CommandRefused(RefusalCode.NOT_FOUND, f"no dead letter of {target} is meant", "see `dead-letters list`")
    if verb == "discard" or which.get("every"):
        confirm(f"{verb.capitalize()} {some(found['total'], 'dead letter')}?", yes=yes)
    return change(caller, f"dead-letters.{verb}", {"target": target, **which}, wait=wait, timeout=timeout)


def release(
    caller: Caller, target: str, key: str | None, *, every: bool, yes: bool, wait: bool, timeout: float | None
) -> ExitCode:
    """Release a parked key, or every one once that was confirmed."""
    if (key is None) == (not every):
        raise CommandRefused(RefusalCode.USAGE, "one of KEY and --all is wanted", "see `projectionctl keys parked`")
    if every:
        found = _again(caller).ask("keys.parked", {"target": target, "limit": 0})
        confirm(f"Release {some(found['total'], 'key')}, behind which wait {some(found['events'], 'event')}?", yes=yes)
    return change(caller, "keys.release", {"target": target, "key": key, "every": every}, wait=wait, timeout=timeout)


def _again(caller: Caller) -> Caller:
    """Return a caller of the same daemon with a request id of its own."""
    return Caller(caller.socket, caller.config, as_json=caller.as_json)
