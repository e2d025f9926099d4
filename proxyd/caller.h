/* Who is calling, as one proxy or webmail tells the next before login: Dovecot's fields of ID
 * (x-originating-ip ...) with IMAP, XCLIENT with POP3. Pure.
 */
#ifndef PROXYD_CALLER_H
#define PROXYD_CALLER_H

#include "lib/buf.h"

#define CALLER_ADDRESS_MAX 45	/* bytes of an address as text */
#define CALLER_OUT_MAX	   300 /* bytes that caller_add_id() and caller_add_xclient() may take */

/* What a client says of whom it serves. */
struct caller_said {
	uint32_t hops; /* how many proxies it says there were; 0: nothing */
	uint32_t port; /* 0: not said */
	size_t address_length;
	char address[CALLER_ADDRESS_MAX]; /* is one */
};

/* What the next one is told. */
struct caller_facts {
	bool tell;     /* addresses, too; else only how many proxies there were, */
	uint32_t hops; /* before us */
	uint32_t client_port, local_port;
	struct span client, local;
};

/* Reads an ID list that imap_read_id() made. Appends it to out without the fields that are a
 * proxy's to say: a client must not say them of itself to a mail host that trusts us. 0, or
 * -ENOBUFS, and *ret is valid all the same. */
int caller_read_id(struct span list, struct caller_said *ret, struct buf *out);

/* Appends the arguments of ID. 0 or -ENOBUFS. */
int caller_add_id(const struct caller_facts *f, struct buf *out);

/* Reads the arguments of XCLIENT; what is not known, or makes no sense, is ignored. */
void caller_read_xclient(struct span args, struct caller_said *ret);

/* Appends the command XCLIENT with CRLF; `tell` as in the facts, but only if `addresses`, too. 0 or
 * -ENOBUFS. */
int caller_add_xclient(const struct caller_facts *f, bool addresses, struct buf *out);

#endif
