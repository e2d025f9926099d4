"""What the rules ask for and Keepwarm does not do yet: the one list for test_spec_rows.py and test_spec_rules.py.

Each of these must fail, and visibly (xfail): who closes a gap deletes its lines. None of them lets one session see
another's state; they cost reuse, a round trip or a login.
"""
import pytest

SELECTED = "a mailbox is selected"  # stands for all rows that leave one
CAPABILITY = "CAPABILITY within a session is asked of the mail host; only its answer is filtered"
NO_UNSELECT = "without UNSELECT a failed EXAMINE undoes both, never CLOSE"
VERB = "the verb is not in proxyd/verbs.h, so the connection is never given back"

# (row or test, server or None for each): reason
GAPS = {
    ("test_2_2_examine_without_unselect_is_undone_by_close", None): NO_UNSELECT,
    ("test_2_2_harmless[UIDBATCHES]", None): VERB,
    ("test_2_2_harmless[XAPPLEPUSHSERVICE]", None): VERB,
    ("test_2_2_harmless[URLAUTH RESETKEY]", None): VERB,
    ("test_2_2_harmless[JMAPACCESS]", None): VERB,
    ("test_2_2_not_offered[UIDONLY]", None): "it is not among the hidden words",
    ("test_2_5_the_clients_own_capability_is_answered_by_the_proxy", None): CAPABILITY,
}


def gap(server, *names):
    """The first of the names' reasons, or None."""
    return next((GAPS[name, each] for name in names for each in (server, None) if (name, each) in GAPS), None)


def must_fail(request, why):
    """With a reason, the running test must fail."""
    if why:
        request.applymarker(pytest.mark.xfail(reason=why, strict=True, raises=AssertionError))
