"""Counters with packed markers: one row per carrier and month.

The flights of one carrier lie in several shards, so the row is only ever added to: additions commute, and no shard
waits for another. Markers are packed per shard, since a flight's events never change theirs.
"""

from daemon.api import Event, View, on, projection

LATE = 15
"""Minutes after which a flight counts as late."""


@projection(name="punctuality", version=1, source="flights", key=("data.carrier", "data.month"), dedup="shard")
class Punctuality:
    """How punctual each carrier was, month by month."""

    @on("FlightScheduled")
    def scheduled(self, view: View, event: Event) -> None:
        view.add(scheduled=1, fares=event.data["fare"])

    @on("FlightDeparted")
    def departed(self, view: View, event: Event) -> None:
        delay = event.data["dep_delay"] or 0
        view.add(departed=1, dep_delay_minutes=delay, late_departures=1 if delay > LATE else 0)

    @on("FlightLanded")
    def landed(self, view: View, event: Event) -> None:
        delay = event.data["arr_delay"] or 0
        view.add(landed=1, arr_delay_minutes=delay, late_arrivals=1 if delay > LATE else 0)

    @on("FlightCancelled")
    def cancelled(self, view: View, event: Event) -> None:
        view.add(cancelled=1)

    @on("FlightDiverted")
    def diverted(self, view: View, event: Event) -> None:
        view.add(diverted=1)
