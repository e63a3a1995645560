"""Consumer groups from settings: one membership for each generation and source, and the progress they show.

Owns the groups' wiring. Must not know what a group decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.core.errors import SettingsProblem
from daemon.core.identity import Generation
from daemon.ports.observer import BatchCommitted, Fact, Observer
from daemon.ports.source import Source
from daemon.settings import KafkaSourceSettings, Settings

if TYPE_CHECKING:
    from daemon.sources.kafka.membership import GroupMember  # the client takes a while to import


def group_members(
    settings: Settings, follows: Mapping[Generation, Sequence[str]], sources: Mapping[str, Source]
) -> "dict[tuple[Generation, str], GroupMember]":
    """Build the memberships that the settings ask for; none where something else says who runs what."""
    if settings.coordination.kind != "group":
        return {}
    return {
        (generation, name): _member(settings.sources[name], sources[name], generation)
        for generation, names in follows.items()
        for name in names
    }


def _member(settings: object, source: Source, generation: Generation) -> "GroupMember":
    from daemon.sources.kafka.source import KafkaSource  # noqa: PLC0415 - slow, and for groups alone

    if not isinstance(settings, KafkaSourceSettings) or not isinstance(source, KafkaSource):
        raise SettingsProblem(
            f"coordination.kind: a consumer group is for Kafka, and source {source.name!r} is of another kind; "
            'set coordination.kind = "lease"'
        )
    group = settings.group
    return source.member(
        group.name_of(generation.projection, generation.number, source.name),
        instance=group.instance,
        session_timeout=group.session_timeout_ms / 1000,
        heartbeat_interval=group.heartbeat_interval_ms / 1000,
        rebalance_timeout=group.rebalance_timeout_ms / 1000,
    )


@dataclass(frozen=True, slots=True)
class ShowsProgress:
    """An observer that has groups show how far each shard was committed, and passes every fact on."""

    observer: Observer
    members: "Mapping[tuple[Generation, str], GroupMember]"

    def see(self, fact: Fact) -> None:
        """Note a commit's position; pass the fact on."""
        self.observer.see(fact)
        if type(fact) is BatchCommitted and fact.position:
            member = self.members.get((fact.scope.of, fact.scope.source))
            if member is not None:
                member.publish(fact.scope.shard, fact.position[0] + 1)
