"""Lifecycle: one row per flight, written whole by each step of its life.

Every event carries the flight's own number, 1 upwards, kept in the row: a step that comes twice, or late, is stopped
however old it is, and a step that is missing parks the flight instead of corrupting it.
"""

from daemon.api import Event, View, on, projection


@projection(
    name="flight",
    version=1,
    source="flights",
    key="data.flight_id",
    dedup="sequence",
    sequence="data.seq",
    sequence_start=1,
)
class FlightLife:
    """Where each flight stands."""

    @on("FlightScheduled")
    def scheduled(self, view: View, event: Event) -> None:
        data = event.data
        view.put(
            status="scheduled",
            carrier=data["carrier"],
            flight=data["flight"],
            tailnum=data["tailnum"],
            origin=data["origin"],
            dest=data["dest"],
            sched_dep=data["sched_dep"],
            sched_arr=data["sched_arr"],
            distance=data["distance"],
            fare=data["fare"],
        )

    @on("FlightDeparted")
    def departed(self, view: View, event: Event) -> None:
        data = event.data
        view.patch(status="departed", dep_time=data["dep_time"], dep_delay=data["dep_delay"])

    @on("FlightLanded")
    def landed(self, view: View, event: Event) -> None:
        data = event.data
        view.patch(
            status="landed", arr_time=data["arr_time"], arr_delay=data["arr_delay"], air_time=data["air_time"]
        )  # fmt: skip

    @on("FlightCancelled")
    def cancelled(self, view: View, event: Event) -> None:
        view.patch(status="cancelled")

    @on("FlightDiverted")
    def diverted(self, view: View, event: Event) -> None:
        view.patch(status="diverted")
