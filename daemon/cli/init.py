"""`projectiond init`: show what is missing, then make it.

Owns the order: the plan is printed first, then carried out, by the very code that a start runs where a start may do the
same. Invariant: what exists is left or strengthened, so that a second `init` does nothing.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from daemon.cli.loading import Loaded, load
from daemon.cli.output import Output, write_json
from daemon.cli.survey import Survey, first_generations, survey
from daemon.core.errors import SettingsProblem
from daemon.core.inventory import Part, PartState
from daemon.settings import DynamoDbStoreSettings


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What is asked for.

    `only_plan`: show the plan and make nothing. `template`: for DynamoDB, print the tables as CloudFormation instead.
    `yes`: do not ask. `generation`: make the tables of this generation's rows ahead.
    """

    only_plan: bool = False
    template: bool = False
    yes: bool = False
    generation: int | None = None


def initialise(config: Path | None, output: Output, options: InitOptions) -> None:
    """Print the plan, then carry it out unless told not to. Raises ProjectiondError."""
    from daemon.cli.loop import run_async

    loaded = load(config)
    store = loaded.settings.settings.store
    if options.template and isinstance(store, DynamoDbStoreSettings):
        _print_template(loaded, store, options.generation)
        return
    only_plan = options.only_plan or options.template

    async def look() -> Survey:
        from daemon.app import store_of

        return await survey(store_of(loaded.settings.settings, read_only=True), loaded.specs, options.generation)

    found = run_async(look)
    output.heading("Plan")
    output.table(("", "what", "name", ""), [(part.state, part.what, part.name, part.detail) for part in found.parts])
    to_do = found.to_do
    if to_do and not only_plan:
        if isinstance(store, DynamoDbStoreSettings) and not options.yes:
            _ask(to_do)
        run_async(lambda: _make(loaded, found))
    output.document({"plan": [asdict(part) for part in found.parts], "made": 0 if only_plan else len(to_do)})
    output.heading(_outcome(found.parts, to_do, only_plan=only_plan))


def _ask(to_do: Sequence[Part]) -> None:
    """Have a person agree to what will be billed. Raises SettingsProblem without one, or without agreement."""
    count = len(to_do)
    if not sys.stdin.isatty():
        raise SettingsProblem(
            f"{count} of the plan's steps change an AWS account and nobody is there to ask; "
            "repeat the command with --yes, or with --plan to make nothing"
        )
    import typer

    if not typer.confirm(f"Carry out {count} {'step' if count == 1 else 'steps'}?", err=True):
        raise SettingsProblem("nothing was made: the plan was not agreed to")


def _print_template(loaded: Loaded, store: DynamoDbStoreSettings, ahead: int | None) -> None:
    """Print the tables of an empty store, or those of a generation's rows alone, as a CloudFormation template."""
    from daemon.assembly.dynamodb import template_of

    write_json(template_of(store, first_generations(loaded.specs, ahead), own=ahead is None))


async def _make(loaded: Loaded, found: Survey) -> None:
    from daemon.app import SystemClock, Unobserved, generations_of, store_of
    from daemon.assembly.patience import opened_in_time
    from daemon.assembly.stores import patience_of

    settings = loaded.settings.settings
    store = store_of(settings)
    await store.establish(found.generations)
    await opened_in_time(store, SystemClock(), Unobserved(), "", patience_of(settings))
    try:
        await generations_of(store, loaded.specs, Unobserved())
    finally:
        await store.aclose()


def _outcome(parts: Sequence[Part], to_do: Sequence[Part], *, only_plan: bool) -> str:
    differing = sum(part.state is PartState.DIFFERS for part in parts)
    left = f" {differing} {'differs' if differing == 1 else 'differ'} and need a person." if differing else ""
    if not to_do:
        return f"Nothing is missing; nothing was changed.{left}"
    if only_plan:
        return f"Nothing was made; `projectiond init` would make {len(to_do)} of {len(parts)}.{left}"
    return f"Made {len(to_do)}; what existed was left as it is.{left}"
