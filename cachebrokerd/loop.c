/* The event loop: an epoll instance with all descriptors, and among them sd-event's own, which has
 * the signals and timers.
 *
 * sd-event asks the kernel again after each single event, and the kernel then looks at every
 * descriptor that is ready: with 32 busy sessions that was a third of the broker's CPU. So events
 * come in batches here. The trap of batches: an event may wait for a watch that an earlier one of
 * the same batch has ended; watch_end() strikes it out.
 *
 * sd-event is asked only when its descriptor is ready, or when a timer has come, for which the
 * kernel's must be set; one that goes may leave a wake-up for nothing behind. Its own watching of
 * our descriptor cost each turn a second epoll_wait(2) and some looks at clocks. The trap: its idea
 * of what time it is dates from when it was last asked, so timers are given as absolute times.
 *
 * A timer of 0 ms means "in a turn of its own" and is no timer of the kernel's: each login that
 * dials has one, and to arm, await and read that was a tenth of the broker's CPU.
 */
#include "cachebrokerd/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "lib/clock.h"

#define BATCH	64   /* then signals and timers have their turn */
#define LATE_US 1000 /* timers may be late together */

struct grave {
	struct grave *next;
	void *object;
	void (*fn)(void *object);
};

struct loop {
	sd_event *event;
	struct timer *soon, **soon_end; /* those of 0 ms, in their order */
	int epoll;
	unsigned asked;			 /* how often sd-event was */
	unsigned unarmed;		 /* timers that have come since, and have not gone */
	struct epoll_event batch[BATCH]; /* that is being dispatched; struck out: no pointer */
	int batch_count;
	struct grave *graves;
	bool ended;
	int status;
};

struct watch {
	struct loop *loop;
	int fd;
	watch_fn *fn;
	void *context;
};

struct timer {
	sd_event_source *source; /* NULL: it is to be called soon */
	struct loop *loop;
	struct timer *next; /* of those */
	timer_fn *fn;
	void *context;
	struct timer **slot;
	unsigned made; /* the loop's `asked` then */
};

struct signal_handler {
	signal_fn *fn;
	void *context;
};

static void bury_all(struct loop *l)
{
	while (l->graves) {
		struct grave *g = l->graves;

		l->graves = g->next;
		g->fn(g->object);
		free(g);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	bury_all(l);
	sd_event_unref(l->event);
	if (l->epoll >= 0)
		close(l->epoll);
	free(l);
}

/* What is due by sd-event is called, and its timers are set. In between it is always prepared. */
static int ask_sd_event(struct loop *l)
{
	int r = sd_event_wait(l->event, 0);

	do {
		if (r > 0)
			r = sd_event_dispatch(l->event);
		bury_all(l);
		if (r >= 0)
			r = sd_event_prepare(l->event);
	} while (r > 0 && !l->ended);
	l->unarmed = 0;
	l->asked++;
	return r;
}

static void dispatch_batch(struct loop *l)
{
	for (int i = 0; i < l->batch_count && !l->ended; i++) {
		struct watch *w = l->batch[i].data.ptr;

		if (w)
			w->fn(w->context, l->batch[i].events); /* may free w */
		bury_all(l);
	}
	l->batch_count = 0;
}

/* Signals come first: sd-event's descriptor, whose pointer is the loop itself, is struck out of the
 * batch, and behind a full one it may wait. */
static int take_batch(struct loop *l)
{
	bool is_due = false;
	int n = epoll_wait(l->epoll, l->batch, BATCH, l->soon ? 0 : -1);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++)
		if (l->batch[i].data.ptr == l) {
			l->batch[i].data.ptr = NULL;
			is_due = true;
		}
	l->batch_count = n;
	int r = is_due || n == BATCH ? ask_sd_event(l) : 0;

	dispatch_batch(l);
	return r;
}

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->soon_end = &l->soon;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	int r = l->epoll < 0 ? -errno : sd_event_new(&l->event);

	struct epoll_event event = { .events = EPOLLIN, .data = { .ptr = l } };

	if (r >= 0 && epoll_ctl(l->epoll, EPOLL_CTL_ADD, sd_event_get_fd(l->event), &event) < 0)
		r = -errno;
	if (r >= 0)
		r = sd_event_prepare(l->event);
	if (r < 0) {
		loop_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

int loop_watch(struct loop *l, int fd, uint32_t events, watch_fn *fn, void *context,
	       struct watch **ret)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct watch){ .loop = l, .fd = fd, .fn = fn, .context = context };
	struct epoll_event event = { .events = events, .data = { .ptr = w } };

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		int r = -errno;

		free(w);
		return r;
	}
	*ret = w;
	return 0;
}

void watch_end(struct watch **w)
{
	if (!*w)
		return;
	struct loop *l = (*w)->loop;

	(void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, (*w)->fd, NULL);
	for (int i = 0; i < l->batch_count; i++)
		if (l->batch[i].data.ptr == *w)
			l->batch[i].data.ptr = NULL;
	free(*w);
	*w = NULL;
}

int watch_events(struct watch *w, uint32_t events)
{
	struct epoll_event event = { .events = events, .data = { .ptr = w } };

	return epoll_ctl(w->loop->epoll, EPOLL_CTL_MOD, w->fd, &event) < 0 ? -errno : 0;
}

static void fire(struct timer *t)
{
	timer_fn *fn = t->fn;
	void *with = t->context;

	timer_end(t->slot);
	fn(with);
}

static int on_time(sd_event_source *source, uint64_t now, void *context)
{
	(void)source;
	(void)now;
	fire(context);
	return 0;
}

static void append_soon(struct timer *t)
{
	struct loop *l = t->loop;

	*l->soon_end = t;
	l->soon_end = &t->next;
}

static void strike_soon(const struct timer *t)
{
	struct loop *l = t->loop;
	struct timer **at = &l->soon;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	if (!*at)
		l->soon_end = at;
}

/* As many as there are when it begins: who asks for a turn again waits for the next one. */
static void fire_soon(struct loop *l)
{
	size_t count = 0;

	for (const struct timer *t = l->soon; t; t = t->next)
		count++;
	for (; count > 0 && l->soon && !l->ended; count--) {
		fire(l->soon);
		bury_all(l);
	}
}

int loop_timer(struct loop *l, int64_t milliseconds, timer_fn *fn, void *context,
	       struct timer **slot)
{
	struct timer *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	*t = (struct timer){
		.loop = l, .fn = fn, .context = context, .slot = slot, .made = l->asked
	};
	int r = 0;

	if (milliseconds > 0) {
		r = sd_event_add_time(l->event, &t->source, CLOCK_MONOTONIC,
				      (uint64_t)(clock_ms() + milliseconds) * 1000, LATE_US,
				      on_time, t);
		l->unarmed++;
	} else {
		append_soon(t);
	}
	if (r < 0) {
		free(t);
		return r;
	}
	*slot = t;
	return 0;
}

void timer_end(struct timer **t)
{
	if (!*t)
		return;
	if ((*t)->source) {
		sd_event_source_disable_unref((*t)->source);
		(*t)->loop->unarmed -= (*t)->made == (*t)->loop->asked;
	} else {
		strike_soon(*t);
	}
	free(*t);
	*t = NULL;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
	struct signal_handler *h = context;

	(void)source;
	h->fn(h->context, (int)info->ssi_signo);
	return 0;
}

static void destroy_handler(void *context)
{
	free(context);
}

int loop_signal(struct loop *l, int number, signal_fn *fn, void *context)
{
	struct signal_handler *h = calloc(1, sizeof(*h));
	sd_event_source *source = NULL;
	sigset_t set;

	if (!h)
		return -ENOMEM;
	*h = (struct signal_handler){ .fn = fn, .context = context };
	sigemptyset(&set);
	sigaddset(&set, number);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int r = sd_event_add_signal(l->event, &source, number, on_signal, h);

	if (r < 0) {
		free(h);
		return r;
	}
	sd_event_source_set_destroy_callback(source, destroy_handler);
	(void)sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IMPORTANT);
	sd_event_source_set_floating(source, true);
	sd_event_source_unref(source);
	return 0;
}

void loop_bury(struct loop *l, void *object, void (*fn)(void *object))
{
	struct grave *g = malloc(sizeof(*g));

	if (!g)
		return; /* leaked rather than freed too early */
	*g = (struct grave){ .next = l->graves, .object = object, .fn = fn };
	l->graves = g;
}

int loop_run(struct loop *l)
{
	while (!l->ended) {
		if (l->unarmed > 0 && ask_sd_event(l) < 0)
			return 1;
		if (!l->ended && take_batch(l) < 0)
			return 1;
		fire_soon(l);
	}
	return l->status;
}

void loop_end(struct loop *l, int status)
{
	l->ended = true;
	l->status = status;
}
