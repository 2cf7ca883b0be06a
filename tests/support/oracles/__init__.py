"""What must hold of a cluster whatever fails: the oracles of the fault matrix (tests/faults), for any test.

They judge two records. `history.History` has every change of a namespace in the order of etcd; `recording` fills one from watches
that bypass the operator, and anything that simulates an API server can fill one with `add`. The other record is the list of
requests of `faultproxy.FaultProxy`.

    async with recording(live) as history:
        ...                                 # an operator, a workload, a fault
        await history.caught_up(live)
        assert violations(history, proxy.requests) == []
        assert differences(reference, await end_state(live)) == []

An oracle returns the violations as texts, or the worst figure.
`invariants` has those of a history and of requests, `end_state` compares two runs.
"""

from support.oracles.end_state import differences, end_state, masked, write_counts
from support.oracles.history import Change, History, recording
from support.oracles.invariants import violations

__all__ = ["Change", "History", "differences", "end_state", "masked", "recording", "violations", "write_counts"]
