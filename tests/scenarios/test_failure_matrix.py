"""Each program ended in each state of a session: kill -9 and SIGTERM of the broker, the listener and lookupd.

Whatever was killed: the session goes on, a login that waits succeeds, a new one works, each user sees their own mail,
no backend connection has two owners, and in the end processes and descriptors are as they were.
"""
import pytest

from keepwarm.failures import SIGNALS, STATES, VICTIMS, end_in_state


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", VICTIMS)
def test_the_session_goes_on_when_a_program_ends(make, name, number, state):
    backend = make.backend()
    system = make.system(backend, spare_processes="2 2", lookup_processes=1, connect_timeout=20)
    end_in_state(system, backend, name, number, state, proxyds=4)  # the listener, the nursery and two spares
