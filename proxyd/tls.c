/* TLS with the client.
 *
 * The TCP connection goes to tlsrelayd through the broker. Whoever of the two dies meanwhile, it is
 * still here, and the next one is asked. When the stream inside comes it is put where the TCP
 * connection stood, since the jail knows the client by its descriptor's number; so no copy is left,
 * and the connection's end reaches the client when tlsrelayd ends it. Only then the worker is told
 * to begin, on the stream itself: two of them never speak TLS with one client.
 */
#include "proxyd/tls.h"

#include <errno.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cidr.h"
#include "lib/fd.h"
#include "lib/kv.h"
#include "lib/sasl.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"

#define VERSION_MAX 32
#define CIPHER_MAX  64
#define TEXT_MAX    300
#define ASKED_MOST  3 /* brokers and tlsrelayds may die one after the other, */
#define OF_ONE_MOST 2 /* but a broker is asked once more only: the third time it cuts us off */

/* For the log line. Among the other small variables: a session without TLS touches none of it. */
static struct {
	size_t version_length, cipher_length, text_length;
	char version[VERSION_MAX];
	char cipher[CIPHER_MAX];
	char text[TEXT_MAX]; /* the name that the client asked for; after a failure why */
	bool failed;
	size_t identity_length;
	char identity[SESSION_USER_MAX];
} facts;

static void keep(struct span from, char *to, size_t cap, size_t *length)
{
	*length = from.n < cap ? from.n : cap;
	memcpy(to, from.p, *length);
}

static enum session_end note_failure(const struct msg *reply)
{
	if (reply->type != MSG_TLS_FAILED)
		return END_INTERNAL;
	facts.failed = true;
	keep(reply->TLS_FAILED.text, facts.text, sizeof(facts.text), &facts.text_length);
	switch (reply->TLS_FAILED.reason) {
	case TLS_UNAVAILABLE:
	case TLS_LOST:
	case TLS_UNWATCHED:
		return END_TLS_UNAVAILABLE;
	default:
		return END_TLS_FAILED;
	}
}

/* The client's word before any login, in a line that a site's filter reads (log_format imapproxy):
 * what no host name has is a question mark. */
static void keep_name(struct span name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789.-_";

	keep(name, facts.text, sizeof(facts.text), &facts.text_length);
	for (size_t i = 0; i < facts.text_length; i++)
		if (!memchr(allowed, facts.text[i], sizeof(allowed) - 1))
			facts.text[i] = '?';
}

static void note_success(const struct msg_TLS_READY *m)
{
	keep(m->version, facts.version, sizeof(facts.version), &facts.version_length);
	keep(m->cipher, facts.cipher, sizeof(facts.cipher), &facts.cipher_length);
	keep_name(m->name);
	if (m->identity.n <= sizeof(facts.identity)) /* a part of it would be another user's name */
		keep(m->identity, facts.identity, sizeof(facts.identity), &facts.identity_length);
}

struct span tls_identity(void)
{
	return (struct span){ facts.identity, facts.identity_length };
}

void tls_forget_identity(void)
{
	facts.identity_length = 0;
}

uint32_t tls_mechanisms(const struct session *s)
{
	uint32_t set = s->settings->auth_mechanisms;

	return facts.identity_length > 0 ? set : set & ~(uint32_t)SASL_EXTERNAL;
}

/* No answer came. The client can be told nothing: it expects a handshake. */
static enum session_end end_of(const struct session *s, int error)
{
	switch (error) {
	case -ECANCELED:
		return s->link.ended ? session_told_to_end(s) : END_SHUTDOWN;
	case -ETIMEDOUT:
		return END_LOGIN_TIMEOUT;
	default:
		return END_NO_BROKER;
	}
}

static bool has_failed(int error, const struct msg *reply, enum msg_tls_failure reason)
{
	return error == 0 && reply->type == MSG_TLS_FAILED && reply->TLS_FAILED.reason == reason;
}

/* The broker or tlsrelayd died over it. What has begun by then goes on. */
static bool is_unwatched(int error, const struct msg *reply)
{
	return error == -ECONNRESET || error == -EPIPE || has_failed(error, reply, TLS_UNWATCHED);
}

/* The same, or the worker that had the connection did. What has not begun may be asked for anew. */
static bool is_lost(int error, const struct msg *reply)
{
	return is_unwatched(error, reply) || has_failed(error, reply, TLS_LOST);
}

/* A worker has the connection, and waits for us to have it no more. */
static void take_stream(void *context, int stream)
{
	static const char word = TLS_LET_GO;
	struct session *s = context;

	if (s->stream != STREAM_TLS && dup3(stream, s->client, O_CLOEXEC) >= 0) {
		s->stream = STREAM_TLS;
		(void)send(s->client, &word, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	close(stream);
}

/* Asks until TLS has begun, or is refused. Returns as link_hand_over() does. */
static int ask(struct session *s, struct msg *reply, int64_t deadline)
{
	int r = -ECONNRESET, of_this_one = 0;

	for (int i = 0; i < ASKED_MOST && (r < 0 || of_this_one < OF_ONE_MOST); i++) {
		struct msg request = { .type = MSG_TLS_ACCEPT,
				       .TLS_ACCEPT = { .service = s->hello.service,
						       .client = s->hello.client } };
		AUTO_FD stream = -1; /* once more the one that TLS_BEGUN has brought */

		if (r < 0 && i > 0) {
			of_this_one = 0;
			if (session_meet(s) != END_NONE)
				return -EPIPE;
		}
		of_this_one++;
		r = link_hand_over(&s->link, &request, s->client, reply, &stream, deadline);
		if (s->stream == STREAM_TLS || s->link.ended || !is_lost(r, reply))
			break;
	}
	return r;
}

static enum session_end judge(const struct session *s, int r, const struct msg *reply)
{
	if (s->stream == STREAM_TLS && !s->link.ended && is_unwatched(r, reply))
		return END_NONE; /* without facts; a failure will be its end */
	if (r < 0)
		return end_of(s, r);
	if (reply->type != MSG_TLS_READY)
		return note_failure(reply);
	if (s->stream != STREAM_TLS)
		return END_INTERNAL;
	note_success(&reply->TLS_READY);
	return END_NONE;
}

enum session_end tls_begin(struct session *s)
{
	int64_t deadline = s->started + (int64_t)s->settings->login_timeout * 1000;
	struct msg reply;

	s->link.take_stream = take_stream;
	int r = ask(s, &reply, deadline);
	enum session_end end = judge(s, r, &reply);

	s->link.take_stream = NULL;
	s->asked_capability = false;
	s->id_length = 0;
	s->said = (struct caller_said){ .hops = 0 };
	if (end != END_NONE)
		fd_drop(&s->client); /* what could be said would not be TLS */
	return end;
}

enum session_end tls_check_silence(struct session *s)
{
	if (s->in.len > s->command_end)
		return END_TLS_INJECTED;
	switch (io_fill_now(s->client, &s->in)) {
	case -EAGAIN:
	case -EINTR:
		return END_NONE;
	case 0:
		return END_CLIENT_CLOSED;
	default:
		return s->in.len > s->command_end ? END_TLS_INJECTED : END_CLIENT_LOST;
	}
}

bool tls_is_offered(const struct session *s)
{
	return s->stream == STREAM_CLEAR && s->settings->starttls;
}

bool tls_may_log_in(const struct session *s)
{
	return s->stream == STREAM_TLS || !s->settings->require_tls ||
	       cidr_permits(s->settings->plaintext_addresses, SPAN_NONE, s->hello.client);
}

int tls_add_facts(struct buf *line)
{
	struct span text = { facts.text, facts.text_length };
	int r = 0;

	if (facts.failed)
		return kv_add(line, "tls_error", text);
	if (facts.version_length == 0)
		return 0;
	(void)((r = kv_add(line, "tls", (struct span){ facts.version, facts.version_length })) ||
	       (r = kv_add(line, "cipher", (struct span){ facts.cipher, facts.cipher_length })) ||
	       (r = text.n > 0 ? kv_add(line, "sni", text) : 0));
	return r;
}
