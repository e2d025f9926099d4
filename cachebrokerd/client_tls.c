/* A session's TLS with its client: its TCP connection goes to tlsrelayd, the stream inside comes
 * back, and what tlsrelayd says of it stands in the session's row of the state file.
 *
 * It may ask once, and once more if tlsrelayd died before it began, and before its login: a process
 * that was taken over cannot use up tlsrelayd's room, also not over one socket after the other.
 * Which client it is says the broker, not the session.
 */
#include "cachebrokerd/client_tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cachebrokerd/tls.h"

/* Nothing but what TLS may come over. */
static bool is_tcp(int fd)
{
	int domain = 0, protocol = 0;
	socklen_t n = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0)
		return false;
	n = sizeof(protocol);
	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n) == 0 &&
	       (domain == AF_INET || domain == AF_INET6) && protocol == IPPROTO_TCP;
}

/* "TLSv1.3 TLS_AES_256_GCM_SHA384 mail.example.org" */
static void keep_facts(struct client *c, const struct msg_TLS_READY *ready)
{
	size_t n = ready->version.n + ready->cipher.n + ready->name.n + 3;

	c->tls = malloc(n);
	if (c->tls)
		(void)snprintf(c->tls, n, "%.*s %.*s %.*s", (int)ready->version.n, ready->version.p,
			       (int)ready->cipher.n, ready->cipher.p, (int)ready->name.n,
			       ready->name.p);
	if (ready->identity.n > 0)
		c->identity = strndup(ready->identity.p, ready->identity.n);
}

bool client_certified(const struct client *c, struct span *ret)
{
	if (!c->identity)
		return false;
	*ret = span_str(c->identity);
	return true;
}

/* Nobody has touched the connection. */
static bool may_ask_again(const struct msg *m)
{
	return m->type == MSG_TLS_FAILED &&
	       (m->TLS_FAILED.reason == TLS_UNWATCHED || m->TLS_FAILED.reason == TLS_LOST);
}

static void on_answer(void *context, const struct msg *answer, int *fd)
{
	static const struct msg died = { .type = MSG_TLS_FAILED,
					 .TLS_FAILED = { .reason = TLS_UNWATCHED,
							 .text = { "tlsrelayd broke off", 19 } } };
	struct client *c = context;
	struct msg m = answer ? *answer : died;

	if (m.type == MSG_TLS_BEGUN) {
		c->tls_begun = true;
		m.serial = 0;
		(void)peer_send(c->peer, &m, *fd);
		return;
	}
	c->handshake = NULL;
	c->state = CLIENT_READY;
	c->tls_asked = c->tls_begun || !may_ask_again(&m);
	m.serial = c->tls_serial;
	if (m.type == MSG_TLS_READY)
		keep_facts(c, &m.TLS_READY);
	(void)peer_send(c->peer, &m, *fd);
}

static void refuse(struct client *c, const char *text)
{
	const struct msg m = { .type = MSG_TLS_FAILED,
			       .serial = c->tls_serial,
			       .TLS_FAILED = { .reason = TLS_UNAVAILABLE,
					       .text = span_str(text) } };

	(void)peer_send(c->peer, &m, -1);
}

int client_on_tls_accept(struct client *c, const struct msg *m, int *fd)
{
	const struct msg request = { .type = MSG_TLS_ACCEPT,
				     .TLS_ACCEPT = { .service = c->service,
						     .client = span_str(c->origin) } };

	if (m->serial == 0 || c->tls_asked || c->bound || m->TLS_ACCEPT.service != c->service)
		return -EPROTO;
	if (!is_tcp(*fd))
		return -EBADF;
	/* a handshake that it has left would go on for its whole time */
	if (tries_did(c->broker->tries, &c->visit, TRIES_TLS) &&
	    tries_did(c->broker->tries, &c->visit, TRIES_TLS_AGAIN))
		return -EPROTO;
	c->tls_asked = true;
	c->identity_of = c->broker->settled_at;
	c->tls_serial = m->serial;
	if (tls_ask(c->broker, &request, fd, on_answer, c, &c->handshake) < 0)
		refuse(c, "too many wait for tlsrelayd");
	else
		c->state = CLIENT_SECURING;
	return 0;
}

void client_leave_tls(struct client *c)
{
	tls_forget(&c->handshake);
	free(c->tls);
	free(c->identity);
	c->tls = c->identity = NULL;
}
