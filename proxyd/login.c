/* One login: the broker's lease, the backend's verdict, the client's answer.
 *
 * The credentials are wiped before this returns, but for those of a reused connection: if it dies
 * before its first response, or is only offered, they are needed once more. A wrong password and a
 * mail host that is out of order are never confused: the client's program would ask the user for
 * another password.
 */
#include "proxyd/session.h"

#include <errno.h>
#include <sys/socket.h>

#include "lib/cidr.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/large.h"
#include "lib/log.h"
#include "proxyd/backend.h"
#include "proxyd/capability.h"
#include "proxyd/follow_line.h"
#include "proxyd/imap_args.h"
#include "proxyd/io.h"
#include "proxyd/kept.h"
#include "proxyd/oldlog.h"
#include "proxyd/refusal.h"

#define BROKERS_MOST 10 /* that hang up over a LEASE; the last ones may be of another version */
#define BROKER_PAUSE 50 /* ms before the next one is asked, times those that were */

#define AGAIN_MOST 3 /* connections that are tried when a reused one died at its first command */

static int add_list(const struct session *s, const char *before, const char *behind,
		    struct buf *out)
{
	struct span list = { s->backend.capabilities, s->backend.capabilities_length };
	int r;

	(void)((r = buf_add_str(out, before)) ||
	       (r = capability_filter(list, s->settings->hide_capabilities, out)) ||
	       (r = buf_add_str(out, behind)));
	return r;
}

static int add_notices(struct session *s, struct buf *out)
{
	struct span notices = s->backend.notices;

	s->backend.notices = SPAN_NONE;
	return buf_add(out, notices);
}

/* The list stands in the OK; a client that has used the CAPABILITY command may not look for it
 * there and gets it in a line of its own, as from Dovecot. XPROXYREUSE is directly before the
 * tagged OK, where it always was, what the mail host said to the user behind it. All in one write:
 * two small ones cost the client 40 ms (Nagle meets delayed acknowledgement). */
static enum session_end accept_client(struct session *s, struct span tag, bool sasl)
{
	static LARGE char bytes[SESSION_LIST_MAX + IMAP_TAG_MAX + BACKEND_NOTICES_MAX + 300];
	struct buf out = BUF_OVER(bytes);
	bool in_line = s->asked_capability;

	if ((in_line && add_list(s, "* CAPABILITY ", "\r\n", &out) < 0) ||
	    (s->backend.promise &&
	     buf_add_str(&out, "* OK [XPROXYREUSE] IMAP connection reused by imapproxy\r\n") < 0) ||
	    buf_add(&out, tag) < 0 || buf_add_str(&out, " OK ") < 0 ||
	    (!in_line && add_list(s, "[CAPABILITY ", "] ", &out) < 0) ||
	    buf_add_str(&out, sasl ? "User authenticated\r\n" : "User logged in\r\n") < 0 ||
	    add_notices(s, &out) < 0)
		return END_INTERNAL;
	return session_tell(s, buf_span(&out));
}

static uint64_t client_id_of(const struct session *s)
{
	struct span id = { s->id_arguments, s->id_length };

	return id.n > 0 ? follow_tag_hash(id) : 0;
}

/* The broker completes names: what is logged, and said to another broker, is the whole one. */
static void learn_name(struct session *s, struct span name)
{
	struct credentials *c = &s->credentials;

	if (name.n == 0 || name.n > sizeof(c->user))
		return;
	memcpy(c->user, name.p, name.n);
	c->user_length = name.n;
}

/* Can nobody listen? Clients of plaintext_addresses are said to come over such ways. */
static bool is_private(const struct session *s)
{
	return s->stream == STREAM_TLS ||
	       cidr_permits(s->settings->plaintext_addresses, SPAN_NONE, s->hello.client);
}

enum session_end login_request_lease(struct session *s, bool plain, struct msg *reply, int *ret_fd)
{
	const struct credentials *c = &s->credentials;
	int64_t deadline = clock_ms() + (int64_t)s->settings->lease_timeout * 1000;

	for (int brokers = 0;; brokers++) {
		struct msg lease = { .type = MSG_LEASE,
				     .LEASE = { .proof_kind = c->kind,
						.plain = plain,
						.tls = s->stream == STREAM_TLS,
						.private = is_private(s),
						.client_id = client_id_of(s),
						.hops = s->said.hops,
						.origin_port = s->said.port,
						.origin = { s->said.address,
							    s->said.address_length },
						.user = session_claimed_user(s),
						.authzid = { c->authzid, c->authzid_length },
						.secret = { c->secret, c->secret_length } } };
		s->link.client = s->client; /* for whom connections and places are taken */
		int r = link_request(&s->link, &lease, reply, ret_fd, deadline);

		s->link.client = -1;
		if (r == -ENOTCONN)
			return END_CLIENT_LOST;
		if (r == 0) {
			learn_name(s, reply->type == MSG_LEASED ? reply->LEASED.user
								: reply->REFUSED.user);
			return END_NONE;
		}
		if (r == -ECANCELED)
			return s->link.ended ? session_told_to_end(s) : END_SHUTDOWN;
		if (s->link.ended)
			return session_told_to_end(s);
		link_close(&s->link); /* after a time-out, too: the broker is still busy with that
					 one */
		if (r == -ETIMEDOUT || c->kind == PROOF_VERIFIED) /* only that one knows of it */
			return END_NO_BROKER;
		if (brokers == BROKERS_MOST)
			return END_NO_BROKER;
		if (io_poll(NULL, 0, clock_ms() + brokers * BROKER_PAUSE) < 0)
			return END_SHUTDOWN;
		enum session_end end = session_meet(s);

		if (end != END_NONE)
			return end;
		if (c->kind == PROOF_EXTERNAL)
			return END_NO_BROKER; /* this one has not seen the certificate */
	}
}

static void copy_span(struct span from, char *to, size_t cap, size_t *length)
{
	size_t n = from.n < cap ? from.n : cap;

	memcpy(to, from.p, n);
	*length = n;
}

void login_take_lease(struct session *s, const struct msg_LEASED *leased, int fd)
{
	struct backend *b = &s->backend;
	size_t host_length;

	s->id = leased->session;
	b->fd = fd;
	b->leased = true;
	b->cached = leased->cached;
	b->made = leased->made;
	b->promise = leased->promise;
	b->tells = leased->tell_client;
	b->port = leased->host_port;
	b->in.off = b->in.len = b->taken = 0;
	copy_span(leased->host, b->host, sizeof(b->host) - 1, &host_length);
	b->host[host_length] = '\0';
	copy_span(leased->backend_user, b->user, sizeof(b->user), &b->user_length);
	b->greeted = !leased->cached && leased->greeted;
	b->spare = b->greeted && leased->offered.n > 0;
	copy_span(b->greeted ? leased->offered : leased->capabilities, b->capabilities,
		  sizeof(b->capabilities), &b->capabilities_length);
	copy_span(leased->preauth_command, b->preauth, sizeof(b->preauth), &b->preauth_length);
	b->capabilities_stale = false;
	b->examined = leased->examined.n > 0;
}

/* Is the mailbox that may be open on the connection one of which everything is known? */
static bool takes_mailbox(struct session *s, const struct msg_LEASED *leased)
{
	struct session_mailbox *m = s->mailbox;

	return leased->examined.n == 0 ||
	       (leased->fingerprint.n == 0 &&
		select_load(&m->kept, m->text, sizeof(m->text), leased->examined) == 0);
}

/* Is the connection plain, or can it be offered? Begins the offer then. */
static bool takes_offer(struct session *s, const struct msg_LEASED *leased)
{
	if (!takes_mailbox(s, leased))
		return false;
	return leased->fingerprint.n == 0 ||
	       offer_begin(&s->offer, leased->fingerprint, leased->opening) == 0;
}

static void send_outcome(struct session *s, enum msg_outcome outcome)
{
	struct msg m = { .type = MSG_OUTCOME, .OUTCOME = { .outcome = outcome } };

	(void)link_push(&s->link, &m, -1);
}

/* A cached connection must be silent and, when it lay for long, answer. */
static bool is_usable(struct session *s, bool prove)
{
	char byte;
	ssize_t n = recv(s->backend.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n >= 0 || errno != EAGAIN)
		return false;
	if (s->backend.examined)
		return !prove || kept_prove(s) == 0;
	return !prove || backend_prove(s) == 0;
}

/* The same for one on which commands follow at once: no mailbox is left open. */
static bool is_usable_now(struct session *s, bool prove)
{
	return is_usable(s, prove) && (!s->backend.examined || kept_close(s) == 0);
}

static enum login_result accepted(struct session *s, struct span tag, enum session_end *ret_end)
{
	bool sasl = s->credentials.sasl;

	copy_span(session_claimed_user(s), s->user, sizeof(s->user), &s->user_length);
	if (!s->backend.cached) /* else another login may have to be made for this client */
		session_wipe_credentials(s); /* telling a slow client may take a while */
	s->offer_until = s->started + (int64_t)s->settings->login_timeout * 1000;
	*ret_end = accept_client(s, tag, sasl);
	oldlog_write(s, s->backend.cached && !s->backend.made ? OLDLOG_REUSED : OLDLOG_NEW,
		     SPAN_NONE);
	return *ret_end == END_NONE ? LOGIN_OK : LOGIN_OVER;
}

/* The connection had waited for this login and was dead: that is nobody's fault. */
static bool spare_was_dead(const struct session *s)
{
	return s->backend.spare && s->backend.lost;
}

/* Logs in to the backend, and tells the broker what became of it. *again: in, whether the mail host
 * may be asked again if it has too many of this user; out, that it shall be, since the broker makes
 * room, or since the connection was a spare one and dead. */
static enum backend_verdict make_login(struct session *s, bool list_can_wait, bool *again,
				       const char **ret_code, const char **ret_why)
{
	static const enum msg_outcome outcomes[] = {
		[BACKEND_ACCEPTED] = OUTCOME_ACCEPTED,
		[BACKEND_REFUSED] = OUTCOME_REFUSED,
		[BACKEND_FAILED] = OUTCOME_FAILED,
	};
	enum backend_verdict verdict = backend_login(s, list_can_wait, ret_code, ret_why);

	bool dead = verdict == BACKEND_FAILED && spare_was_dead(s);
	bool limited =
		*again && verdict == BACKEND_FAILED && span_ieq(span_str(*ret_code), SPAN("LIMIT"));

	*again = dead || limited;
	send_outcome(s, dead ? OUTCOME_STALE : limited ? OUTCOME_LIMIT : outcomes[verdict]);
	return verdict;
}

/* The client has been told this list on another connection's word: is it this one's, too? If not,
 * the client hears of it before anything else. */
static enum session_end make_sure_of_list(struct session *s, struct span told)
{
	static LARGE char bytes[SESSION_LIST_MAX + BACKEND_NOTICES_MAX + 100];
	struct buf out = BUF_OVER(bytes);
	struct backend *b = &s->backend;

	if (backend_ask_list(s) < 0)
		return END_BACKEND_LOST;
	bool changed = !span_eq(told, (struct span){ b->capabilities, b->capabilities_length });

	if ((changed && add_list(s, "* CAPABILITY ", "\r\n", &out) < 0) || add_notices(s, &out) < 0)
		return END_INTERNAL;
	return out.len > 0 ? session_tell(s, buf_span(&out)) : END_NONE;
}

/* The mail host's OK brought no list, and the one that is known saves the client a round trip. */
static enum login_result accepted_unheard(struct session *s, struct span tag, struct span known,
					  enum session_end *ret_end)
{
	struct backend *b = &s->backend;

	copy_span(known, b->capabilities, sizeof(b->capabilities), &b->capabilities_length);
	enum login_result result = accepted(s, tag, ret_end);

	if (result == LOGIN_OK)
		*ret_end = make_sure_of_list(s, known);
	return *ret_end == END_NONE ? LOGIN_OK : LOGIN_OVER;
}

/* `known` is the list that another connection of the account had, if there is one. */
static enum login_result log_in_fresh(struct session *s, struct span tag, struct span known,
				      bool *limited, enum session_end *ret_end)
{
	const char *code, *why;
	enum backend_verdict verdict = make_login(s, known.n > 0, limited, &code, &why);

	if (verdict == BACKEND_ACCEPTED)
		return s->backend.capabilities_stale ? accepted_unheard(s, tag, known, ret_end)
						     : accepted(s, tag, ret_end);
	backend_close(&s->backend, false);
	if (verdict != BACKEND_REFUSED)
		s->backend.challenge = SPAN_NONE;
	if (*limited)
		return LOGIN_REFUSED;
	return refusal_tell(
		s, tag,
		&(struct refusal){ .code = verdict == BACKEND_FAILED && !*code ? "UNAVAILABLE"
									       : code,
				   .why = span_str(why),
				   .line = oldlog_failure(&s->backend),
				   .more = { s->backend.said, s->backend.said_length } },
		ret_end);
}

static enum login_result attempt(struct session *s, struct span tag, enum session_end *ret_end)
{
	bool limited = false, may_be_limited = true;

	if (s->credentials.refusal != 0)
		return refusal_tell_verdict(s, tag, ret_end);
	for (;;) {
		struct msg reply;
		int fd = -1;

		*ret_end = login_request_lease(s, false, &reply, &fd);
		if (*ret_end == END_NO_BROKER)
			return refusal_tell_reason(s, tag, REFUSAL_UNAVAILABLE,
						   SPAN("the broker did not answer"), ret_end);
		if (*ret_end != END_NONE)
			return LOGIN_OVER;
		if (reply.type == MSG_REFUSED)
			return refusal_tell_refused(s, tag, &reply.REFUSED, ret_end);
		if (reply.type != MSG_LEASED) {
			*ret_end = END_INTERNAL;
			return LOGIN_OVER;
		}
		bool prove = reply.LEASED.prove, good = takes_offer(s, &reply.LEASED);

		login_take_lease(s, &reply.LEASED, fd);
		if (!s->backend.cached) {
			limited = may_be_limited;
			oldlog_write(s, OLDLOG_CREATING, SPAN_NONE);
			enum login_result result =
				log_in_fresh(s, tag, reply.LEASED.capabilities, &limited, ret_end);

			if (!limited)
				return result;
			may_be_limited = may_be_limited && spare_was_dead(s); /* once more */
			continue;
		}
		if (good && is_usable(s, prove)) {
			if (prove && !s->offer.open)
				send_outcome(s, OUTCOME_ACCEPTED);
			return accepted(s, tag, ret_end);
		}
		s->offer.open = false;
		oldlog_write(s, OLDLOG_DEAD, SPAN_NONE);
		send_outcome(s, OUTCOME_STALE);
		backend_close(&s->backend, false);
	}
}

enum login_result login_try(struct session *s, struct span tag, enum session_end *ret_end)
{
	enum login_result result = attempt(s, tag, ret_end);

	if (result != LOGIN_OK || !s->backend.cached)
		session_wipe_credentials(s);
	return result;
}

/* One lease, by this broker: another one does not know this session's account. */
static bool lease_again(struct session *s, bool *ret_prove)
{
	const struct credentials *c = &s->credentials;
	struct msg reply, lease = { .type = MSG_LEASE,
				    .LEASE = { .proof_kind = c->kind,
					       .plain = true,
					       .tls = s->stream == STREAM_TLS,
					       .private = is_private(s),
					       .client_id = client_id_of(s),
					       .hops = s->said.hops,
					       .origin_port = s->said.port,
					       .origin = { s->said.address,
							   s->said.address_length },
					       .user = session_claimed_user(s),
					       .authzid = { c->authzid, c->authzid_length },
					       .secret = { c->secret, c->secret_length } } };
	int fd = -1;

	send_outcome(s, OUTCOME_STALE);
	backend_close(&s->backend, false);
	if (link_request(&s->link, &lease, &reply, &fd,
			 clock_ms() + (int64_t)s->settings->lease_timeout * 1000) < 0 ||
	    reply.type != MSG_LEASED || reply.LEASED.fingerprint.n > 0 ||
	    !takes_mailbox(s, &reply.LEASED)) {
		fd_drop(&fd);
		return false;
	}
	*ret_prove = reply.LEASED.prove;
	login_take_lease(s, &reply.LEASED, fd);
	return true;
}

bool login_again(struct session *s)
{
	const char *code, *why;
	bool good = false, prove = false;

	for (int tries = 0; !good && tries < AGAIN_MOST && lease_again(s, &prove); tries++) {
		bool cached = s->backend.cached;

		good = cached ? is_usable_now(s, prove)
			      : backend_login(s, false, &code, &why) == BACKEND_ACCEPTED;
		if (good && (!cached || prove))
			send_outcome(s, OUTCOME_ACCEPTED);
		if (!good && !cached && !spare_was_dead(s)) {
			send_outcome(s, OUTCOME_FAILED);
			break;
		}
	}
	session_wipe_credentials(s);
	if (!good)
		backend_close(&s->backend, false);
	return good;
}

void login_keep(struct session *s)
{
	s->offer.open = false;
	session_wipe_credentials(s);
	if (s->backend.leased)
		send_outcome(s, OUTCOME_ACCEPTED);
	else if (s->link.sock >= 0)
		(void)session_rejoin(s); /* the next broker takes this for a client before login */
}

/* The connection goes back as it came, or is given up. */
static void hand_back(struct session *s, bool untouched)
{
	struct msg m = { .type = MSG_UNTOUCHED };

	if (s->backend.leased && untouched)
		(void)link_push(&s->link, &m, s->backend.fd);
	else if (s->backend.leased)
		send_outcome(s, OUTCOME_STALE);
	backend_close(&s->backend, false);
}

/* A fresh one is logged in, for a client that has its OK already. `last`: it must go well now, else
 * another one may. END_NONE, then *ret_good says whether it did. */
static enum session_end log_in_plain(struct session *s, bool last, bool *ret_good)
{
	const char *code, *why;
	bool limited = !last;
	enum backend_verdict verdict = make_login(s, false, &limited, &code, &why);

	*ret_good = verdict == BACKEND_ACCEPTED;
	if (*ret_good)
		return END_NONE;
	backend_close(&s->backend, false);
	return verdict == BACKEND_REFUSED ? END_PASSWORD_REFUSED
	       : last			  ? END_BACKEND_LOST
					  : END_NONE;
}

/* A plain connection for a client that has its OK already. */
static enum session_end find_plain(struct session *s)
{
	bool last = false, good = false;

	for (;;) {
		struct msg reply;
		AUTO_FD fd = -1;
		enum session_end end = login_request_lease(s, true, &reply, &fd);

		if (end != END_NONE)
			return end;
		if (reply.type != MSG_LEASED || reply.LEASED.fingerprint.n > 0 ||
		    !takes_mailbox(s, &reply.LEASED))
			return END_BACKEND_LOST;
		bool prove = reply.LEASED.prove;

		login_take_lease(s, &reply.LEASED, take_fd(&fd));
		if (!s->backend.cached) {
			end = log_in_plain(s, last, &good);
			if (good || end != END_NONE)
				return end;
			last = true;
			continue;
		}
		if (is_usable_now(s, prove)) {
			if (prove)
				send_outcome(s, OUTCOME_ACCEPTED);
			return END_NONE;
		}
		send_outcome(s, OUTCOME_STALE);
		backend_close(&s->backend, false);
	}
}

/* Says on the connection what the client has said on the offered one. Does it answer alike? */
static bool repeat_all(struct session *s)
{
	struct fingerprint_step step;
	struct span rest = offer_answers(&s->offer), asked = offer_asked(&s->offer);

	while (fingerprint_next_step(&rest, &step))
		if (backend_repeat(s, &step) < 0)
			return false;
	return asked.n == 0 || backend_repeat_refused(s, asked) == 0;
}

enum session_end login_exchange(struct session *s, bool untouched)
{
	bool said = s->offer.answered > 0 || s->offer.asked_length > 0;

	hand_back(s, untouched);
	enum session_end end = find_plain(s);

	while (end == END_NONE && !repeat_all(s)) {
		if (!s->backend.cached || !s->backend.leased) {
			end = END_BACKEND_ODD;
		} else { /* a reused one may have been dead, a fresh one tells the truth */
			send_outcome(s, OUTCOME_STALE);
			backend_close(&s->backend, false);
			end = find_plain(s);
		}
	}
	s->offer.open = false;
	if (end != END_NONE || !s->backend.cached || said)
		session_wipe_credentials(s);
	return end;
}
