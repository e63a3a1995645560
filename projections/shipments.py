"""Two sources, one row: what the warehouse and the carrier say about a shipment.

Each source numbers its own events of a shipment; the row keeps both numbers (a version vector), so a repetition from
either is stopped. The two logs reach the daemon in any order relative to each other. Therefore each source writes
attributes of its own, and none is derived from both: the row is the same whichever log is ahead.
"""

from daemon.api import Event, View, on, projection


@projection(
    name="shipments",
    version=1,
    source=("warehouse", "carrier"),
    key="data.shipment_id",
    dedup="sequence",
    sequence="data.seq",
    sequence_start=1,
)
class Shipments:
    """Where each shipment is."""

    @on("ShipmentPacked")
    def packed(self, view: View, event: Event) -> None:
        view.patch(boxes=event.data["boxes"], weight_kg=event.data["weight_kg"], packed_at=event.time)

    @on("ShipmentHandedOver")
    def handed_over(self, view: View, event: Event) -> None:
        view.patch(handed_over_at=event.time)

    @on("ParcelScanned")
    def scanned(self, view: View, event: Event) -> None:
        view.patch(last_seen=event.data["place"])
        view.add(scans=1)

    @on("ParcelDelivered")
    def delivered(self, view: View, event: Event) -> None:
        view.patch(delivered_at=event.time, signed_by=event.data["signed_by"])
