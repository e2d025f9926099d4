/* A traced session's side of the protocol log.
 *
 * Each side's bytes are collected until a line is whole, so that lines of several sessions do not
 * mix. A line that is longer than a record is cut, and its rest marked as such. The writer may be
 * slow: the session waits for room a moment, now and then, and loses records rather than time; it
 * says how many. When the writer shuts the socket, tracing is over.
 */
#include "proxyd/tracer.h"

#include <errno.h>
#include <poll.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/large.h"
#include "lib/trace.h"
#include "proxyd/io.h"

#define PATIENCE   100	/* ms */
#define IMPATIENCE 1000 /* ms behind a wait that was in vain: there is no other */

/* Collected bytes of one side, behind room for their head. */
struct lane {
	enum trace_side side;
	bool cut; /* what was sent last did not end its line */
	size_t length;
	char *record;
};

static LARGE char records[3][LARGE_PAGE * 2];
_Static_assert(sizeof(struct trace_head) + TRACE_BYTES <= sizeof(records[0]), "a record fits");

static struct lane client = { .side = TRACE_CLIENT, .record = records[0] };
static struct lane server = { .side = TRACE_SERVER, .record = records[1] };
static struct lane proxy = { .side = TRACE_PROXY, .record = records[2] };
static struct elide elide;
static int sock = -1;
static bool *flag;
static uint32_t lost;
static int64_t patient_at; /* monotonic ms */

static void stop(void)
{
	fd_drop(&sock);
	client.length = server.length = proxy.length = 0;
	*flag = false;
}

void tracer_begin(int fd, bool *traced)
{
	fd_drop(&sock);
	client.length = server.length = proxy.length = 0;
	client.cut = server.cut = proxy.cut = false;
	elide = (struct elide){ .knows = false };
	lost = 0;
	patient_at = 0;
	sock = fd;
	flag = traced;
	*traced = true;
}

/* 0, -EAGAIN: it has no room, or -errno: nobody takes it. */
static int send_record(struct span record)
{
	for (;;) {
		ssize_t n = io_write_now(sock, record);

		if (n != 0)
			return n < 0 ? (int)n : 0;
		int64_t now = clock_ms();

		if (now < patient_at)
			return -EAGAIN;
		if (io_wait(sock, POLLOUT, now + PATIENCE) < 0)
			patient_at = now + IMPATIENCE;
	}
}

/* Sends the first n bytes of the lane. */
static void send_lane(struct lane *l, size_t n)
{
	const struct trace_head head = {
		.side = (uint8_t)l->side, .continued = l->cut, .lost = lost
	};
	char *bytes = l->record + sizeof(head);

	memcpy(l->record, &head, sizeof(head));
	int r = send_record((struct span){ l->record, sizeof(head) + n });

	if (r < 0 && r != -EAGAIN) {
		stop();
		return;
	}
	lost = r == -EAGAIN ? lost + 1 : 0;
	l->cut = bytes[n - 1] != '\n';
	memmove(bytes, bytes + n, l->length - n);
	l->length -= n;
}

/* Sends whole lines; with `all` also what there is of the last one. */
static void flush(struct lane *l, bool all)
{
	const char *bytes = l->record + sizeof(struct trace_head);
	size_t n = l->length;

	while (!all && n > 0 && bytes[n - 1] != '\n')
		n--;
	if (n > 0)
		send_lane(l, n);
}

static void add(struct lane *l, struct span bytes)
{
	while (sock >= 0 && bytes.n > 0) {
		size_t room = TRACE_BYTES - l->length, n = bytes.n < room ? bytes.n : room;

		memcpy(l->record + sizeof(struct trace_head) + l->length, bytes.p, n);
		l->length += n;
		bytes = span_from(bytes, n);
		if (l->length == TRACE_BYTES)
			flush(l, false);
		if (l->length == TRACE_BYTES)
			flush(l, true);
	}
}

static void show_client(void *context, struct span shown)
{
	(void)context;
	add(&client, shown);
}

void tracer_client(const struct elide_point *before, const struct follow *f, struct span piece)
{
	elide_client(&elide, before, f, piece, show_client, NULL);
}

void tracer_said(struct span shown)
{
	add(&client, shown);
	if (sock >= 0)
		flush(&client, false);
}

void tracer_server(struct span bytes)
{
	if (sock >= 0)
		flush(&proxy, true);
	add(&server, bytes);
	if (sock >= 0)
		flush(&server, false);
}

void tracer_proxy(struct span bytes)
{
	add(&proxy, bytes);
}

void tracer_logout(struct span line)
{
	add(&client, line);
	if (sock >= 0)
		flush(&client, true);
}

void tracer_flush(bool all)
{
	if (sock >= 0)
		flush(&client, all);
	if (sock >= 0 && client.length == 0)
		flush(&proxy, true);
	if (sock >= 0)
		flush(&server, all);
}

void tracer_rest(void)
{
	tracer_flush(true);
	large_release(records, sizeof(records));
}

/* What was lost behind the last record that was taken. */
static void tell_lost(void)
{
	const struct trace_head head = { .side = TRACE_PROXY, .lost = lost };

	patient_at = 0;
	(void)send_record((struct span){ (const char *)&head, sizeof(head) });
}

void tracer_end(void)
{
	tracer_flush(true);
	if (sock >= 0 && lost > 0)
		tell_lost();
	if (sock >= 0)
		stop();
}
