/* One connection: TLS on one side, the stream of what is inside on the other.
 *
 * It knows nothing of an event loop: relay_step() does what can be done without waiting, then
 * relay_wants() says what to wait for.
 */
#ifndef TLSRELAYD_RELAY_H
#define TLSRELAYD_RELAY_H

#include "lib/span.h"
#include "tlsrelayd/bio.h"
#include "tlsrelayd/errors.h"
#include "tlsrelayd/starttls.h"

struct ssl_st;

enum relay_stage {
	RELAY_HELD,	/* the session may still have the client's connection */
	RELAY_STARTTLS, /* plain dialogue with a mail host */
	RELAY_HANDSHAKE,
	RELAY_OPEN,
	RELAY_OVER,
};

/* What a step brought. */
enum relay_news {
	RELAY_NOTHING,
	RELAY_READY,  /* the handshake is done: relay_facts() */
	RELAY_FAILED, /* there was none; the connection is to be closed */
	RELAY_ENDED,  /* both directions have ended in order */
	RELAY_BROKEN, /* reset, or not TLS any more: `error` of the connection's end may say more */
};

/* Bytes that the other side does not take yet. */
struct relay_rest {
	char *data;
	size_t off, len;
};

struct relay {
	struct ssl_st *ssl;
	struct bio_end tcp;
	int plain;
	enum relay_stage stage;
	uint32_t port;
	bool is_client;
	bool read_waits;  /* SSL_read() must write first */
	bool write_waits; /* what SSL_write() and SSL_shutdown() began must be taken */
	bool tls_ended;	  /* the peer says no more: close_notify, or truncated */
	bool truncated;
	bool plain_shut;  /* and our side knows */
	bool plain_ended; /* our side says no more */
	bool tls_shut;	  /* and the peer knows */
	bool plain_hung;  /* our side is gone: nobody reads what the peer says */
	bool tcp_hung;
	struct relay_rest to_plain, to_tls;
	struct starttls *dialogue;
	char *peer; /* whose connection it is, for people: a host's name, a client's address */
};

/* What to wait for: epoll's events, and whether to watch the descriptor at all (a hang-up is
 * reported without being asked for). */
struct relay_wants {
	uint32_t tcp, plain;
	bool watch_tcp, watch_plain;
};

/* Begins. Takes over ssl, both descriptors; peer is copied. A client's connection is left alone
 * until TLS_LET_GO comes from the plain side. With `starttls` the plain dialogue comes first. 0 or
 * -ENOMEM; then everything is closed. */
int relay_init(struct relay *r, struct ssl_st *ssl, int tcp, int plain, const char *peer,
	       bool is_client, bool starttls, uint32_t port);

/* Closes everything, overwrites what was still in memory. */
void relay_wipe(struct relay *r);

/* Goes on, as these events of epoll say. *failure is set with RELAY_FAILED. */
enum relay_news relay_step(struct relay *r, uint32_t tcp_events, uint32_t plain_events,
			   struct errors_text *failure);

void relay_wants(const struct relay *r, struct relay_wants *ret);

/* Of a finished handshake; the texts are valid as long as the connection. */
struct relay_facts {
	bool resumed;
	const char *version, *cipher, *name;
};
void relay_facts(const struct relay *r, struct relay_facts *ret);

#endif
