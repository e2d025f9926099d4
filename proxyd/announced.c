/* Clients that somebody in front of us announces.
 *
 * The addresses of a PROXY header take the place of the client's own. What a trusted client says
 * before login of whom it serves is only told on, never judged by.
 *
 * In the jail, like all bytes of clients. What stands behind the header belongs to TLS or IMAP, and
 * may have come with it: so bytes are looked at first (MSG_PEEK), and only those are taken of which
 * the parser says that they are the header's. All that was looked at in vain is its, so that no
 * wait ends at once for bytes that were seen before.
 */
#include "proxyd/announced.h"

#include <errno.h>
#include <sys/socket.h>

#include "lib/cidr.h"
#include "lib/clock.h"
#include "proxyd/io.h"
#include "proxyd/proxy_header.h"

#define HEADER_TIMEOUT 10 /* seconds: a proxy sends it at once */

bool announced_is_due(const struct session *s)
{
	return cidr_list_holds(s->settings->proxy_protocol_addresses, s->hello.client);
}

bool announced_permits(const struct session *s)
{
	return (!s->announced && announced_is_due(s)) ||
	       cidr_permits(s->settings->allow_addresses, s->settings->deny_addresses,
			    s->hello.client);
}

/* Waits for bytes, and for the end of the service. END_NONE or the end. */
static enum session_end wait_for_bytes(struct session *s, int64_t deadline)
{
	struct pollfd fds[] = { { .fd = s->client, .events = POLLIN },
				{ .fd = s->link.sock, .events = POLLIN } };
	int n = io_poll(fds, 2, deadline);

	if (n < 0)
		return n == -ECANCELED ? END_SHUTDOWN : END_INTERNAL;
	if (n == 0)
		return END_PROXY_HEADER;
	if (fds[1].revents && link_take_pushes(&s->link) < 0 && !s->link.ended &&
	    s->link.door < 0)
		return END_NO_BROKER;
	return s->link.ended ? session_told_to_end(s) : END_NONE;
}

static void take_addresses(struct session *s, const struct proxy_header *header)
{
	static char client[PROXY_ADDRESS_MAX], local[PROXY_ADDRESS_MAX];

	if (header->own)
		return;
	memcpy(client, header->client, sizeof(client));
	memcpy(local, header->local, sizeof(local));
	s->hello.client = span_str(client);
	s->hello.local = span_str(local);
	s->hello.client_port = header->client_port;
	s->hello.local_port = header->local_port;
	s->announced = true;
}

/* Looks at what has come behind what was taken already, and takes what is the header's. END_NONE,
 * then *ret_length is the header's length, or 0: it goes on. */
static enum session_end take_part(struct session *s, struct buf *taken,
				  struct proxy_header *header, size_t *ret_length)
{
	size_t room;
	char *tail = buf_tail(taken, &room);
	ssize_t n = recv(s->client, tail, room, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return END_NONE;
	if (n <= 0)
		return n < 0		? END_CLIENT_LOST
		       : taken->len > 0 ? END_PROXY_HEADER
					: END_CLIENT_CLOSED;
	struct span seen = { taken->data, taken->len + (size_t)n };
	int length = proxy_header_read(seen, header);

	if (length < 0)
		return END_PROXY_HEADER;
	size_t mine = length > 0 ? (size_t)length - taken->len : (size_t)n;

	if (recv(s->client, tail, mine, MSG_DONTWAIT) != (ssize_t)mine)
		return END_INTERNAL;
	buf_filled(taken, mine);
	*ret_length = (size_t)length;
	return END_NONE;
}

enum session_end announced_read(struct session *s)
{
	char bytes[PROXY_HEADER_MAX];
	struct buf taken = BUF_OVER(bytes);
	struct proxy_header header;
	uint32_t seconds = s->settings->login_timeout < HEADER_TIMEOUT ? s->settings->login_timeout
								       : HEADER_TIMEOUT;
	int64_t deadline = s->started + (int64_t)seconds * 1000;
	size_t length = 0;
	enum session_end end = END_NONE;

	while (end == END_NONE && length == 0) {
		end = take_part(s, &taken, &header, &length);
		if (end == END_NONE && length == 0)
			end = wait_for_bytes(s, deadline);
	}
	if (end == END_NONE)
		take_addresses(s, &header);
	return end;
}

bool announced_trusts(const struct session *s)
{
	return cidr_list_holds(s->settings->trusted_addresses, s->hello.client);
}

void announced_note(struct session *s, const struct caller_said *said)
{
	uint32_t hops = s->said.hops > said->hops ? s->said.hops : said->hops;

	if (said->address_length > 0 && announced_trusts(s))
		s->said = *said;
	s->said.hops = hops;
}

struct caller_facts announced_facts(const struct session *s)
{
	bool other = s->said.address_length > 0;

	return (struct caller_facts){
		.tell = s->backend.tells,
		.hops = s->said.hops,
		.client = other ? (struct span){ s->said.address, s->said.address_length }
				: s->hello.client,
		.client_port = other ? s->said.port : s->hello.client_port,
		.local = s->hello.local,
		.local_port = s->hello.local_port,
	};
}
