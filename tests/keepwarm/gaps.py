"""What the rules ask for and Keepwarm does not do yet: the one list for test_spec_rows.py and test_spec_rules.py, and the
one for test_imapproxy.py.

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
    ("test_2_5_a_mail_host_is_asked_for_its_list_once", None): "each backend login without the code asks for the list",
}

# Conversations of tests/servers/imapproxy/ that have to go differently: reason
ADMIN = "XPROXY_ commands do not exist yet"
LOG = "there is no protocol log yet"
SELECT = "there is no SELECT cache yet"
MASTER = "master logins are refused as a setting"
PREAUTH = "preauth_command is refused as a setting"
IMAPPROXY = {
    "XPROXY_VERSION": ADMIN,
    "XPROXY_TRACE": ADMIN,
    "XPROXY_TRACE with two names": ADMIN,
    "XPROXY_NEWLOG and XPROXY_RESETCOUNTERS": ADMIN,
    "XPROXY_DUMPICC": ADMIN,
    "XPROXY_DUMPICC of an empty pool": ADMIN,
    "the protocol log": LOG,
    "a user who is not traced is not in the protocol log": LOG,
    "the counters after XPROXY_RESETCOUNTERS": ADMIN,
    "hits of the SELECT cache are counted": SELECT,
    "a master login": MASTER,
    "a master login by other ways": MASTER,
    "a master login with the account's own password": MASTER,
    "a master login with another secret": MASTER,
    "a master login with no secret at all": MASTER,
    "a master login with a part of the secret": MASTER,
    "a command before the login": PREAUTH,
    "a command before the login that the mail host refuses": PREAUTH,
}


def gap(server, *names):
    """The first of the names' reasons, or None."""
    return next((GAPS[name, each] for name in names for each in (server, None) if (name, each) in GAPS), None)


def must_fail(request, why):
    """With a reason, the running test must fail."""
    if why:
        request.applymarker(pytest.mark.xfail(reason=why, strict=True, raises=AssertionError))
