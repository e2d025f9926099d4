/* The event loop of the broker: sd-event for timers and signals, and an epoll descriptor of our own
 * for the rest, behind a few functions, so that one file knows libsystemd.
 *
 * Call-backs never free what the loop may still touch: an object that ends is buried with
 * loop_bury() and freed when the dispatch is over.
 */
#ifndef CACHEBROKERD_LOOP_H
#define CACHEBROKERD_LOOP_H

#include <stdint.h>

struct loop;
struct watch; /* a watched descriptor */
struct timer; /* one that has not fired yet */

typedef void watch_fn(void *context, uint32_t epoll_events);
typedef void timer_fn(void *context);
typedef void signal_fn(void *context, int number);

/* 0 or -errno. */
int loop_new(struct loop **ret);
void loop_free(struct loop *l);

/* Calls fn whenever fd is ready for events (EPOLLIN ...). fd stays the caller's; watch_end() must
 * come before it is closed or passed on. */
int loop_watch(struct loop *l, int fd, uint32_t events, watch_fn *fn, void *context,
	       struct watch **ret);

/* Ends the watching; no call-back comes any more, not even one of the same dispatch. NULL is
 * allowed; *w becomes NULL. */
void watch_end(struct watch **w);

/* Changes the events. */
int watch_events(struct watch *w, uint32_t events);

/* Calls fn once, in so many milliseconds; then the timer is gone and *slot, where it stands, is
 * NULL. */
int loop_timer(struct loop *l, int64_t milliseconds, timer_fn *fn, void *context,
	       struct timer **slot);
void timer_end(struct timer **t);

/* Calls fn for this signal, before whatever else has happened meanwhile. */
int loop_signal(struct loop *l, int number, signal_fn *fn, void *context);

/* Frees object with fn when the dispatch that runs now is over. */
void loop_bury(struct loop *l, void *object, void (*fn)(void *object));

/* Runs until loop_end(). Returns its status. */
int loop_run(struct loop *l);
void loop_end(struct loop *l, int status);

#endif
