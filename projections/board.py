"""Counters with a marker per event: one row per airport and day, and two rows from one event.

A trip may be told again in another shard, so each event id is remembered wherever it came from. It counts at the
airport that it left, whose row is the event's own, and at the one that it reached: another row of the same view, which
any shard may add to just as well.
"""

from daemon.api import Event, View, on, projection

LATE = 15
"""Minutes after which a movement counts as delayed."""


@projection(name="board", version=1, source="movements", key=("data.origin", "data.day"), dedup="event")
class Board:
    """What went on at each airport, day by day."""

    @on("TripFlown")
    def flown(self, view: View, event: Event) -> None:
        self.diverted(view, event)
        delay = event.data["arr_delay"]
        destination = view.at("main", event.data["dest"], event.data["dest_day"])
        destination.add(arrivals=1, delay_minutes=max(delay, 0), delayed=1 if delay > LATE else 0)

    @on("TripDiverted")
    def diverted(self, view: View, event: Event) -> None:
        delay = event.data["dep_delay"]
        view.add(departures=1, delay_minutes=max(delay, 0), delayed=1 if delay > LATE else 0)
