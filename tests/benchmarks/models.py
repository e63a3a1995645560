"""A cheap projection: what many shards cost beside the folding itself."""

from daemon.api import Event, View, on, projection


@projection(name="tally", version=1, source="ticks", key="data.key", dedup="shard")
class Tally:
    """One row per key, counted."""

    @on("Tick")
    def tick(self, view: View, event: Event) -> None:
        view.add(ticks=1, total=event.data["amount"])
