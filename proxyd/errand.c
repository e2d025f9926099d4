/* Errands: what the broker wants said to a mail host, since it speaks no IMAP itself.
 *
 * The process is locked up like a session's before it takes its job: what the job holds (later on a
 * master's secret) is only ever in a process that cannot pass it on, and that reads bytes of no
 * client. One deadline and one bound on what is read hold for the whole job, so that a mail host
 * that is stuck or never ends keeps nothing but this process, and that not for long. The broker's
 * death is no reason to stop: the job is finished, its outcome goes nowhere.
 */
#include "proxyd/errand.h"

#include <errno.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/ids.h"
#include "lib/large.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "proxyd/backend.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"

#define JOB_TIMEOUT 10000	/* ms for the job, which is there already, to arrive */
#define READ_MOST   (64 * 1024) /* bytes of a mail host's answers */
#define BUFFER	    (16 * 1024)

/* Reads until the tagged completion. 1: OK, 0: the mail host has closed, -EPROTO: NO or BAD,
 * -EMSGSIZE: it says too much, -errno. */
static int await_completion(struct backend *b, const struct tag *tag, int64_t deadline)
{
	struct span line, status;
	size_t read = 0;

	while (read < READ_MOST) {
		int r = backend_next(b, deadline, &line);

		if (r < 0)
			return r == -ECONNRESET && b->in.len == 0 ? 0 : r;
		if (tag_completes(tag, line, &status))
			return span_istarts(status, SPAN("OK")) ? 1 : -EPROTO;
		read += b->taken;
		backend_taken(b);
	}
	return -EMSGSIZE;
}

/* That the mail host closes instead of answering to the end is what LOGOUT is for, too. */
static int say_logout(struct backend *b, int64_t deadline)
{
	struct tag tag = tag_random();
	char bytes[40];
	struct buf out = BUF_OVER(bytes);
	int r;

	(void)((r = buf_add(&out, tag_span(&tag))) || (r = buf_add_str(&out, " LOGOUT\r\n")) ||
	       (r = io_write(b->fd, buf_span(&out), deadline)));
	return r < 0 ? r : await_completion(b, &tag, deadline);
}

static const struct {
	enum msg_job kind;
	int (*run)(struct backend *b, int64_t deadline); /* negative: it went badly */
} jobs[] = {
	{ JOB_LOGOUT, say_logout },
};

static int run_job(const struct msg_JOB *job, int fd)
{
	static LARGE char from_backend[BUFFER];
	static LARGE struct backend b;
	int64_t deadline = clock_ms() + (int64_t)job->timeout * 1000;
	int r = -EOPNOTSUPP;

	b.fd = fd;
	b.in = BUF_OVER(from_backend);
	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		if (jobs[i].kind == job->kind)
			r = jobs[i].run(&b, deadline);
	backend_close(&b, false);
	return r;
}

/* Takes the job and does it. 0, or -errno when there was none. */
static int serve(int link)
{
	static LARGE char received[MSG_MAX];
	struct msg job, done = { .type = MSG_DONE };
	int fd = -1, r;

	while ((r = msgsock_receive(link, ROLE_BROKER, received, &job, &fd)) == -EAGAIN)
		if ((r = io_wait(link, POLLIN, clock_ms() + JOB_TIMEOUT)) < 0)
			break;
	if (r < 0 || job.type != MSG_JOB) {
		fd_drop(&fd);
		return r < 0 ? r : -EPROTO;
	}
	r = run_job(&job.JOB, fd);
	explicit_bzero(received, sizeof(received));
	done.DONE.outcome = r < 0 ? DONE_BADLY : DONE_WELL;
	(void)msgsock_send(link, &done, -1); /* a broker that is gone does not mind */
	return 0;
}

static int lock_up(int *link, const struct msg_ERRAND *start)
{
	int log = log_socket(), no_client = -1, no_door = -1;
	int r = geteuid() == 0 ? ids_drop(start->uid, start->gid) : 0;

	if (r == 0)
		r = jail_enter(&no_client, &no_door, link, &log);
	log_set_socket(log);
	return r;
}

int errand_run(int link, const struct msg_ERRAND *start)
{
	log_limits((int)start->log_facility, (int)start->log_priority);
	io_init();
	int r = lock_up(&link, start);

	if (r < 0)
		log_printf(LOG_ERR, "an errand cannot be locked up: %s", strerror(-r));
	else
		r = serve(link);
	fd_drop(&link);
	return r < 0 ? 1 : 0;
}
