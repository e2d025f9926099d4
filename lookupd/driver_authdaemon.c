/* authdaemon: a running courier-authlib, by its socket protocol. PRE asks for a record without a
 * password, AUTH checks one, or has a client's answer to a challenge judged. One connection a
 * question: the daemon answers and closes.
 *
 *	PRE . SERVICE USER LF  →  KEY=value LF ... "." LF | "FAIL" LF | nothing: it cannot say
 *	TCPREMOTEIP=CLIENT LF AUTH LENGTH LF SERVICE LF "login" LF USER LF PASSWORD LF  →  the same
 *
 * The protocol has no quoting. A name with a control character or a password with a line feed never
 * gets here (directories.c), and is refused here as well: what is behind one would be cut off, or a
 * request of its own.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base64.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lookupd/drivers.h"

#define ANSWER_MAX    16384
#define AUTH_BODY_MAX 8191

static int open_authdaemon(const char *place, const struct config *c, void **ret, struct why *why)
{
	struct sockaddr_un *address = calloc(1, sizeof(*address));

	(void)c;
	if (!address || strlen(place) >= sizeof(address->sun_path)) {
		free(address);
		why_say(why, "the socket's name is too long");
		return -ENAMETOOLONG;
	}
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, place, strlen(place));
	*ret = address;
	return 0;
}

static int wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left = deadline - clock_ms();
	int r = poll(&p, 1, left > 0 ? (int)left : 0);

	if (r < 0)
		return errno == EINTR ? 0 : -errno; /* the callers try, and wait again */
	return r > 0 ? 0 : -ETIMEDOUT;
}

/* Sends the request. The socket's descriptor or -errno. */
static int send_request(const struct sockaddr_un *address, struct span request, int64_t deadline)
{
	AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* EAGAIN: too many wait for it already */
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	while (request.n > 0) {
		ssize_t n = send(fd, request.p, request.n, MSG_NOSIGNAL);

		if (n > 0) {
			request = span_from(request, (size_t)n);
			continue;
		}
		int r = errno == EAGAIN ? wait_for(fd, POLLOUT, deadline) : -errno;

		if (r < 0)
			return r;
	}
	return take_fd(&fd);
}

/* Reads until the end. 0 or -errno; -EMSGSIZE when it does not end. */
static int read_answer(int fd, struct buf *answer, int64_t deadline)
{
	for (;;) {
		size_t room;
		char *tail = buf_tail(answer, &room);
		int r = wait_for(fd, POLLIN, deadline);

		if (r < 0)
			return r;
		if (room == 0)
			return -EMSGSIZE;
		ssize_t n = recv(fd, tail, room, 0);

		if (n == 0)
			return 0;
		if (n > 0)
			buf_filled(answer, (size_t)n);
		else if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
}

/* The whole answer up to the line with the dot. False: there is none. */
static bool cut_dot(struct span *answer)
{
	for (struct span rest = *answer; rest.n > 0;) {
		const char *end = memchr(rest.p, '\n', rest.n);

		if (!end)
			return false;
		if (end == rest.p + 1 && rest.p[0] == '.') {
			answer->n = (size_t)(rest.p - answer->p);
			return true;
		}
		rest = span_from(rest, (size_t)(end - rest.p) + 1);
	}
	return false;
}

static enum found judge_answer(struct span answer, const struct driver_question *q,
			       struct account *ret, struct why *why)
{
	if (span_eq(answer, SPAN("FAIL\n")))
		return q->check ? FOUND_DENIED : FOUND_NOT;
	if (!cut_dot(&answer)) {
		why_say(why, "authdaemond cannot say it now");
		return FOUND_TROUBLE;
	}
	if (account_set_lines(ret, answer) < 0) {
		why_say(why, "the account's record is wrong");
		return FOUND_TROUBLE;
	}
	ret->checked = q->check;
	return FOUND;
}

/* One question. FOUND with the record in *ret. */
static enum found ask(const struct sockaddr_un *address, struct span request,
		      const struct driver_question *q, struct account *ret, struct why *why)
{
	const int64_t deadline = clock_ms() + DRIVER_TIMEOUT_MS;
	char answer_data[ANSWER_MAX];
	struct buf answer = BUF_OVER(answer_data);
	enum found found = FOUND_DOWN;
	AUTO_FD fd = send_request(address, request, deadline);
	int r = fd < 0 ? fd : read_answer(fd, &answer, deadline);

	if (r == 0) {
		found = judge_answer(buf_span(&answer), q, ret, why);
	} else {
		why_say(why, "authdaemond: %s", strerror(-r));
		if (r == -EMSGSIZE)
			found = FOUND_TROUBLE;
	}
	buf_wipe(&answer);
	return found;
}

static bool has_end(struct span text)
{
	return memchr(text.p, '\n', text.n) || memchr(text.p, '\0', text.n);
}

/* 0, or -ENOBUFS for what is longer than the daemon reads. */
static int add_auth(struct buf *out, const struct driver_question *q)
{
	const struct span service = span_str(q->service), login = SPAN("login");
	size_t length = service.n + login.n + q->user.n + q->secret.n + 4;
	int r = 0;

	if (length > AUTH_BODY_MAX)
		return -ENOBUFS;
	if (*q->client)
		r = buf_add_str(out, "TCPREMOTEIP=") || buf_add_str(out, q->client) ||
		    buf_add_char(out, '\n');
	return r || buf_add_str(out, "AUTH ") || buf_add_u64(out, length) ||
			       buf_add_char(out, '\n') || buf_add(out, service) ||
			       buf_add_char(out, '\n') || buf_add(out, login) ||
			       buf_add_char(out, '\n') || buf_add(out, q->user) ||
			       buf_add_char(out, '\n') || buf_add(out, q->secret) ||
			       buf_add_char(out, '\n')
		       ? -ENOBUFS
		       : 0;
}

static int add_pre(struct buf *out, const struct driver_question *q)
{
	return buf_add_str(out, "PRE . ") || buf_add_str(out, q->service) ||
			       buf_add_char(out, ' ') || buf_add(out, q->user) ||
			       buf_add_char(out, '\n')
		       ? -ENOBUFS
		       : 0;
}

static enum found find_authdaemon(void *source, const struct driver_question *q,
				  struct account *ret, struct why *why)
{
	char request_data[AUTH_BODY_MAX + 100];
	struct buf request = BUF_OVER(request_data);
	enum found found = q->check ? FOUND_DENIED : FOUND_NOT;

	if (has_end(q->user) || (q->check && has_end(q->secret)))
		return FOUND_NOT;
	if ((q->check ? add_auth(&request, q) : add_pre(&request, q)) == 0)
		found = ask(source, buf_span(&request), q, ret, why);
	buf_wipe(&request);
	return found;
}

static int add_base64(struct buf *out, struct span text)
{
	size_t room;
	char *tail = buf_tail(out, &room);
	int n = base64_encode(text, tail, room);

	if (n < 0)
		return n;
	buf_filled(out, (size_t)n);
	return buf_add_char(out, '\n');
}

/* AUTH LENGTH LF SERVICE LF MECHANISM LF challenge LF answer LF: base64 holds no line feed. */
enum found authdaemon_cram(void *source, const char *service, const char *mechanism,
			   struct span challenge, struct span answer, struct why *why)
{
	char body_data[AUTH_BODY_MAX], request_data[AUTH_BODY_MAX + 40];
	struct buf body = BUF_OVER(body_data), request = BUF_OVER(request_data);
	const struct driver_question q = { .check = false };
	struct account account = { .host_count = 0 };
	enum found found = FOUND_NOT;

	if (buf_add_str(&body, service) == 0 && buf_add_char(&body, '\n') == 0 &&
	    buf_add_str(&body, mechanism) == 0 && buf_add_char(&body, '\n') == 0 &&
	    add_base64(&body, challenge) == 0 && add_base64(&body, answer) == 0 &&
	    buf_add_str(&request, "AUTH ") == 0 && buf_add_u64(&request, body.len) == 0 &&
	    buf_add_char(&request, '\n') == 0 && buf_add(&request, buf_span(&body)) == 0)
		found = ask(source, buf_span(&request), &q, &account, why);
	account_wipe(&account);
	return found;
}

static void close_authdaemon(void *source)
{
	free(source);
}

const struct driver driver_authdaemon = { "authdaemon", open_authdaemon, find_authdaemon,
					  close_authdaemon };
