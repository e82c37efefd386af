"""From an event on a real Kafka to a webhook: the transactions of a real worker, a real consumer group."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Broker
from tests.integration.harness import site, wait_until
from tests.notify.test_push import changes, complaining, pushing, retry
from tests.receiver import Answer, receiving


@pytest.mark.kafka
def test_alerts_of_a_real_worker_are_pushed_and_refused_ones_can_be_sent_again(
    real_broker: Broker, tmp_path: Path
) -> None:
    with (
        site(real_broker.address, tmp_path, partitions=2, clock="event", policy="annual-spend") as here,
        receiving(answers=lambda body: Answer(422 if b'"bad"' in body else 200)) as receiver,
    ):
        here.start()
        with pushing(here, receiver.url) as push:
            wires = [one for customer_id in ("ada", "bad", "bob") for one in complaining(customer_id)]
            here.produce((one.pop("topic"), one) for one in wires)
            here.wait_until_drained(6)
            wait_until(lambda: len(receiver.requests) == 3, 60, push.logged)
            wait_until(lambda: "given up" in push.logged(), 60, push.logged)
            assert push.stop() == 0
        announced = {message.key().decode(): message.value() for message in here.read("alerts")}
        assert sorted(changes(receiver.taken)) == [("ada", "opened"), ("bob", "opened")]
        assert {json.loads(body)["customer_id"]: body for body in receiver.taken} == {
            customer_id: announced[customer_id] for customer_id in ("ada", "bob")
        }
        [undelivered] = here.read("undelivered")
        assert undelivered.value() == announced["bad"]
        receiver.answers = None
        assert retry(here, receiver.url) == "1 delivered, 0 given up, 0 passed over\n"
        assert retry(here, receiver.url) == "0 delivered, 0 given up, 0 passed over\n"
        assert receiver.taken[-1] == announced["bad"]
        with pushing(here, receiver.url) as push:
            assert push.stop() == 0
            assert "0 delivered, 0 given up" in push.logged()
