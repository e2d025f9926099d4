/* Questions about accounts to lookupd's workers, without a broker: this takes the broker's place.
 *
 * It listens where the workers look for the broker, waits until so many are there, and then keeps
 * one question out with each, as the broker does; which account is asked about is drawn at random,
 * each with the same probability. Every answer must name a mail host: a fast "unknown" is an error.
 * Prints one JSON object on one line; latencies are in microseconds.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bench/hist.h"
#include "lib/buf.h"
#include "lib/fd.h"
#include "lib/msgsock.h"

#define SECOND	     1000000u
#define WORKERS_MOST 64
#define PATIENCE_MS  10000

static struct {
	const char *path;
	const char *user; /* '%' stands for the number */
	unsigned workers;
	unsigned users;
	uint64_t seconds;
} options = { .user = "user%", .workers = 1, .users = 1000, .seconds = 2 };

static struct {
	int listener;
	struct pollfd workers[WORKERS_MOST];
	uint64_t asked_at[WORKERS_MOST];
	uint32_t serial[WORKERS_MOST];
	uint64_t seed;
	uint64_t answers;
	uint64_t errors;
	struct hist took;
} state = { .seed = 1 };

static char received[MSG_MAX];

static _Noreturn void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-error));
	exit(1);
}

static int listen_on(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, WORKERS_MOST) < 0)
		return -errno;
	return take_fd(&fd);
}

static void await(struct pollfd *fds, unsigned count)
{
	int n = poll(fds, count, PATIENCE_MS);

	if (n <= 0)
		die("lookupd", n < 0 ? -errno : -ETIMEDOUT);
}

/* Waits for a worker, and for its first word. */
static void take_worker(unsigned n)
{
	struct pollfd door = { .fd = state.listener, .events = POLLIN };
	struct msg m;
	int fd = -1;

	await(&door, 1);
	int sock = accept4(state.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		die("accept", -errno);
	state.workers[n] = (struct pollfd){ .fd = sock, .events = POLLIN };
	await(&state.workers[n], 1);
	int r = msgsock_receive(sock, ROLE_LOOKUP, received, &m, &fd);

	fd_drop(&fd);
	if (r < 0 || m.type != MSG_WORKER)
		die("a worker's first word", r < 0 ? r : -EPROTO);
}

static unsigned draw_user(void)
{
	state.seed ^= state.seed >> 12;
	state.seed ^= state.seed << 25;
	state.seed ^= state.seed >> 27;
	return (unsigned)((state.seed * 2685821657736338717u) >> 33) % options.users + 1;
}

static void ask(unsigned n)
{
	char bytes[512];
	struct buf user = BUF_OVER(bytes);
	unsigned number = draw_user();
	int r = 0;

	for (const char *p = options.user; *p && r == 0; p++)
		r = *p == '%' ? buf_add_u64(&user, number) : buf_add_char(&user, *p);
	const struct msg m = { .type = MSG_LOOKUP,
			       .serial = ++state.serial[n],
			       .LOOKUP = { .service = SERVICE_IMAP,
					   .client = SPAN("127.0.0.1"),
					   .user = buf_span(&user),
					   .secret = SPAN_NONE } };

	state.asked_at[n] = hist_now();
	r = r ?: msgsock_send(state.workers[n].fd, &m, -1);
	if (r < 0)
		die("a question", r);
}

static void take_answer(unsigned n)
{
	struct msg m;
	int fd = -1;
	int r = msgsock_receive(state.workers[n].fd, ROLE_LOOKUP, received, &m, &fd);

	fd_drop(&fd);
	if (r < 0 || m.type != MSG_ACCOUNT || m.serial != state.serial[n])
		die("an answer", r < 0 ? r : -EPROTO);
	hist_add(&state.took, hist_now() - state.asked_at[n]);
	state.answers++;
	if (m.ACCOUNT.status != ACCOUNT_FOUND || m.ACCOUNT.hosts.n == 0)
		state.errors++;
}

static uint64_t run(void)
{
	uint64_t begin = hist_now(), now = begin;

	for (unsigned n = 0; n < options.workers; n++)
		ask(n);
	while (now < begin + options.seconds * SECOND) {
		await(state.workers, options.workers);
		for (unsigned n = 0; n < options.workers; n++) {
			if (state.workers[n].revents == 0)
				continue;
			take_answer(n);
			ask(n);
		}
		now = hist_now();
	}
	return now - begin;
}

static int read_options(int argc, char **argv)
{
	uint64_t workers = options.workers, users = options.users;
	int option;

	while ((option = getopt(argc, argv, "s:k:n:u:t:")) != -1) {
		if (option == 's')
			options.path = optarg;
		else if (option == 'u')
			options.user = optarg;
		else if ((option != 'k' ||
			  span_u64(span_str(optarg), WORKERS_MOST, &workers) < 0) &&
			 (option != 'n' || span_u64(span_str(optarg), 1000000, &users) < 0) &&
			 (option != 't' || span_u64(span_str(optarg), 3600, &options.seconds) < 0))
			return -EINVAL;
	}
	options.workers = (unsigned)workers;
	options.users = (unsigned)users;
	return options.path && workers && users && options.seconds ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	if (read_options(argc, argv) < 0) {
		fputs("usage: lookup -s LOOKUP_SOCKET [-k WORKERS] [-n USERS] [-u NAME] "
		      "[-t SECONDS]\n"
		      "NAME is a pattern: % is the user's number.\n",
		      stderr);
		return 2;
	}
	state.listener = listen_on(options.path);
	if (state.listener < 0)
		die(options.path, state.listener);
	for (unsigned n = 0; n < options.workers; n++)
		take_worker(n);
	uint64_t took = run();

	printf("{\"answers\":%" PRIu64 ",\"per_second\":%.1f,\"errors\":%" PRIu64 ",\"us\":{",
	       state.answers, (double)state.answers * SECOND / (double)took, state.errors);
	hist_print(stdout, "lookup", &state.took);
	puts("}}");
	return 0;
}
