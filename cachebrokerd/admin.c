/* An administrator's requests.
 *
 * A session may be one that was taken over, so whether it may ask is judged here, by what it said
 * before it heard its client, and XPROXY_ commands can do little: show names, count anew, trace one
 * user into a file that only this user and root can read. What waits for the disk (tracing.c) is
 * answered later, and a caller that has gone meanwhile is not answered.
 */
#include "cachebrokerd/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cachebrokerd/admin_dump.h"
#include "cachebrokerd/admin_orders.h"
#include "cachebrokerd/tracing.h"
#include "lib/cidr.h"
#include "lib/log.h"

#define TEXT_MOST 8000 /* of REPORT */

struct admin_request {
	struct admin_caller *caller; /* NULL: gone */
	struct peer *peer;
	uint32_t serial;
};

bool admin_allows(const struct broker *b, const char *address)
{
	struct cidr_address parsed;
	bool known = cidr_address_parse(span_str(address), &parsed) == 0;

	return b->config.enable_admin_commands &&
	       cidr_list_has(span_str(b->config.admin_addresses), known ? &parsed : NULL);
}

void admin_warn(const struct broker *b)
{
	/* with in.imapproxyd as the supervisor it is he who knows and says it */
	if (b->config_fd < 0 && b->config.enable_admin_commands &&
	    span_ieq(span_str(b->config.admin_addresses), SPAN("all")))
		log_printf(LOG_WARNING, "enable_admin_commands: whoever can connect may use them; "
					"say from where with admin_addresses");
}

static int answer(struct peer *p, uint32_t serial, enum msg_report result, uint64_t next,
		  struct span text)
{
	const struct msg m = { .type = MSG_REPORT,
			       .serial = serial,
			       .REPORT = { .result = result, .next = next, .text = text } };

	(void)peer_send(p, &m, -1);
	return 0;
}

int admin_deny(struct peer *p, uint32_t serial)
{
	return answer(p, serial, REPORT_DENIED, 0, SPAN_NONE);
}

/* What tracing_start() and the like returned. */
static int answer_result(struct peer *p, uint32_t serial, int result)
{
	if (result >= 0)
		return answer(p, serial, REPORT_DONE, 0, SPAN_NONE);
	const char *why = result == -ENOENT   ? "this user is not traced"
			  : result == -ENOSPC ? "too many users are traced, or the disk is full"
			  : result == -EOVERFLOW ? "protocol_log_max is reached"
			  : result == -ELOOP || result == -EMLINK
				  ? "protocol_log_filename is not a plain file with one name"
				  : strerror(-result);

	return answer(p, serial, REPORT_FAILED, 0, span_str(why));
}

static void on_ordered(void *context, enum msg_report result, struct span text)
{
	struct admin_request *r = context;

	if (r->caller) {
		r->caller->request = NULL;
		(void)answer(r->peer, r->serial, result, 0, text);
	}
	free(r);
}

static void on_done(void *context, int result)
{
	struct admin_request *r = context;

	if (r->caller) {
		r->caller->request = NULL;
		(void)answer_result(r->peer, r->serial, result);
	}
	free(r);
}

void admin_gone(struct admin_caller *c)
{
	if (c->request)
		c->request->caller = NULL;
	c->request = NULL;
}

static int dump(struct admin_caller *c, struct peer *p, const struct msg *m)
{
	static char text[TEXT_MOST];
	struct buf out = BUF_OVER(text);

	if (m->ADMIN.from == 0)
		c->dump_until = p->broker->next_id;
	uint64_t next = admin_dump(p->broker, m->ADMIN.from, c->dump_until, &out);

	return answer(p, m->serial, REPORT_DONE, next, buf_span(&out));
}

static int list_traced(struct peer *p, const struct msg *m)
{
	static char text[TEXT_MOST];
	struct buf out = BUF_OVER(text);
	size_t next = tracing_list(p->broker->tracing, m->ADMIN.from, &out);

	return answer(p, m->serial, REPORT_DONE, next, buf_span(&out));
}

/* Those that the disk may hold up. Returns as tracing_start(). */
static int begin(struct tracing *t, const struct msg *m, struct admin_request *r)
{
	struct span user = m->ADMIN.argument;

	switch (m->ADMIN.kind) {
	case ADMIN_NEWLOG:
		return tracing_clear(t, on_done, r);
	case ADMIN_TRACE:
		return user.n > 0 ? tracing_start(t, user, STATEFILE_TRACE_COMMAND, on_done, r)
				  : tracing_stop(t, user, STATEFILE_TRACE_COMMAND, on_done, r);
	case ADMIN_TRACE_USER:
		return user.n > 0 ? tracing_start(t, user, STATEFILE_TRACE_ADMIN, on_done, r)
				  : -EINVAL;
	default:
		return user.n > 0 ? tracing_stop(t, user, STATEFILE_TRACE_ADMIN, on_done, r)
				  : -EINVAL;
	}
}

static int ask_later(struct admin_caller *c, struct peer *p, const struct msg *m)
{
	struct tracing *t = p->broker->tracing;
	struct span one = tracing_user(t);

	if (m->ADMIN.kind == ADMIN_TRACE && m->ADMIN.argument.n > 0 && one.n > 0)
		return answer(p, m->serial, REPORT_TAKEN, 0, one);
	struct admin_request *r = calloc(1, sizeof(*r));

	if (!r)
		return answer_result(p, m->serial, -ENOMEM);
	*r = (struct admin_request){ .caller = c, .peer = p, .serial = m->serial };
	int result = m->ADMIN.kind >= ADMIN_DRAIN
			     ? admin_orders_begin(p->broker, &m->ADMIN, c->uid, on_ordered, r)
			     : begin(t, m, r);

	if (result == 0) {
		c->request = r;
		return 0;
	}
	free(r);
	return answer_result(p, m->serial, result);
}

int admin_ask(struct admin_caller *c, struct peer *p, const struct msg *m)
{
	if (c->request)
		return -EPROTO;
	switch (m->ADMIN.kind) {
	case ADMIN_VERSION:
		return answer(p, m->serial, REPORT_DONE, 0, SPAN_NONE);
	case ADMIN_DUMP:
		return dump(c, p, m);
	case ADMIN_RESET:
		state_reset(p->broker->state);
		return answer(p, m->serial, REPORT_DONE, 0, SPAN_NONE);
	case ADMIN_TRACED:
		return list_traced(p, m);
	case ADMIN_NEWLOG:
	case ADMIN_TRACE:
	case ADMIN_TRACE_USER:
	case ADMIN_UNTRACE_USER:
	case ADMIN_DRAIN:
	case ADMIN_PAUSE:
	case ADMIN_RESUME:
	case ADMIN_FLUSH_HOST:
	case ADMIN_FLUSH_USER:
	case ADMIN_KICK_USER:
		return ask_later(c, p, m);
	default:
		return -EPROTO;
	}
}
