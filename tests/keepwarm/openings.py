"""Visits of clients that turn something on, at a mail host that has much to turn on."""
AFTER = ("IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE UNSELECT NAMESPACE UIDPLUS CONDSTORE QRESYNC UTF8=ACCEPT "
         "LIST-STATUS STARTTLS AUTH=PLAIN")
PAGE = ["SELECT INBOX", "FETCH 1 BODY[]"]


def hold(client, commands):
    """The answers to commands, all bytes of them."""
    replies = []
    for command in commands:
        reply = client.command(command)
        assert reply.ok, f"{command!r} was answered {reply!r}"
        replies.append((reply.text, reply.tagged))
    return replies


def visit(system, commands, logout=True, **login):
    with system.session(**login) as client:
        replies = hold(client, commands)
        if logout:
            client.logout()
    return client.login_reply, replies


def visits(system, commands, times=11, **kwargs):
    results = []
    for _ in range(times):
        results.append(visit(system, commands, **kwargs))
        system.wait_given()
    return results
