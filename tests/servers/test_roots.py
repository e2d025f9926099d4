"""The main job in front of Cyrus and Courier, which run in roots of their own (tests/keepwarm/debroot.py)."""
import pytest

from keepwarm import courier, cyrus, process

MESSAGE = b"Subject: marker\r\n\r\nThis is the mail of <user1>.\r\n"


def append(client, mailbox="INBOX"):
    client.send(b"a0 APPEND %s {%d}\r\n" % (mailbox.encode(), len(MESSAGE)))
    client.expect(rb"\+ [^\r\n]*\r\n")
    client.send(MESSAGE + b"\r\n")
    assert client.reply("a0").ok


@pytest.fixture(params=[cyrus, courier], ids=["cyrus", "courier"])
def server(request):
    if request.param.missing():
        pytest.skip(request.param.missing())
    make = {cyrus: cyrus.Cyrus, courier: courier.Courier}
    server = make[request.param](2).start()
    yield server
    server.stop()
    assert not process.find(str(server.folder))


def test_the_next_login_takes_the_connection(make, server):
    system = make.system(server)
    for reused in (False, True, True):
        with system.session("user1", "secret1", reused=reused) as client:
            assert client.login_reply.capabilities[-1] == "XIMAPPROXY"
            client.ok("STATUS INBOX (MESSAGES)")
            append(client)
            client.logout()
        system.wait_given()
    with system.session("user2", "secret2", reused=False) as client:
        client.ok("SELECT INBOX")
        assert b"This is the mail of" not in client.ok("UID FETCH 1:* BODY.PEEK[]").text


def test_the_next_session_has_no_mailbox_selected(make, server):
    system = make.system(server)
    with system.session("user1", "secret1") as client:
        append(client)
        client.ok("SELECT INBOX")
        client.ok("STORE 1 +FLAGS (\\Deleted)")
        client.logout()
    with system.session("user1", "secret1") as client:
        assert not client.command("FETCH 1 UID").ok
        assert b"* 1 EXISTS\r\n" in client.ok("SELECT INBOX").untagged
        client.logout()


def test_a_wrong_password_is_refused_without_a_code_as_the_mail_host_does(make, server):
    system = make.system(server)
    with system.client() as client:
        assert client.login("user1", "wrong").tagged == b"NO LOGIN failed"
        assert client.login("user1", "secret1").ok
