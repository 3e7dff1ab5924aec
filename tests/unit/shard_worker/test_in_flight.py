"""What a partition has in flight: counted once when it is delivered, and once when it is acknowledged."""

from hypothesis import given
from hypothesis import strategies as st

from regather.core.crash_attribution import Attribution, CrashTracker
from regather.core.watermark import Watermark
from regather.transport.base import Record, TopicPartition
from regather_worker.in_flight import Delivery, InFlight

TP = TopicPartition("shards.small", 0)


@given(st.lists(st.integers(0, 20), max_size=20), st.data())
def test_the_open_bytes_are_those_of_the_open_records_however_often_each_is_acked(
    sizes: list[int], data: st.DataObject
) -> None:
    in_flight = InFlight(TP, Watermark(), CrashTracker("here", Attribution(), end=0))
    deliveries = []
    for offset, size in enumerate(sizes):
        record = Record(*TP, offset, 0, None, b"x" * size, [])
        assert in_flight.deliver(record)
        deliveries.append(Delivery(in_flight, record))
    acked = data.draw(st.lists(st.sampled_from(deliveries), max_size=40)) if deliveries else []
    for delivery in acked:
        delivery.ack()
    still_open = [delivery for delivery in deliveries if delivery not in acked]
    assert in_flight.watermark.open_count == len(still_open)
    assert in_flight.open_bytes == sum(len(delivery.record.value or b"") for delivery in still_open)
