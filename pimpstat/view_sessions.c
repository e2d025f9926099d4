/* Who is here: sessions and connections in the cache. */
#include <stdio.h>

#include "lib/msg.h"
#include "pimpstat/format.h"
#include "pimpstat/view.h"

enum { USER, STATE, AGE, SERVICE, HOST, CLIENT, BYTES, TLS, COLUMNS };

static const struct column columns[COLUMNS] = {
	[USER] = {.title = "USER", .least = 12, .most = 40, .rank = 0},
	[STATE] = {.title = "STATE", .least = 6, .most = 6, .rank = 1},
	[AGE] = {.title = "AGE", .least = 8, .most = 8, .rank = 2, .right = true},
	[HOST] = {.title = "HOST", .least = 17, .most = 32, .rank = 4},
	[CLIENT] = {.title = "CLIENT", .least = 15, .most = 45, .rank = 5},
	[BYTES] = {.title = "BYTES",
		   .least = 8,
		   .most = 8,
		   .rank = 3,
		   .right = true,
		   .descending = true},
	[TLS] = {.title = "TLS", .least = 7, .most = 7, .rank = 6},
	[SERVICE] = {.title = "FOR", .least = 4, .most = 4, .rank = 7},
};

static size_t count_rows(const struct view_input *in)
{
	return in->m->session_count;
}

static enum style style_of(uint32_t state)
{
	return state == STATEFILE_ACTIVE   ? STYLE_GOOD
	       : state == STATEFILE_CACHED ? STYLE_DIM
					   : STYLE_PLAIN;
}

static void set_number(struct cell *c, uint64_t number)
{
	c->is_number = true;
	c->number = number;
}

static void get_cell(const struct view_input *in, size_t row, unsigned column, struct cell *c)
{
	const struct model_session *s = &in->m->sessions[row];
	int64_t age = in->now > s->since ? in->now - s->since : 0;
	uint64_t bytes = s->from_client + s->from_backend;
	const char *service = msg_service_name(s->service);
	struct span tls = s->tls;

	switch (column) {
	case USER:
		c->foreign = s->user;
		break;
	case STATE:
		(void)snprintf(c->own, sizeof(c->own), "%s", model_state_word(s->state));
		c->style = style_of(s->state);
		break;
	case AGE:
		format_age(age, c->own, sizeof(c->own));
		set_number(c, (uint64_t)age);
		break;
	case HOST:
		c->foreign = s->host;
		break;
	case CLIENT:
		c->foreign = s->client.n > 0 ? s->client : SPAN("-");
		break;
	case TLS: /* its first word, the version */
		c->foreign = span_word(&tls, ' ');
		if (c->foreign.n == 0)
			c->foreign = SPAN("-");
		break;
	case SERVICE:
		(void)snprintf(c->own, sizeof(c->own), "%s", service ? service : "?");
		break;
	case BYTES:
		(void)snprintf(c->own, sizeof(c->own), "-");
		if (!s->has_bytes)
			break;
		format_bytes(bytes, c->own, sizeof(c->own));
		set_number(c, bytes);
		break;
	}
}

const struct table sessions_table = {
	.columns = columns,
	.column_count = COLUMNS,
	.sort = USER,
	.rows = count_rows,
	.cell = get_cell,
	.empty = "  nobody is here and nothing is in the cache",
};
