"""When several processes stop: what JAX has agreed on, and a notice that came before it could be."""

import threading

import pytest

from mmjax.peers import Peers
from mmjax.training.signals import StopSignals
from tests.helpers.store import Store

NOTICE = "RECEIVED_PREEMPTION_NOTICE"


@pytest.mark.parametrize(("early", "agreed", "stops"), [(False, 7, 7), (False, None, None), (True, 1, 6), (True, 6, 6)])
def test_all_stop_after_the_same_step(early, agreed, stops):
    """Of a run that goes on from step 5. With a notice before it began, JAX may have agreed on step 1."""
    store, found = Store(), {}
    if early:
        store.key_value_set(NOTICE, "2026-11-30T15:32:20")

    def one(number):
        peers = Peers(store, number, 2, "127.0.0.1:9", "run")
        with StopSignals(peers, lambda step: step == agreed, 5) as stop:
            found[number] = next((step for step in range(6, 10) if stop.after(step)), None)

    threads = [threading.Thread(target=one, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == {0: stops, 1: stops}
