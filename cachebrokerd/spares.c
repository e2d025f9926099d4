/* Spare connections: dialled, greeted by an errand, watched until a login takes them.
 *
 * They are a wager on the next login, so they stand behind everything that is certain: one is made
 * only when nothing has to go for it, and goes first when a login needs the room. A mail host sees
 * no more of them than spare_backend_connections each spare_backend_age, and less when it ends them
 * itself: each one that came to nothing doubles the pause until the next.
 *
 * An errand cannot be called back: a spare that is closed while one has it is only forgotten, and
 * freed when the errand has spoken.
 */
#include "cachebrokerd/spares.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utlist.h>

#include "cachebrokerd/connection.h"
#include "cachebrokerd/dial.h"
#include "cachebrokerd/errand.h"
#include "cachebrokerd/host.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"

#define USED_MS	      300000 /* a host without a login for so long gets none */
#define ERRANDS_LEFT  4	     /* places for errands that logins may need */
#define PAUSE_MS      1000   /* after the first failure */
#define PAUSE_DOUBLES 6	     /* times: about a minute */
#define OFFERED_MOST  2000   /* bytes of a capability list: LEASED has no room for more */

struct spare {
	struct host *host; /* NULL: forgotten, but an errand has it */
	struct spare *prev, *next;
	struct dial *dial;   /* first, */
	bool with_errand;    /* then, */
	struct watch *watch; /* and then it waits */
	int fd;
	uint64_t id, cookie;
	int64_t born;
	char *offered;
};

static unsigned dialled; /* now: each will want an errand */

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) < 0 ? 0 : cookie;
}

/* It counts no more, and is freed unless an errand has it. */
static void end_spare(struct spare *s)
{
	struct host *h = s->host;

	h->connections--;
	h->broker->spares--;
	if (h->spares.making == s) {
		h->spares.making = NULL;
	} else {
		DL_DELETE(h->spares.ready, s);
		h->spares.ready_count--;
	}
	if (s->dial)
		dialled--;
	dial_give_up(&s->dial);
	watch_end(&s->watch);
	fd_drop(&s->fd);
	s->host = NULL;
	if (s->with_errand)
		return;
	free(s->offered);
	free(s);
}

/* One came to nothing. */
static void note_failure(struct host *h)
{
	struct spares *of = &h->spares;

	of->pause_until = clock_ms() + ((int64_t)PAUSE_MS << of->failures);
	if (of->failures < PAUSE_DOUBLES)
		of->failures++;
}

static void fail(struct spare *s)
{
	note_failure(s->host);
	end_spare(s);
}

static void on_event(void *context, uint32_t events)
{
	struct spare *s = context;
	struct host *h = s->host;

	(void)events;
	state_count(h->broker->state, COUNTER_spares_died, 1);
	log_printf(LOG_INFO, "spare connection %llu to %s closed: the mail host sent something "
			     "or hung up",
		   (unsigned long long)s->id, h->label);
	fail(s);
}

/* The errand has brought it back: from now on it waits. 0 or -errno. */
static int begin_waiting(struct spare *s, int *fd, struct span offered)
{
	struct host *h = s->host;

	if (offered.n == 0 || offered.n > OFFERED_MOST)
		return -EMSGSIZE;
	s->offered = malloc(offered.n + 1);
	if (!s->offered)
		return -ENOMEM;
	memcpy(s->offered, offered.p, offered.n);
	s->offered[offered.n] = '\0';
	int r = loop_watch(h->broker->loop, *fd, EPOLLIN | EPOLLRDHUP, on_event, s, &s->watch);

	if (r < 0)
		return r;
	s->fd = take_fd(fd);
	h->spares.making = NULL;
	DL_APPEND(h->spares.ready, s);
	h->spares.ready_count++;
	return 0;
}

static int on_greeted(void *context, enum errand_verdict verdict, enum response_code code, int *fd,
		      struct span offered)
{
	struct spare *s = context;
	bool same = *fd >= 0 && s->cookie != 0 && cookie_of(*fd) == s->cookie;
	int r = *fd >= 0 && !same ? -EBADF : 0;

	(void)code;
	s->with_errand = false;
	if (!s->host)
		free(s);
	else if (verdict != VERDICT_ACCEPTED || !same || begin_waiting(s, fd, offered) < 0)
		fail(s);
	return r;
}

static void on_dialled(void *context, int fd, const char *why)
{
	struct spare *s = context;
	AUTO_FD owned = fd;

	(void)why; /* host_failed() has logged it */
	s->dial = NULL;
	dialled--;
	if (fd < 0) {
		fail(s);
		return;
	}
	s->cookie = cookie_of(fd);
	s->born = clock_ms();
	if (errand_greet(s->host->broker, s->host, s->id, fd, on_greeted, s) == 0)
		s->with_errand = true;
	else
		fail(s);
}

static bool is_wanted(const struct host *h, int64_t now)
{
	const struct broker *b = h->broker;
	const struct spares *of = &h->spares;

	return h->service == SERVICE_IMAP && !of->making &&
	       of->ready_count < b->config.spare_backend_connections &&
	       of->used > 0 && now - of->used < USED_MS && now >= of->pause_until &&
	       host_is_open(h) && host_is_up(h) && host_is_current(h) && !b->stopping &&
	       !b->retiring && !b->restarting &&
	       errand_room(b) > ERRANDS_LEFT + dialled && connection_has_free_room(b, h);
}

static void begin_making(struct host *h)
{
	struct broker *b = h->broker;
	struct spare *s = calloc(1, sizeof(*s));

	if (!s)
		return;
	*s = (struct spare){ .host = h, .fd = -1, .id = b->next_id++ };
	h->spares.making = s;
	h->connections++;
	b->spares++;
	if (dial_start(b, h, on_dialled, s, &s->dial) < 0)
		fail(s);
	else
		dialled++;
}

static bool is_too_old(const struct spare *s, int64_t now)
{
	return now - s->born >= (int64_t)s->host->broker->config.spare_backend_age * 1000;
}

void spares_tick(struct broker *b)
{
	int64_t now = clock_ms();

	for (struct host *h = b->hosts; h; h = h->next) {
		while (h->spares.ready && is_too_old(h->spares.ready, now)) {
			h->spares.failures = 0; /* the mail host has let it live */
			end_spare(h->spares.ready);
		}
		if (is_wanted(h, now))
			begin_making(h);
	}
}

static bool is_silent(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

bool spares_take(struct host *h, int *ret_fd, char **ret_offered)
{
	int64_t now = clock_ms();

	while (h->spares.ready) {
		struct spare *s = h->spares.ready->prev; /* utlist: the last one */

		if (is_too_old(s, now)) {
			end_spare(s);
			continue;
		}
		watch_end(&s->watch);
		if (!is_silent(s->fd)) {
			on_event(s, EPOLLIN);
			continue;
		}
		*ret_fd = take_fd(&s->fd);
		*ret_offered = s->offered;
		s->offered = NULL;
		h->spares.failures = 0;
		end_spare(s);
		state_count(h->broker->state, COUNTER_spares_taken, 1);
		return true;
	}
	return false;
}

void spares_died(struct host *h)
{
	state_count(h->broker->state, COUNTER_spares_died, 1);
	note_failure(h);
	spares_flush(h);
}

bool spares_drop(struct broker *b, const struct host *host)
{
	for (struct host *h = b->hosts; h; h = h->next) {
		struct spare *s = h->spares.ready ? h->spares.ready : h->spares.making;

		if (!s || (host && h != host))
			continue;
		end_spare(s);
		return true;
	}
	return false;
}

void spares_flush(struct host *h)
{
	while (h->spares.ready)
		end_spare(h->spares.ready);
	if (h->spares.making)
		end_spare(h->spares.making);
}

void spares_flush_all(struct broker *b)
{
	for (struct host *h = b->hosts; h; h = h->next)
		spares_flush(h);
}

unsigned spares_count(const struct host *h)
{
	return h->spares.ready_count + (h->spares.making ? 1 : 0);
}

unsigned spares_ready(const struct broker *b)
{
	unsigned count = 0;

	for (const struct host *h = b->hosts; h; h = h->next)
		count += h->spares.ready_count;
	return count;
}
