/* A directory that says a byte now and then keeps every library reading: each single read is in
 * time, the answer never comes. What no driver can bound is bounded here, by the one means that
 * needs none of the libraries' cooperation: the process ends. Its exit status says which directory
 * it was, so that the master can say so and the processes that it forks next do not walk into the
 * same trap at once; else the directory would cost a fork for each question.
 */
#include "lookupd/patience.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/config.h"

#define EXIT_HELD_UP   64 /* and the directory's number */
#define PAUSE_LEAST_MS 2000
#define PAUSE_MOST_MS  32000
#define FORGOTTEN_MS   120000

static bool watched;
static volatile sig_atomic_t asked;

static struct {
	int64_t until, pause_ms; /* monotonic */
} held_up[CONFIG_LIST_MOST];

/* Whatever the driver was about stays as it is: nothing of this process is used any more. */
static void on_alarm(int number)
{
	(void)number;
	_exit(EXIT_HELD_UP + (int)asked);
}

void patience_watch(void)
{
	const struct sigaction action = { .sa_handler = on_alarm };

	watched = sigaction(SIGALRM, &action, NULL) == 0;
}

void patience_begin(size_t n)
{
	asked = (sig_atomic_t)n;
	if (watched)
		(void)alarm(PATIENCE_SECONDS);
}

void patience_end(void)
{
	if (watched)
		(void)alarm(0);
}

int patience_cause(int exit_status)
{
	int n = exit_status - EXIT_HELD_UP;

	return n >= 0 && n < CONFIG_LIST_MOST ? n : -1;
}

int64_t patience_note(size_t n)
{
	int64_t now_ms = clock_ms(), pause_ms = held_up[n].pause_ms * 2;

	if (now_ms > held_up[n].until + FORGOTTEN_MS || pause_ms < PAUSE_LEAST_MS)
		pause_ms = PAUSE_LEAST_MS;
	else if (now_ms < held_up[n].until)
		pause_ms = held_up[n].pause_ms; /* one of those that were held up together */
	if (pause_ms > PAUSE_MOST_MS)
		pause_ms = PAUSE_MOST_MS;
	held_up[n].pause_ms = pause_ms;
	held_up[n].until = now_ms + pause_ms;
	return pause_ms;
}

void patience_forget(void)
{
	memset(held_up, 0, sizeof(held_up));
}

bool patience_is_back(size_t n)
{
	return clock_ms() >= held_up[n].until;
}
