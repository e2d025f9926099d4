/* A look-up worker. It may block in a resolver or a directory for as long as that takes; the broker
 * never does, and has one question out per worker. When the broker goes away the worker waits for
 * the next one: the pause grows from 50 ms to 1 s, because a broker that was restarted is back
 * within milliseconds, and one that is not will not be hurried. After SIGUSR2 there is no next one:
 * who listens there then has look-ups of its own.
 */
#include "lookupd/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "lookupd/challenge.h"

#define PAUSE_LEAST_MS 50
#define PAUSE_MOST_MS  1000

static volatile sig_atomic_t orphaned;

static void on_orphaned(int number)
{
	(void)number;
	orphaned = 1;
}

void worker_watch_signals(void)
{
	const struct sigaction action = { .sa_handler = on_orphaned, .sa_flags = SA_RESTART };

	(void)sigaction(SIGUSR2, &action, NULL);
}

int worker_answer(struct directories *d, const struct msg *question, union worker_texts *texts,
		  struct msg *answer)
{
	answer->serial = question->serial;
	switch (question->type) {
	case MSG_LOOKUP:
		answer->type = MSG_ACCOUNT;
		directories_answer(d, &question->LOOKUP, &texts->account, &answer->ACCOUNT);
		return 0;
	case MSG_RESOLVE:
		answer->type = MSG_ADDRESSES;
		resolve_answer(&question->RESOLVE, texts->addresses, &answer->ADDRESSES);
		return 0;
	default:
		return -EINVAL;
	}
}

/* What a worker knows while it lives. */
struct worker {
	struct directories *directories;
	struct challenges *challenges;
};

/* A step with a client that is challenged, and its answer. */
static int answer_step(struct worker *w, const struct msg *step, int sock)
{
	static struct challenge_texts texts;
	struct msg answer = { .type = MSG_AUTH_STEP, .serial = step->serial };

	challenges_answer(w->challenges, w->directories, clock_ms(), &step->AUTH_STEP, &texts,
			  &answer.AUTH_STEP);
	return msgsock_send(sock, &answer, -1);
}

/* Receives one question and answers it. Returns 0, also when nothing was there, or -errno. */
static int serve_one(struct worker *w, int sock)
{
	static char data[MSG_MAX];
	static union worker_texts texts;
	struct msg question, answer;
	int fd = -1;
	int r = msgsock_receive(sock, ROLE_BROKER, data, &question, &fd);

	fd_drop(&fd);
	if (r < 0) {
		explicit_bzero(data, sizeof(data));
		return r == -EAGAIN ? 0 : r;
	}
	if (question.type == MSG_AUTH_STEP) {
		r = answer_step(w, &question, sock);
	} else {
		r = worker_answer(w->directories, &question, &texts, &answer);
		if (r == 0)
			r = msgsock_send(sock, &answer, -1);
	}
	explicit_bzero(data, sizeof(data));
	explicit_bzero(&texts, sizeof(texts));
	return r;
}

static int serve(struct worker *w, int sock)
{
	const struct msg ready = {.type = MSG_WORKER};
	struct pollfd wait = {.fd = sock, .events = POLLIN};
	int r = msgsock_send(sock, &ready, -1);

	while (r == 0)
		if (poll(&wait, 1, -1) > 0)
			r = serve_one(w, sock);
	return r;
}

/* Connects and serves until the broker is gone. Returns whether it was there; says so once when it
 * was not for a while, and when it is back. */
static bool serve_once(struct worker *w, const char *socket_path, bool *missed, bool is_late)
{
	AUTO_FD sock = msgsock_connect(socket_path);

	if (orphaned)
		return false; /* whoever that is, it is not our broker any more */
	if (sock < 0) {
		if (is_late && !*missed)
			log_printf(LOG_WARNING, "no broker at %s: %s; waiting for it", socket_path,
				   strerror(-sock));
		*missed = *missed || is_late;
		return false;
	}
	if (*missed)
		log_printf(LOG_NOTICE, "the broker at %s is there", socket_path);
	*missed = false;
	int r = serve(w, sock);

	if (r != -ECONNRESET && r != -EPIPE)
		log_printf(LOG_WARNING, "the broker at %s: %s; connecting anew", socket_path,
			   strerror(-r));
	return true;
}

void worker_run(const struct config *c, const char *socket_path)
{
	struct worker w = { .challenges = challenges_new() };
	int pause = PAUSE_LEAST_MS;
	bool missed = false;

	if (!w.challenges || directories_new(c, &w.directories) < 0)
		return;
	while (!orphaned) {
		bool was_there = serve_once(&w, socket_path, &missed, pause == PAUSE_MOST_MS);

		if (was_there)
			pause = PAUSE_LEAST_MS;
		if (orphaned)
			break;
		(void)poll(NULL, 0, pause);
		pause = pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
	}
	directories_free(w.directories);
	challenges_free(w.challenges);
}
