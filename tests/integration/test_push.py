"""From an event on a real Kafka to a webhook: a real worker's transactions, a real consumer group."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Broker
from tests.integration.harness import site, wait_until
from tests.notify.test_push import changes, complaining, pushing, retry
from tests.receiver import Answer, receiving


@pytest.mark.kafka
def test_what_a_worker_announces_in_transactions_comes_to_the_receiver_and_what_it_refuses_can_be_sent_again(
    real_broker: Broker, tmp_path: Path
) -> None:
    with (
        site(real_broker.address, tmp_path, partitions=2, clock="event", policy="annual-spend") as here,
        receiving(answers=lambda body: Answer(422 if b'"bad"' in body else 200)) as receiver,
    ):
        here.start()
        with pushing(here, receiver.url) as push:
            wires = [one for who in ("ada", "bad", "bob") for one in complaining(who)]
            here.produce((one.pop("topic"), one) for one in wires)
            here.wait_until_drained(6)
            wait_until(lambda: len(receiver.requests) == 3, 60, push.said)
            wait_until(lambda: "given up" in push.said(), 60, push.said)
            assert push.stop() == 0
        announced = {message.key().decode(): message.value() for message in here.read("alerts")}
        assert sorted(changes(receiver.taken)) == [("ada", "opened"), ("bob", "opened")]
        assert {json.loads(body)["customer_id"]: body for body in receiver.taken} == {
            who: announced[who] for who in ("ada", "bob")
        }
        [letter] = here.read("undelivered")
        assert letter.value() == announced["bad"]
        receiver.answers = None
        assert retry(here, receiver.url) == "1 delivered, 0 given up, 0 passed over\n"
        assert retry(here, receiver.url) == "0 delivered, 0 given up, 0 passed over\n"
        assert receiver.taken[-1] == announced["bad"]
        with pushing(here, receiver.url) as push:
            assert push.stop() == 0
            assert "0 delivered, 0 given up" in push.said()
