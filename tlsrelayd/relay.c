/* The state machine of one connection.
 *
 * Each direction is read only when all of what was read before has been taken by the other side, so
 * that one connection holds at most one record each way, and as much that is still sealed (bio.h).
 * The buffers are shared by all connections of the process; what the other side does not take is
 * copied into memory of its own, which goes again with the last byte. So an idle connection has
 * none.
 *
 * The ends: close_notify (or FIN without it, which is noted) becomes shutdown(SHUT_WR) of the plain
 * side behind the last byte; an end of the plain side becomes close_notify and shutdown(SHUT_WR) of
 * the TCP connection; the other direction goes on in both cases. A reset ends both, but behind what
 * the peer had said before: what is for it finds nobody any more, and is read away.
 *
 * Traps: OpenSSL must be called again with the same bytes after SSL_ERROR_WANT_WRITE; SSL_write()
 * wants to read as long as the peer owes the rest of a message of the handshake's kind; SSL_read()
 * goes on as long as the peer sends such messages, so its reads are numbered; it answers a
 * KeyUpdate when it finds the next one, and that is an error while another write is not done
 * (blocked()); SSL_shutdown() is one while the answer is not (pump_out()); a hang-up is
 * level-triggered and cannot be masked, so that a descriptor whose hang-up was seen is watched only
 * while it is waited for; bytes may still be there to be read behind a hang-up.
 */
#include "tlsrelayd/relay.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/fd.h"

#define RECORD 16384 /* RFC 8446 section 5.1 */
#define ROUNDS 8     /* then other connections have their turn */
#define READS  64    /* of the TCP connection: two for each record, of whatever kind */

static char from_tls[RECORD], from_plain[RECORD];

/* SSL_get_error() looks at the thread's list of errors, which must be empty before each call.
 * Clearing an empty one is not free: ERR_clear_error() visits all its places, and frees nothing 48
 * times. */
static void forget_errors(void)
{
	if (ERR_peek_error() != 0)
		ERR_clear_error();
}

static void drop_rest(struct relay_rest *rest)
{
	if (rest->data)
		explicit_bzero(rest->data, rest->off + rest->len);
	free(rest->data);
	*rest = (struct relay_rest){ 0 };
}

/* Copies what was not taken. Returns 0 or -ENOMEM. */
static int keep_rest(struct relay_rest *rest, const char *data, size_t n)
{
	if (n == 0)
		return 0;
	rest->data = malloc(n);
	if (!rest->data)
		return -ENOMEM;
	memcpy(rest->data, data, n);
	rest->off = 0;
	rest->len = n;
	return 0;
}

static void took_of_rest(struct relay_rest *rest, size_t n)
{
	rest->off += n;
	rest->len -= n;
	if (rest->len == 0)
		drop_rest(rest);
}

int relay_init(struct relay *r, SSL *ssl, int tcp, int plain, const char *peer, bool is_client,
	       bool starttls, uint32_t port)
{
	*r = (struct relay){
		.ssl = ssl,
		.tcp.fd = tcp,
		.plain = plain,
		.port = port,
		.is_client = is_client,
		.stage = is_client  ? RELAY_HELD
			 : starttls ? RELAY_STARTTLS
				    : RELAY_HANDSHAKE,
		.peer = strdup(peer),
		.dialogue = starttls ? calloc(1, sizeof(struct starttls)) : NULL,
	};
	BIO *bio = ssl ? bio_new(&r->tcp) : NULL;

	if (bio)
		SSL_set_bio(ssl, bio, bio);
	if (bio && r->peer && (!starttls || r->dialogue))
		return 0;
	relay_wipe(r);
	return -ENOMEM;
}

void relay_wipe(struct relay *r)
{
	SSL_free(r->ssl);
	r->ssl = NULL;
	bio_drop(&r->tcp);
	drop_rest(&r->to_plain);
	drop_rest(&r->to_tls);
	fd_drop(&r->tcp.fd);
	fd_drop(&r->plain);
	free(r->dialogue);
	free(r->peer);
	r->dialogue = NULL;
	r->peer = NULL;
	r->stage = RELAY_OVER;
}

/* --- before TLS ------------------------------------------------------------------------------- */

static enum relay_news fail(struct relay *r, enum msg_tls_failure reason, const char *sentence,
			    struct errors_text *failure)
{
	errors_say(failure, r->peer, reason, sentence);
	r->stage = RELAY_OVER;
	return RELAY_FAILED;
}

/* Who still has the connection may give it to another tlsrelayd, unless this one has read that it
 * was let go. */
static enum relay_news wait_for_it(struct relay *r, struct errors_text *failure)
{
	char word;
	ssize_t n;

	do
		n = recv(r->plain, &word, 1, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return RELAY_NOTHING;
	if (n != 1 || word != TLS_LET_GO)
		return fail(r, TLS_UNAVAILABLE, "nobody waits for it any more", failure);
	r->stage = RELAY_HANDSHAKE;
	return RELAY_NOTHING;
}

static enum relay_news refuse(struct relay *r, struct errors_text *failure)
{
	char text[200] = "refuses STARTTLS (server_tls): ";
	size_t have = strlen(text), n = r->dialogue->length;

	if (n > sizeof(text) - have - 1)
		n = sizeof(text) - have - 1;
	memcpy(text + have, r->dialogue->line, n);
	text[have + n] = '\0';
	return fail(r, TLS_REFUSED, text, failure);
}

/* The command is so short that a connection that has just been made takes it whole. */
static enum relay_news ask(struct relay *r, struct errors_text *failure)
{
	struct span s = starttls_command(r->dialogue);

	if (send(r->tcp.fd, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)s.n)
		return fail(r, TLS_HANDSHAKE, "ended the connection before TLS", failure);
	return RELAY_NOTHING;
}

static enum relay_news judge_dialogue(struct relay *r, enum starttls_verdict verdict,
				      struct errors_text *failure)
{
	switch (verdict) {
	case STARTTLS_MORE:
		return RELAY_NOTHING;
	case STARTTLS_ASK:
		return ask(r, failure);
	case STARTTLS_BEGIN:
		free(r->dialogue);
		r->dialogue = NULL;
		r->stage = RELAY_HANDSHAKE;
		return RELAY_NOTHING;
	case STARTTLS_REFUSED:
		return refuse(r, failure);
	case STARTTLS_PREAUTH:
		return fail(r, TLS_REFUSED,
			    "greets with PREAUTH, so there is no STARTTLS (server_tls)", failure);
	case STARTTLS_INJECTED:
		return fail(r, TLS_INJECTED,
			    "sent plain text where TLS has to begin: somebody is in between",
			    failure);
	default:
		return fail(r, TLS_REFUSED,
			    r->dialogue->pop3
				    ? "is no POP3 server that STLS can be said to (server_tls, "
				      "pop3_server_port)"
				    : "is no IMAP server that STARTTLS can be said to (server_tls, "
				      "server_port)",
			    failure);
	}
}

static enum relay_news converse(struct relay *r, struct errors_text *failure)
{
	while (r->stage == RELAY_STARTTLS) {
		char bytes[STARTTLS_LINE_MAX];
		ssize_t n = recv(r->tcp.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return RELAY_NOTHING;
		if (n <= 0)
			return fail(r, TLS_HANDSHAKE, "ended the connection before TLS", failure);
		enum relay_news news = judge_dialogue(
			r, starttls_take(r->dialogue, (struct span){ bytes, (size_t)n }), failure);

		if (news != RELAY_NOTHING)
			return news;
	}
	return RELAY_NOTHING;
}

static enum relay_news shake_hands(struct relay *r, struct errors_text *failure)
{
	forget_errors();
	int n = SSL_do_handshake(r->ssl);
	int error = n == 1 ? SSL_ERROR_NONE : SSL_get_error(r->ssl, n);

	r->write_waits = error == SSL_ERROR_WANT_WRITE;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return RELAY_NOTHING;
	if (error == SSL_ERROR_NONE) {
		r->stage = RELAY_OPEN;
		/* it is to return behind each message of the handshake's kind (blocked()) */
		(void)SSL_clear_mode(r->ssl, SSL_MODE_AUTO_RETRY);
		r->tcp.ahead = true;
		return RELAY_READY;
	}
	errors_of_handshake(r->ssl, r->peer, r->port, r->is_client, r->tcp.fin, r->tcp.error,
			    failure);
	r->stage = RELAY_OVER;
	return RELAY_FAILED;
}

/* --- from TLS to the plain side --------------------------------------------------------------- */

/* Gives data to the plain side. Returns how much it took; when it is gone, all of it. */
static size_t give_plain(struct relay *r, const char *data, size_t n)
{
	ssize_t sent;

	if (r->plain_hung)
		return n;
	do
		sent = send(r->plain, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return (size_t)sent;
	if (errno == EAGAIN)
		return 0;
	r->plain_hung = true;
	return n;
}

static bool flush_plain(struct relay *r)
{
	if (r->to_plain.len > 0)
		took_of_rest(&r->to_plain,
			     give_plain(r, r->to_plain.data + r->to_plain.off, r->to_plain.len));
	return r->to_plain.len == 0;
}

/* The peer has asked for new keys and what was written before is not taken yet: SSL_read() would
 * find the next such message and try to answer the last one in between. */
static bool blocked(const struct relay *r)
{
	return (r->to_tls.len > 0 || r->write_waits) &&
	       SSL_get_key_update_type(r->ssl) != SSL_KEY_UPDATE_NONE;
}

/* SSL_read() brought nothing. */
static enum relay_news stop_reading(struct relay *r, int error)
{
	r->read_waits = error == SSL_ERROR_WANT_WRITE;
	switch (error) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return RELAY_NOTHING;
	case SSL_ERROR_ZERO_RETURN:
		r->tls_ended = true;
		r->truncated = r->tcp.fin;
		return RELAY_NOTHING;
	default:
		return RELAY_BROKEN;
	}
}

static enum relay_news pump_in(struct relay *r)
{
	for (int i = 0; i < ROUNDS; i++) {
		if (!flush_plain(r) || r->tls_ended || blocked(r))
			break;
		forget_errors();
		int n = SSL_read(r->ssl, from_tls, sizeof(from_tls));

		if (n <= 0) {
			enum relay_news news = stop_reading(r, SSL_get_error(r->ssl, n));

			if (news != RELAY_NOTHING)
				return news;
			if (r->read_waits || r->tcp.rest.len == 0)
				break;
			continue;
		}
		r->read_waits = false;
		size_t taken = give_plain(r, from_tls, (size_t)n);
		int kept = keep_rest(&r->to_plain, from_tls + taken, (size_t)n - taken);

		explicit_bzero(from_tls, (size_t)n);
		if (kept < 0)
			return RELAY_BROKEN;
		if (r->tcp.empty && r->tcp.rest.len == 0)
			break;
	}
	if (r->tls_ended && !r->plain_shut && r->to_plain.len == 0) {
		(void)shutdown(r->plain, SHUT_WR);
		r->plain_shut = true;
	}
	return RELAY_NOTHING;
}

/* --- from the plain side to TLS --------------------------------------------------------------- */

/* Returns how much was taken (when the peer is gone, all of it), 0 when it must wait, -EPIPE when
 * TLS has failed. */
static int give_tls(struct relay *r, const char *data, size_t n)
{
	if (r->tcp.deaf) { /* SSL_read() will find the end behind what has come before */
		r->write_waits = false;
		return (int)n;
	}
	forget_errors();
	int sent = SSL_write(r->ssl, data, (int)n);
	int error = sent > 0 ? SSL_ERROR_NONE : SSL_get_error(r->ssl, sent);

	r->write_waits = error == SSL_ERROR_WANT_WRITE;
	if (sent > 0)
		return sent;
	return error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ ? 0 : -EPIPE;
}

static int flush_tls(struct relay *r)
{
	while (r->to_tls.len > 0) {
		int n = give_tls(r, r->to_tls.data + r->to_tls.off, r->to_tls.len);

		if (n <= 0)
			return n;
		took_of_rest(&r->to_tls, (size_t)n);
	}
	return 1;
}

/* close_notify, then FIN. In the middle of a message of the handshake's kind, whose rest may never
 * come, OpenSSL says none. */
static void say_end(struct relay *r)
{
	forget_errors();
	int n = SSL_shutdown(r->ssl);

	r->write_waits = n < 0 && SSL_get_error(r->ssl, n) == SSL_ERROR_WANT_WRITE;
	if (r->write_waits)
		return;
	(void)shutdown(r->tcp.fd, SHUT_WR);
	r->tls_shut = true;
}

/* Returns 1 when there may be more, 0 when not, -EPIPE when TLS has failed, -ENOMEM. */
static int take_plain(struct relay *r)
{
	ssize_t n = recv(r->plain, from_plain, sizeof(from_plain), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		/* a side that left with bytes unread is an end all the same */
		r->plain_ended = true;
		return 0;
	}
	int sent = give_tls(r, from_plain, (size_t)n);
	int kept = sent < 0 ? sent
			    : keep_rest(&r->to_tls, from_plain + sent, (size_t)n - (size_t)sent);

	explicit_bzero(from_plain, (size_t)n);
	if (kept < 0)
		return kept;
	/* less than there was room for is all there was: epoll says so when there is more */
	return n == sizeof(from_plain);
}

static enum relay_news pump_out(struct relay *r)
{
	if (r->read_waits)
		return RELAY_NOTHING; /* SSL_read() must do its write first */
	for (int i = 0; i < ROUNDS && !r->plain_ended; i++) {
		int n = flush_tls(r);

		if (n > 0)
			n = take_plain(r);
		if (n < 0)
			return RELAY_BROKEN;
		if (n == 0)
			break;
	}
	if (r->plain_ended && !r->tls_shut) {
		int n = flush_tls(r);

		if (n < 0)
			return RELAY_BROKEN;
		if (n > 0)
			say_end(r);
	}
	return RELAY_NOTHING;
}

/* --- both ------------------------------------------------------------------------------------- */

/* A direction that the events say nothing new of is left alone: each try is a call in vain. */
static enum relay_news pump(struct relay *r, uint32_t tcp_events, uint32_t plain_events)
{
	bool only_out = plain_events == EPOLLIN && tcp_events == 0;
	bool only_in =
		tcp_events == EPOLLIN && plain_events == 0 && r->to_tls.len == 0 && !r->plain_ended;
	enum relay_news in = only_out ? RELAY_NOTHING : pump_in(r), out = RELAY_NOTHING;

	if (in == RELAY_NOTHING && !only_in)
		out = pump_out(r);
	if (in == RELAY_NOTHING && out == RELAY_NOTHING) {
		bool in_done = r->plain_shut || (r->plain_hung && r->tls_ended);

		if (in_done && r->tls_shut)
			out = RELAY_ENDED;
		/* the peer has said its last word and can hear no more */
		else if (in_done && r->tcp_hung)
			out = RELAY_ENDED;
	}
	if (in != RELAY_NOTHING || out != RELAY_NOTHING)
		r->stage = RELAY_OVER;
	return in != RELAY_NOTHING ? in : out;
}

enum relay_news relay_step(struct relay *r, uint32_t tcp_events, uint32_t plain_events,
			   struct errors_text *failure)
{
	enum relay_news news = RELAY_NOTHING;

	r->plain_hung = r->plain_hung || (plain_events & (EPOLLHUP | EPOLLERR));
	r->tcp_hung = r->tcp_hung || (tcp_events & (EPOLLHUP | EPOLLERR));
	if (r->plain_hung && r->stage < RELAY_OPEN)
		return fail(r, TLS_UNAVAILABLE, "nobody waits for it any more", failure);
	bio_begin_step(&r->tcp, READS);
	if (r->stage == RELAY_HELD)
		news = wait_for_it(r, failure);
	if (r->stage == RELAY_STARTTLS)
		news = converse(r, failure);
	if (r->stage == RELAY_HANDSHAKE)
		news = shake_hands(r, failure);
	else if (r->stage == RELAY_OPEN)
		news = pump(r, tcp_events, plain_events);
	if (bio_end_step(&r->tcp) < 0 && news == RELAY_NOTHING) {
		r->stage = RELAY_OVER;
		news = RELAY_BROKEN;
	}
	return news;
}

void relay_wants(const struct relay *r, struct relay_wants *ret)
{
	*ret = (struct relay_wants){ 0 };
	if (r->stage < RELAY_OPEN) {
		ret->tcp = r->write_waits ? EPOLLOUT : EPOLLIN;
		ret->watch_tcp = r->stage != RELAY_HELD;
		ret->plain = r->stage == RELAY_HELD ? EPOLLIN : 0;
		ret->watch_plain = !r->plain_hung;
		return;
	}
	bool is_blocked = blocked(r);

	if (r->to_plain.len > 0)
		ret->plain |= r->plain_hung ? 0 : EPOLLOUT;
	else if (!r->tls_ended && !is_blocked)
		ret->tcp |= r->read_waits ? EPOLLOUT : EPOLLIN;
	/* what was read ahead is no event: the other side's readiness to take it is one, or its
	 * hang-up */
	if (r->to_plain.len == 0 && r->tcp.rest.len > 0 && !r->tls_ended && !r->read_waits &&
	    !is_blocked)
		ret->plain |= EPOLLOUT;
	if (r->write_waits)
		ret->tcp |= EPOLLOUT;
	else if (!r->plain_ended && r->to_tls.len == 0 && !r->read_waits)
		ret->plain |= EPOLLIN;
	ret->watch_tcp = ret->tcp || !r->tcp_hung;
	ret->watch_plain = ret->plain || !r->plain_hung;
}

void relay_facts(const struct relay *r, struct relay_facts *ret)
{
	const char *name = SSL_get_servername(r->ssl, TLSEXT_NAMETYPE_host_name);

	*ret = (struct relay_facts){
		.resumed = SSL_session_reused(r->ssl),
		.version = SSL_get_version(r->ssl),
		.cipher = SSL_get_cipher_name(r->ssl),
		.name = name && r->is_client ? name : "",
	};
}
