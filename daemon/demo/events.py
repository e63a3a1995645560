"""How the demonstration tells a flight: as events, each one line of JSON.

Owns the shape of both logs' events. Must not know shards, files or duplicates, nor anything of the daemon.

- `flights`: CloudEvents, structured. FlightScheduled (24 hours ahead), then FlightDeparted or FlightCancelled, then
  FlightLanded or FlightDiverted; `data.seq` counts them from 1.
- `movements`: plain JSON, one TripFlown or TripDiverted per flight that left, told when it was over: its movements at
  the airports where it left and where it was to land. `day` and `dest_day` are the local days on which they were to
  happen, so that an airport's board holds what its passengers expected to see there.

Made up, since the data does not tell: the fare (39.90 and 12.5 cents a mile, half a cent rounded up), the time of a
landing (the air time after the departure: no taxiing) and of a diversion (four hours after it). Times in `data` are
local to the airport concerned and name no zone; `time` and `at` are UTC.

Invariant: every value is a number, null, or letters, digits and `-:/`, so that no line needs escaping.
"""

from collections.abc import Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

from daemon.demo.flights import DAY, Flight

type Timed = tuple[int, str]
"""When something happened, in minutes since 1970 in UTC, and the line that tells it."""

BASE_FARE = Decimal("39.90")
FARE_PER_MILE = Decimal("0.125")
_CENT = Decimal("0.01")
_UNTIL_DIVERTED = 240
TRIP = "/trip"
"""What a trip's id adds to the flight's."""

_EPOCH = date(1970, 1, 1).toordinal()
_CLOCKS = [f"T{minute // 60:02}:{minute % 60:02}" for minute in range(DAY)]
_CLOUD_EVENT = '{"specversion":"1.0","source":"/nyc/flights","type":'


class _Times(dict[int, str]):
    """A minute since 1970 as text, such as `2013-01-01T05:15`: a year has half a million, told three million times."""

    def __missing__(self, minute: int) -> str:
        text = self[minute] = _day(minute // DAY) + _CLOCKS[minute % DAY]
        return text


@cache
def _day(number: int) -> str:
    return date.fromordinal(_EPOCH + number).isoformat()


_TIME = _Times()


@cache
def fare(miles: int) -> Decimal:
    """Return the fare of a flight of so many miles, with two decimals."""
    return (BASE_FARE + miles * FARE_PER_MILE).quantize(_CENT, ROUND_HALF_UP)


def flight_events(flight: Flight) -> Iterator[Timed]:
    """Yield a flight's events of the log `flights`, in their order."""
    flight_id, local = flight.flight_id, _TIME[flight.sched_dep]
    data = f'"data":{{"flight_id":"{flight_id}","carrier":"{flight.carrier}","month":"{local[:7]}","seq"'
    subject = f'"subject":"{flight_id}",{data}'

    announced = flight.scheduled - DAY
    tailnum = "null" if flight.tailnum is None else f'"{flight.tailnum}"'
    line = (
        f'{_CLOUD_EVENT}"FlightScheduled","id":"{flight_id}/1","time":"{_TIME[announced]}:00Z",{subject}:1,'
        f'"flight":{flight.flight},"tailnum":{tailnum},"origin":"{flight.origin}","dest":"{flight.dest}",'
        f'"sched_dep":"{local}","sched_arr":"{_TIME[flight.sched_arr]}",'
        f'"distance":{flight.distance},"fare":{fare(flight.distance)}}}}}\n'
    )
    yield announced, line

    late = flight.dep_delay
    if late is None:
        at = flight.scheduled
        yield at, f'{_CLOUD_EVENT}"FlightCancelled","id":"{flight_id}/2","time":"{_TIME[at]}:00Z",{subject}:2}}}}\n'
        return
    departed = flight.scheduled + late
    line = (
        f'{_CLOUD_EVENT}"FlightDeparted","id":"{flight_id}/2","time":"{_TIME[departed]}:00Z",{subject}:2,'
        f'"dep_time":"{_TIME[flight.sched_dep + late]}","dep_delay":{late}}}}}\n'
    )
    yield departed, line

    if flight.arr_delay is None or flight.air_time is None:
        at = departed + _UNTIL_DIVERTED
        yield at, f'{_CLOUD_EVENT}"FlightDiverted","id":"{flight_id}/3","time":"{_TIME[at]}:00Z",{subject}:3}}}}\n'
        return
    landed = departed + flight.air_time
    line = (
        f'{_CLOUD_EVENT}"FlightLanded","id":"{flight_id}/3","time":"{_TIME[landed]}:00Z",{subject}:3,'
        f'"arr_time":"{_TIME[flight.sched_arr + flight.arr_delay]}","arr_delay":{flight.arr_delay},'
        f'"air_time":{flight.air_time}}}}}\n'
    )
    yield landed, line


def trip(flight: Flight) -> Timed | None:
    """Return a flight's event of the log `movements`; None when it was cancelled."""
    late = flight.dep_delay
    if late is None:
        return None
    at = flight.scheduled + late
    if flight.arr_delay is None or flight.air_time is None:
        kind, at, reached = "TripDiverted", at + _UNTIL_DIVERTED, ""
    else:
        kind, at = "TripFlown", at + flight.air_time
        day = _TIME[flight.sched_arr][:10]
        reached = f'"dest":"{flight.dest}","dest_day":"{day}","arr_delay":{flight.arr_delay},'
    return at, (
        f'{{"event_id":"{flight.flight_id}{TRIP}","kind":"{kind}","at":"{_TIME[at]}:00Z","carrier":"{flight.carrier}",'
        f'"origin":"{flight.origin}","day":"{_TIME[flight.sched_dep][:10]}","dep_delay":{late},{reached}'
        f'"flight":{flight.flight}}}\n'
    )
