"""What the rules ask for and Keepwarm does not do yet: the one list for test_spec_rows.py and test_spec_rules.py, and the
one for test_imapproxy.py.

Each of these must fail, and visibly (xfail): who closes a gap deletes its lines. None of them lets one session see
another's state; they cost reuse, a round trip or a login.
"""
import pytest

SELECTED = "a mailbox is selected"  # stands for all rows that leave one
NO_UNSELECT = "without UNSELECT a failed EXAMINE undoes both, never CLOSE"

# (row or test, server or None for each): reason
GAPS = {
    ("test_2_2_examine_without_unselect_is_undone_by_close", None): NO_UNSELECT,
}

# Conversations of tests/servers/imapproxy/ that have to go differently: reason
IMAPPROXY = {
}


def gap(server, *names):
    """The first of the names' reasons, or None."""
    return next((GAPS[name, each] for name in names for each in (server, None) if (name, each) in GAPS), None)


def must_fail(request, why):
    """With a reason, the running test must fail."""
    if why:
        request.applymarker(pytest.mark.xfail(reason=why, strict=True, raises=AssertionError))
