/* The protocol log's writer.
 *
 * Each traced session has a socket pair: its end takes records, the thread reads the other one and
 * writes each record with one call. The sockets are the queues: bounded by the kernel, and a
 * session that finds its own full goes on without waiting long (proxyd/tracer.c). The lock covers
 * the table of sessions and the list of jobs, never a call that may wait for the disk. A session
 * leaves by SHUT_RD, after which the queue can still be read to its end; only the thread closes. So
 * what the broker's thread finds in the table under the lock is open.
 */
#include "cachebrokerd/protocol_log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "cachebrokerd/protocol_file.h"
#include "cachebrokerd/protocol_text.h"
#include "lib/clock.h"
#include "lib/fd.h"

#define JOBS_MOST 64 /* that wait for the disk */
#define USER_MOST 255
#define WAKE	  PROTOCOL_SOURCES /* in place of a source's number */
#define A_TURN	  128		   /* records of one session when its queue is emptied */

struct source {
	int fd; /* -1: free */
	uint64_t number;
	size_t user_length;
	char user[USER_MOST];
};

struct job {
	struct job *next;
	enum protocol_job what;
	int result;
	protocol_done_fn *done;
	void *context;
	size_t user_length;
	char user[USER_MOST];
};

struct protocol_log {
	/* the broker's thread */
	struct loop *loop;
	struct watch *watch;
	protocol_failed_fn *on_failed;
	void *context;
	bool running;
	pthread_t writer;
	/* the writer */
	int file; /* -1: not open */
	/* both; fixed once it runs */
	char *path;
	uint32_t most; /* bytes in the file; 0: no bound */
	int epoll, wake, finished;
	/* both, under the lock */
	pthread_mutex_t lock;
	struct source sources[PROTOCOL_SOURCES];
	unsigned source_count;
	struct job *jobs, *done;
	unsigned job_count;
	int error;
	bool stop;
};

static const char *const notes[] = {
	[PROTOCOL_BEGIN] = "user tracing enabled.",
	[PROTOCOL_END] = "user tracing disabled. Expect further output until client logout.",
};

static struct span user_of(const struct source *s)
{
	return (struct span){ s->user, s->user_length };
}

static void ring(int fd)
{
	(void)eventfd_write(fd, 1);
}

/* --- the writer's thread ---------------------------------------------------------------- */

/* What was set under the lock can be seen behind it. */
static bool is_open(struct protocol_log *l, const struct source *s)
{
	pthread_mutex_lock(&l->lock);
	bool open = s->fd >= 0;

	pthread_mutex_unlock(&l->lock);
	return open;
}

static void close_source(struct protocol_log *l, struct source *s)
{
	pthread_mutex_lock(&l->lock);
	fd_drop(&s->fd);
	l->source_count--;
	pthread_mutex_unlock(&l->lock);
}

/* The disk says no: nobody is traced any more. */
static void give_up(struct protocol_log *l, int error)
{
	for (size_t i = 0; i < PROTOCOL_SOURCES; i++)
		if (is_open(l, &l->sources[i])) /* nobody else closes it */
			close_source(l, &l->sources[i]);
	fd_drop(&l->file);
	pthread_mutex_lock(&l->lock);
	l->error = error;
	pthread_mutex_unlock(&l->lock);
	ring(l->finished);
}

static int open_file(struct protocol_log *l)
{
	if (l->file < 0)
		l->file = protocol_file_open(l->path);
	return l->file < 0 ? l->file : 0;
}

static int append(struct protocol_log *l, const struct buf *record)
{
	int r = open_file(l);

	if (r == 0)
		r = protocol_file_append(l->file, buf_span(record), l->most);
	if (r < 0)
		give_up(l, r);
	return r;
}

/* One record of a session. 0, -EAGAIN, or -errno: the session is gone. */
static int take_record(struct protocol_log *l, struct source *s)
{
	static char received[sizeof(struct trace_head) + TRACE_BYTES], text[PROTOCOL_RECORD_MAX];
	struct buf record = BUF_OVER(text);
	struct trace_head head;
	ssize_t n = recv(s->fd, received, sizeof(received), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n < (ssize_t)sizeof(head) || n > (ssize_t)sizeof(received)) {
		close_source(l, s);
		return -ECONNRESET;
	}
	memcpy(&head, received, sizeof(head));
	struct span bytes = { received + sizeof(head), (size_t)n - sizeof(head) };
	int r = protocol_text_record(&record, clock_wall(), user_of(s), s->number, &head, bytes);

	if (r < 0) {
		close_source(l, s);
		return r;
	}
	return append(l, &record);
}

/* What has been said until now, of all sessions. */
static void take_all(struct protocol_log *l)
{
	for (size_t i = 0; i < PROTOCOL_SOURCES; i++)
		for (int n = 0; n < A_TURN && is_open(l, &l->sources[i]); n++)
			if (take_record(l, &l->sources[i]) < 0)
				break;
}

static int do_job(struct protocol_log *l, const struct job *job)
{
	static char text[PROTOCOL_RECORD_MAX];
	struct buf record = BUF_OVER(text);
	struct span user = { job->user, job->user_length };
	int r;

	if (job->what != PROTOCOL_BEGIN)
		take_all(l);
	if (job->what == PROTOCOL_CLEAR) {
		r = open_file(l);
		return r < 0 ? r : protocol_file_clear(l->file);
	}
	r = protocol_text_note(&record, clock_wall(), user, notes[job->what]);
	return r < 0 ? r : append(l, &record);
}

/* False: it is time to stop. */
static bool do_jobs(struct protocol_log *l)
{
	bool stop;

	pthread_mutex_lock(&l->lock);
	while (l->jobs) {
		struct job *job = l->jobs;

		l->jobs = job->next;
		pthread_mutex_unlock(&l->lock);
		job->result = do_job(l, job);
		pthread_mutex_lock(&l->lock);
		struct job **at = &l->done;

		while (*at)
			at = &(*at)->next;
		job->next = NULL;
		*at = job;
		ring(l->finished);
	}
	stop = l->stop;
	pthread_mutex_unlock(&l->lock);
	return !stop;
}

static void *write_records(void *argument)
{
	struct protocol_log *l = argument;
	struct epoll_event events[PROTOCOL_SOURCES + 1];
	eventfd_t count;

	do {
		int n = epoll_wait(l->epoll, events, PROTOCOL_SOURCES + 1, -1);

		(void)eventfd_read(l->wake, &count); /* first: what comes now rings again */
		if (!do_jobs(l))
			break;
		for (int i = 0; i < n; i++) {
			uint32_t which = events[i].data.u32;

			if (which != WAKE && is_open(l, &l->sources[which]))
				(void)take_record(l, &l->sources[which]);
		}
	} while (true);
	take_all(l);
	return NULL;
}

/* --- the broker's thread ---------------------------------------------------------------- */

static void on_finished(void *context, uint32_t events)
{
	struct protocol_log *l = context;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(l->finished, &count);
	pthread_mutex_lock(&l->lock);
	struct job *done = l->done;
	int error = l->error;

	l->done = NULL;
	l->error = 0;
	for (const struct job *job = done; job; job = job->next)
		l->job_count--;
	pthread_mutex_unlock(&l->lock);
	while (done) {
		struct job *job = done;

		done = job->next;
		if (job->done)
			job->done(job->context, job->result);
		free(job);
	}
	if (error != 0)
		l->on_failed(l->context, error);
}

static int watch_wake(struct protocol_log *l)
{
	struct epoll_event event = { .events = EPOLLIN, .data = { .u32 = WAKE } };

	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &event) < 0 ? -errno : 0;
}

static int make_descriptors(struct protocol_log *l)
{
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->finished = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epoll < 0 || l->wake < 0 || l->finished < 0)
		return -errno;
	int r = watch_wake(l);

	return r < 0 ? r : loop_watch(l->loop, l->finished, EPOLLIN, on_finished, l, &l->watch);
}

static void close_descriptors(struct protocol_log *l)
{
	watch_end(&l->watch);
	fd_drop(&l->epoll);
	fd_drop(&l->wake);
	fd_drop(&l->finished);
}

/* The thread gets no signal: the loop's are not for it. */
static int start_writer(struct protocol_log *l)
{
	sigset_t all, before;

	if (l->running)
		return 0;
	int r = make_descriptors(l);

	if (r == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		r = -pthread_create(&l->writer, NULL, write_records, l);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	if (r < 0)
		close_descriptors(l);
	l->running = r == 0;
	return r;
}

struct protocol_log *protocol_log_new(struct loop *loop, const char *path, uint32_t most,
				      protocol_failed_fn *on_failed, void *context)
{
	struct protocol_log *l = calloc(1, sizeof(*l));

	if (!l || !(l->path = strdup(path))) {
		free(l);
		return NULL;
	}
	l->loop = loop;
	l->most = most;
	l->on_failed = on_failed;
	l->context = context;
	l->file = l->epoll = l->wake = l->finished = -1;
	for (size_t i = 0; i < PROTOCOL_SOURCES; i++)
		l->sources[i].fd = -1;
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

static void free_jobs(struct job *job)
{
	while (job) {
		struct job *next = job->next;

		free(job);
		job = next;
	}
}

void protocol_log_free(struct protocol_log *l)
{
	if (!l)
		return;
	if (l->running) {
		pthread_mutex_lock(&l->lock);
		l->stop = true;
		pthread_mutex_unlock(&l->lock);
		ring(l->wake);
		pthread_join(l->writer, NULL);
	}
	for (size_t i = 0; i < PROTOCOL_SOURCES; i++)
		fd_drop(&l->sources[i].fd);
	close_descriptors(l);
	fd_drop(&l->file);
	free_jobs(l->jobs);
	free_jobs(l->done);
	pthread_mutex_destroy(&l->lock);
	free(l->path);
	free(l);
}

int protocol_log_ask(struct protocol_log *l, enum protocol_job what, struct span user,
		     protocol_done_fn *done, void *context)
{
	int r = user.n > USER_MOST ? -EINVAL : start_writer(l);
	struct job *job = r < 0 ? NULL : calloc(1, sizeof(*job));

	if (!job)
		return r < 0 ? r : -ENOMEM;
	*job = (struct job){
		.what = what, .done = done, .context = context, .user_length = user.n
	};
	memcpy(job->user, user.p, user.n);
	pthread_mutex_lock(&l->lock);
	struct job **at = &l->jobs;

	while (*at)
		at = &(*at)->next;
	bool full = l->job_count == JOBS_MOST;

	if (!full) {
		*at = job;
		l->job_count++;
	}
	pthread_mutex_unlock(&l->lock);
	if (full) {
		free(job);
		return -EBUSY;
	}
	ring(l->wake);
	return 0;
}

static struct source *free_source(struct protocol_log *l)
{
	for (size_t i = 0; i < PROTOCOL_SOURCES; i++)
		if (l->sources[i].fd < 0)
			return &l->sources[i];
	return NULL;
}

static int add_source(struct protocol_log *l, int fd, uint64_t number, struct span user)
{
	struct source *s = free_source(l);

	if (!s)
		return -EBUSY;
	struct epoll_event event = { .events = EPOLLIN,
				     .data = { .u32 = (uint32_t)(s - l->sources) } };

	*s = (struct source){ .fd = fd, .number = number, .user_length = user.n };
	memcpy(s->user, user.p, user.n);
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		s->fd = -1;
		return -errno;
	}
	l->source_count++;
	return 0;
}

int protocol_log_join(struct protocol_log *l, uint64_t number, struct span user, int *ret_fd)
{
	int pair[2], r = user.n > USER_MOST ? -EINVAL : start_writer(l);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	AUTO_FD ours = pair[0];
	AUTO_FD theirs = pair[1];

	(void)shutdown(ours, SHUT_WR); /* they have nothing to read */
	pthread_mutex_lock(&l->lock);
	r = add_source(l, ours, number, user);
	pthread_mutex_unlock(&l->lock);
	if (r < 0)
		return r;
	(void)take_fd(&ours);
	*ret_fd = take_fd(&theirs);
	return 0;
}

/* SHUT_RD: a session's next record fails, and what is in the queue can still be read. */
static void leave(struct protocol_log *l, bool by_number, uint64_t number, struct span user)
{
	if (!l->running)
		return;
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; l->source_count > 0 && i < PROTOCOL_SOURCES; i++) {
		struct source *s = &l->sources[i];

		if (s->fd >= 0 && (by_number ? s->number == number : span_eq(user_of(s), user)))
			(void)shutdown(s->fd, SHUT_RD);
	}
	pthread_mutex_unlock(&l->lock);
}

void protocol_log_leave(struct protocol_log *l, uint64_t number)
{
	leave(l, true, number, SPAN_NONE);
}

void protocol_log_leave_user(struct protocol_log *l, struct span user)
{
	leave(l, false, 0, user);
}
