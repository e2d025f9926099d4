/* What a supervisor passes, in a process of its own, whose descriptors may be anything; and what it
 * is told by NOTIFY_SOCKET: a datagram socket of ours listens. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/activation.h"

#define NAME "@keepwarm-test-activation"

static int supervisor = -1;

static int listen_for_news(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[64];

	(void)state;
	(void)snprintf(name, sizeof(name), NAME "-%d", (int)getpid());
	memcpy(address.sun_path, name, strlen(name));
	address.sun_path[0] = '\0';
	supervisor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setenv("NOTIFY_SOCKET", name, 1);
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
	return bind(supervisor, (const struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name)));
}

static int stop_listening(void **state)
{
	(void)state;
	return close(supervisor);
}

/* How many times it heard that we are alive. */
static int heard(void)
{
	char text[64];
	int count = 0;
	ssize_t n;

	while ((n = recv(supervisor, text, sizeof(text), 0)) > 0) {
		assert_int_equal(n, strlen("WATCHDOG=1"));
		assert_memory_equal(text, "WATCHDOG=1", (size_t)n);
		count++;
	}
	assert_int_equal(errno, EAGAIN);
	return count;
}

static void nobody_is_told_who_does_not_want_to_know(void **state)
{
	char other[32];

	(void)state;
	assert_int_equal(activation_watchdog(1000), -1);
	setenv("WATCHDOG_USEC", "0", 1);
	assert_int_equal(activation_watchdog(1000), -1);
	setenv("WATCHDOG_USEC", "banana", 1);
	assert_int_equal(activation_watchdog(1000), -1);
	/* of our parent, from whom it was inherited */
	(void)snprintf(other, sizeof(other), "%d", (int)getppid());
	setenv("WATCHDOG_PID", other, 1);
	setenv("WATCHDOG_USEC", "10000000", 1);
	assert_int_equal(activation_watchdog(1000), -1);
	unsetenv("WATCHDOG_PID");
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(activation_watchdog(1000), -1);
	assert_int_equal(heard(), 0);
}

static void it_is_told_twice_as_often_as_it_wants(void **state)
{
	char own[32];

	(void)state;
	(void)snprintf(own, sizeof(own), "%d", (int)getpid());
	setenv("WATCHDOG_PID", own, 1);
	setenv("WATCHDOG_USEC", "10000000", 1);
	assert_int_equal(activation_watchdog(100000), 5000);
	assert_int_equal(heard(), 1);
	assert_int_equal(activation_watchdog(101000), 4000);
	assert_int_equal(activation_watchdog(104999), 1);
	assert_int_equal(heard(), 0);
	assert_int_equal(activation_watchdog(105000), 5000);
	assert_int_equal(heard(), 1);
	/* late, but not more often for it */
	assert_int_equal(activation_watchdog(200000), 5000);
	assert_int_equal(heard(), 1);
}

/* Returns which of its descriptors are wrong, as bits. */
static int take_four(const char *passed)
{
	int config = 0, other = 0, missing = 0;
	const struct activation_place places[] = { { "config", &config },
						   { "other", &other },
						   { "missing", &missing } };
	char own[32];

	for (int fd = ACTIVATION_FIRST; fd < ACTIVATION_FIRST + 4; fd++)
		if (dup2(STDERR_FILENO, fd) < 0)
			return 128;
	(void)snprintf(own, sizeof(own), "%d", (int)getpid());
	setenv("LISTEN_PID", own, 1);
	setenv("LISTEN_FDS", passed, 1);
	setenv("LISTEN_FDNAMES", "strange:other:config:config", 1);
	int r = activation_take_named(places, 3);

	if (r < 0)
		return r == -EINVAL && config == -1 && other == -1 ? 64 : 128;
	return (config != 5) | (other != 4) << 1 | (missing != -1) << 2 |
	       (fcntl(3, F_GETFD) != -1) << 3 | (fcntl(4, F_GETFD) != FD_CLOEXEC) << 4 |
	       (fcntl(6, F_GETFD) != -1) << 5 | (getenv("LISTEN_FDS") != NULL) << 6;
}

static int in_a_child(const char *passed)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(take_four(passed));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void what_was_not_asked_for_is_closed(void **state)
{
	(void)state;
	assert_int_equal(in_a_child("4"), 0);
	assert_int_equal(in_a_child("many"), 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_not_asked_for_is_closed),
		cmocka_unit_test_setup_teardown(nobody_is_told_who_does_not_want_to_know,
						listen_for_news, stop_listening),
		cmocka_unit_test_setup_teardown(it_is_told_twice_as_often_as_it_wants,
						listen_for_news, stop_listening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
