/* The model as JSON: the state file's own names, so that what is added to a table appears here by
 * itself.
 *
 * Names of users are bytes; JSON's strings are not. What is not UTF-8 is shown as pimpstat -1 shows
 * it. jansson's "_new" calls take over what they are given, also when they fail and when it is
 * NULL; so failures of memory are collected in one flag and looked at once.
 */
#include "pimpstat/json.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "lib/msg.h"
#include "pimpstat/text.h"

/* An object being filled. */
struct object {
	json_t *json;
	bool failed;
};

static struct object new_object(void)
{
	struct object o = {.json = json_object()};

	o.failed = o.json == NULL;
	return o;
}

static void set(struct object *o, const char *name, json_t *value)
{
	if (json_object_set_new(o->json, name, value) < 0)
		o->failed = true;
}

static void set_object(struct object *o, const char *name, struct object value)
{
	o->failed = o->failed || value.failed;
	set(o, name, value.json);
}

/* jansson's integers are signed. */
static json_t *number(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

static json_t *when(int64_t seconds)
{
	return seconds > 0 ? json_integer(seconds) : json_null();
}

static json_t *foreign_text(struct span bytes)
{
	json_t *whole = json_stringn(bytes.p, bytes.n);
	char *shown = NULL;
	size_t length;

	if (whole)
		return whole;
	FILE *out = open_memstream(&shown, &length);

	if (!out)
		return NULL;
	(void)text_print_foreign(out, bytes);
	if (fclose(out) == 0)
		whole = json_stringn(shown, length);
	free(shown);
	return whole;
}

static struct object counters(const struct model *m)
{
	struct object o = new_object();

	for (size_t i = 0; i < COUNTER_COUNT; i++)
		set(&o, model_counter_names[i], number(m->counters[i]));
	return o;
}

static struct object gauges(const struct model *m)
{
	struct object o = new_object();

	for (size_t i = 0; i < GAUGE_COUNT; i++)
		set(&o, model_gauge_names[i], number(m->gauges[i]));
	return o;
}

static struct object peaks(const struct model *m)
{
	struct object o = new_object();

	for (size_t i = 0; i < GAUGE_COUNT; i++) {
		struct object peak = new_object();

		set(&peak, "value", number(m->peaks[i].value));
		set(&peak, "when", when(m->peaks[i].when));
		set_object(&o, model_gauge_names[i], peak);
	}
	return o;
}

static struct object reasons(const uint64_t *values, unsigned count, const char *(*word)(unsigned))
{
	struct object o = new_object();

	for (unsigned i = 0; i < count; i++)
		set(&o, word(i), number(values[i]));
	return o;
}

/* "version cipher name", of which the last may be empty. */
static struct object tls(struct span words)
{
	struct object o = new_object();

	set(&o, "version", foreign_text(span_word(&words, ' ')));
	set(&o, "cipher", foreign_text(span_word(&words, ' ')));
	set(&o, "name", foreign_text(span_word(&words, ' ')));
	return o;
}

static struct object session(const struct model_session *s, int64_t now)
{
	const char *service = msg_service_name(s->service);
	struct object o = new_object();

	set(&o, "id", number(s->id));
	set(&o, "state", json_string(model_state_word(s->state)));
	set(&o, "service", service ? json_string(service) : json_null());
	set(&o, "user", foreign_text(s->user));
	set(&o, "client", foreign_text(s->client));
	set(&o, "host", foreign_text(s->host));
	if (s->tls.n > 0)
		set_object(&o, "tls", tls(s->tls));
	else
		set(&o, "tls", json_null());
	set(&o, "since", json_integer(s->since));
	set(&o, "age", json_integer(now > s->since ? now - s->since : 0));
	set(&o, "bytes_from_client", s->has_bytes ? number(s->from_client) : json_null());
	set(&o, "bytes_from_backend", s->has_bytes ? number(s->from_backend) : json_null());
	return o;
}

static void set_sessions(struct object *o, const struct model *m, int64_t now)
{
	json_t *array = json_array();

	for (size_t i = 0; i < m->session_count; i++) {
		struct object row = session(&m->sessions[i], now);

		if (json_array_append_new(array, row.json) < 0 || row.failed)
			o->failed = true;
	}
	set(o, "sessions", array);
}

static struct object host(const struct model_host *h)
{
	const struct statefile_host *f = &h->figures;
	struct object o = new_object();

	set(&o, "host", foreign_text(h->name));
	set(&o, "state", json_string(model_host_word(f->state)));
	set(&o, "active", number(f->active));
	set(&o, "cached", number(f->cached));
	set(&o, "logins_fresh", number(f->logins_fresh));
	set(&o, "logins_reused", number(f->logins_reused));
	set(&o, "logins_refused", number(f->logins_refused));
	set(&o, "logins_failed", number(f->logins_failed));
	set(&o, "dials_failed", number(f->dials_failed));
	set(&o, "failed_at", when(f->failed_at));
	set(&o, "error",
	    f->error_length > 0 ? foreign_text((struct span){f->error, f->error_length})
				: json_null());
	set(&o, "dials", number(f->dials));
	set(&o, "dial_ms", f->dials > 0 ? json_real((double)f->dial_average / 1000) : json_null());
	return o;
}

static void set_orders(struct object *o, const struct model *m)
{
	json_t *array = json_array();

	for (size_t i = 0; i < m->order_count; i++) {
		const struct model_order *order = &m->orders[i];
		struct object row = new_object();

		set(&row, "host", foreign_text((struct span){order->host, order->length}));
		set(&row, "order", json_string(model_host_word(order->kind)));
		set(&row, "since", when(order->since));
		if (json_array_append_new(array, row.json) < 0 || row.failed)
			o->failed = true;
	}
	set(o, "orders", array);
}

static void set_hosts(struct object *o, const struct model *m)
{
	json_t *array = json_array();

	for (size_t i = 0; i < m->host_count; i++) {
		struct object row = host(&m->hosts[i]);

		if (json_array_append_new(array, row.json) < 0 || row.failed)
			o->failed = true;
	}
	set(o, "hosts", array);
}

/* The steps that were written last, the oldest first, without those that are still empty. */
static void set_history(struct object *o, const struct model *m)
{
	const struct statefile_history *h = &m->history;
	struct object history = new_object();
	json_t *array = json_array();

	for (int64_t n = h->newest - STATEFILE_STEPS + 1; n <= h->newest; n++) {
		struct object row;

		if (n < 0 || (n + 1) * STATEFILE_STEP_SECONDS <= m->reset)
			continue;
		row = new_object();
		set(&row, "when", json_integer(n * STATEFILE_STEP_SECONDS));
		set(&row, "fresh", number(h->steps[n % STATEFILE_STEPS].fresh));
		set(&row, "reused", number(h->steps[n % STATEFILE_STEPS].reused));
		set(&row, "failed", number(h->steps[n % STATEFILE_STEPS].failed));
		if (json_array_append_new(array, row.json) < 0 || row.failed)
			o->failed = true;
	}
	set(&history, "step", json_integer(STATEFILE_STEP_SECONDS));
	set(&history, "steps", array);
	set_object(o, "history", history);
}

int json_print(FILE *out, const struct model *m, int64_t now)
{
	struct object o = new_object();
	bool running = model_is_running(m, now);
	int ratio = model_reuse_per_mille(m);
	int r = -ENOMEM;

	set(&o, "schema", json_integer(STATEFILE_SCHEMA));
	set(&o, "version", foreign_text(span_str(m->version)));
	set(&o, "running", json_boolean(running));
	set(&o, "started", when(m->started));
	set(&o, "reset", when(m->reset));
	set(&o, "heartbeat", when(m->heartbeat));
	set(&o, "uptime", json_integer((running ? now : m->heartbeat) - m->started));
	set(&o, "reuse_ratio", ratio < 0 ? json_null() : json_real(ratio / 10.0));
	set_object(&o, "gauges", gauges(m));
	set_object(&o, "peaks", peaks(m));
	set_object(&o, "counters", counters(m));
	set_object(&o, "not_cached", reasons(m->not_cached, NOT_CACHED_COUNT, not_cached_word));
	set_object(&o, "ends", reasons(m->ends, END_COUNT, end_word));
	set_history(&o, m);
	set_hosts(&o, m);
	set_orders(&o, m);
	set_sessions(&o, m, now);
	if (!o.failed)
		r = json_dumpf(o.json, out,
			       JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(4)) < 0 ||
				    fputc('\n', out) == EOF
			    ? -EIO
			    : 0;
	json_decref(o.json);
	return r;
}
