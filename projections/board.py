"""Counters with a marker per event: one row per airport and day.

The same movement may be told again in another shard, so each event id is remembered wherever it came from.
"""

from daemon.api import Event, View, on, projection

LATE = 15
"""Minutes after which a movement counts as delayed."""


@projection(name="board", version=1, source="movements", key=("data.airport", "data.day"), dedup="event")
class Board:
    """What went on at each airport, day by day."""

    @on("Departure")
    def departure(self, view: View, event: Event) -> None:
        delay = event.data["delay"] or 0
        view.add(departures=1, delay_minutes=max(delay, 0), delayed=1 if delay > LATE else 0)

    @on("Arrival")
    def arrival(self, view: View, event: Event) -> None:
        delay = event.data["delay"] or 0
        view.add(arrivals=1, delay_minutes=max(delay, 0), delayed=1 if delay > LATE else 0)
