/* Errands: what the broker wants said to a mail host, since it speaks neither IMAP nor POP3 itself.
 *
 * The process is locked up like a session's before it takes its job: what the job holds (a
 * password) is only ever in a process that cannot pass it on, and that reads bytes of no client.
 * One deadline and one bound on what is read hold for the whole job, so that a mail host that is
 * stuck or never ends keeps nothing but this process, and that not for long. The broker's death is
 * no reason to stop: the job is finished, its outcome goes nowhere.
 */
#include "proxyd/errand.h"

#include <errno.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/codes.h"
#include "lib/fd.h"
#include "lib/ids.h"
#include "lib/large.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "proxyd/backend.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"
#include "proxyd/pop3_backend.h"

#define JOB_TIMEOUT 10000	/* ms for the job, which is there already, to arrive */
#define READ_MOST   (64 * 1024) /* bytes of a mail host's answers */
#define BUFFER	    (16 * 1024)

/* The job, and what comes of it. */
struct work {
	const struct msg_JOB *job;
	struct backend b;
	int64_t deadline;
	struct msg last_word; /* DONE; or PROVEN, with the connection */
};

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
static int say_logout(struct work *w)
{
	struct backend *b = &w->b;
	int64_t deadline = w->deadline;
	struct tag tag = tag_random();
	char bytes[40];
	struct buf out = BUF_OVER(bytes);
	int r;

	(void)((r = buf_add(&out, tag_span(&tag))) || (r = buf_add_str(&out, " LOGOUT\r\n")) ||
	       (r = io_write(b->fd, buf_span(&out), deadline)));
	return r < 0 ? r : await_completion(b, &tag, deadline);
}

static int copy(struct span from, char *to, size_t cap, size_t *ret_length)
{
	if (from.n > cap)
		return -EMSGSIZE;
	memcpy(to, from.p, from.n);
	*ret_length = from.n;
	return 0;
}

/* Of a name or password no server makes anything but an end, and PLAIN the next field. */
static bool has_nul(struct span text)
{
	return memchr(text.p, '\0', text.n) != NULL;
}

/* Proves a password. What the mail host says besides is of no use to who gets the connection: then
 * it is not handed on, only the verdict. */
static int log_in(struct work *w)
{
	static LARGE struct credentials c;
	struct backend *b = &w->b;
	const struct backend_account account = { .credentials = &c,
						 .preauth = w->job->preauth_command,
						 .caller = { .tell = w->job->tell_client,
							     .hops = w->job->hops,
							     .client = w->job->client,
							     .client_port = w->job->client_port,
							     .local = w->job->local,
							     .local_port = w->job->local_port },
						 .timeout = w->job->timeout / 2 }; /* a step */
	struct backend_answer answer;
	int r;

	(void)((r = copy(w->job->backend_user, b->user, sizeof(b->user), &b->user_length)) ||
	       (r = copy(w->job->authzid, c.authzid, sizeof(c.authzid), &c.authzid_length)) ||
	       (r = copy(w->job->secret, c.secret, sizeof(c.secret), &c.secret_length)));
	if (r == 0 && (has_nul(w->job->backend_user) || has_nul(w->job->authzid) ||
		       has_nul(w->job->secret)))
		r = -EINVAL;
	if (r < 0)
		return r;
	enum backend_verdict verdict = w->job->service == SERVICE_POP3
					       ? pop3_backend_log_in(b, &account, &answer)
					       : backend_log_in(b, &account, &answer);

	explicit_bzero(&c, sizeof(c));
	if (verdict != BACKEND_ACCEPTED) {
		w->last_word.DONE.outcome = answer.wrong ? DONE_REFUSED : DONE_BADLY;
		w->last_word.DONE.code = code_of(answer.code);
	} else if (b->in.len == 0) {
		w->last_word = (struct msg){ .type = MSG_PROVEN };
		w->last_word.PROVEN.capabilities =
			(struct span){ b->capabilities, b->capabilities_length };
	}
	return 0;
}

/* Has a connection ready for a login that will come. */
static int greet(struct work *w)
{
	struct backend *b = &w->b;
	int r = backend_greet(b, w->job->timeout / 2);

	if (r == 0 && b->in.len > 0)
		r = -EPROTO;
	if (r == 0) {
		w->last_word = (struct msg){ .type = MSG_PROVEN };
		w->last_word.PROVEN.capabilities =
			(struct span){ b->capabilities, b->capabilities_length };
	}
	return r;
}

/* Of POP3 no connection is cached, nor does one wait for its login. */
static const struct {
	enum msg_job kind;
	enum msg_service service;
	int (*run)(struct work *w); /* negative: it went badly */
} jobs[] = {
	{ JOB_LOGOUT, SERVICE_IMAP, say_logout },
	{ JOB_LOGIN, SERVICE_IMAP, log_in },
	{ JOB_LOGIN, SERVICE_POP3, log_in },
	{ JOB_GREET, SERVICE_IMAP, greet },
};

static void run_job(struct work *w)
{
	int r = -EOPNOTSUPP;

	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		if (jobs[i].kind == w->job->kind && jobs[i].service == w->job->service)
			r = jobs[i].run(w);
	if (r < 0)
		w->last_word.DONE.outcome = DONE_BADLY;
}

/* Takes the job and does it. 0, or -errno when there was none. */
static int serve(int link)
{
	static LARGE char received[MSG_MAX], from_backend[BUFFER];
	static LARGE struct work w;
	struct msg job;
	int fd = -1, r;

	while ((r = msgsock_receive(link, ROLE_BROKER, received, &job, &fd)) == -EAGAIN)
		if ((r = io_wait(link, POLLIN, clock_ms() + JOB_TIMEOUT)) < 0)
			break;
	if (r < 0 || job.type != MSG_JOB) {
		fd_drop(&fd);
		return r < 0 ? r : -EPROTO;
	}
	w.job = &job.JOB;
	w.b.fd = fd;
	w.b.in = BUF_OVER(from_backend);
	w.b.greeted = job.JOB.greeted;
	(void)copy(job.JOB.offered, w.b.capabilities, sizeof(w.b.capabilities),
		   &w.b.capabilities_length);
	w.deadline = clock_ms() + (int64_t)job.JOB.timeout * 1000;
	w.last_word = (struct msg){ .type = MSG_DONE, .DONE = { .outcome = DONE_WELL } };
	run_job(&w);
	explicit_bzero(received, sizeof(received));
	(void)msgsock_send(link, &w.last_word, fd); /* a broker that is gone does not mind */
	backend_close(&w.b, false);
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
