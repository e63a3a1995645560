"""`projectiond init`: show what is missing, then make it.

Owns the order: the plan is printed first, then carried out by the very code that a start runs. Invariant: what exists
is left as it is, so that a second `init` does nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from daemon.cli.loading import Loaded, load
from daemon.cli.output import Output
from daemon.cli.survey import State, Step, survey
from daemon.ports.observer import Fact


class _Nobody:
    """An observer that looks away: the plan has said it all."""

    def see(self, fact: Fact) -> None:
        """Do nothing."""


def initialise(config: Path | None, output: Output, *, only_print: bool) -> None:
    """Print the plan, then carry it out unless told not to. Raises ProjectiondError."""
    import anyio

    loaded = load(config)
    steps = survey(loaded.settings.settings, loaded.specs)
    missing = [step for step in steps if step.state is State.MAKE]
    output.heading("Plan")
    output.table(("", "what", "name", ""), [(step.state, step.what, step.name, step.detail) for step in steps])
    if missing and not only_print:
        anyio.run(_make, loaded)
    output.document({"plan": [asdict(step) for step in steps], "made": 0 if only_print else len(missing)})
    output.heading(_outcome(steps, missing, only_print=only_print))


async def _make(loaded: Loaded) -> None:
    from daemon.app import generations_of, store_of

    store = store_of(loaded.settings.settings)
    await store.open()
    try:
        await generations_of(store, loaded.specs, _Nobody())
    finally:
        await store.aclose()


def _outcome(steps: Sequence[Step], missing: Sequence[Step], *, only_print: bool) -> str:
    if not missing:
        return "Nothing is missing; nothing was changed."
    if only_print:
        return f"Nothing was made; `projectiond init` would make {len(missing)} of {len(steps)}."
    return f"Made {len(missing)}; what existed was left as it is."
