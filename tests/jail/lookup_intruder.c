/* A look-up worker that has been taken over: stands in the place of resolve.c in
 * build/test/lookupd-intruder and tries what the host name that it is asked for says; what came
 * back is its answer. */
#include "tests/jail/attempts.h"

#include "lookupd/resolve.h"

CALL_AS(accept4, accept4, 0, NULL, NULL, 0)
CALL_AS(make_file, openat, AT_FDCWD, "intruder", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)
CALL_AS(write_file, openat, AT_FDCWD, "victim", O_WRONLY | O_CLOEXEC)
CALL_AS(change_file, openat, AT_FDCWD, "victim", O_RDWR | O_CLOEXEC)
CALL_AS(cut_file, openat, AT_FDCWD, "victim", O_RDONLY | O_TRUNC | O_CLOEXEC)
CALL_AS(remove_file, unlinkat, AT_FDCWD, "victim", 0)
CALL_AS(move_file, renameat, AT_FDCWD, "victim", AT_FDCWD, "moved")
CALL_AS(mode_of_file, fchmodat, AT_FDCWD, "victim", 0666)
CALL(truncate, "victim", 0)
CALL_AS(open_newer, openat2, AT_FDCWD, "victim", page, 24)
CALL(memfd_create, "x", 0)
CALL_AS(read_file, openat, AT_FDCWD, "victim", O_RDONLY | O_CLOEXEC)
CALL(wait4, -1, NULL, 1, NULL)
CALL_AS(ask_over_udp, socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)

/* clang-format off: as in attempts.h */
#define LOOKUP_ROWS(ROW) \
	ROW(accept4, KILLED) \
	ROW(make_file, EPERM) \
	ROW(write_file, EPERM) \
	ROW(change_file, EPERM) \
	ROW(cut_file, EPERM) \
	ROW(remove_file, EPERM) \
	ROW(move_file, EPERM) \
	ROW(mode_of_file, EPERM) \
	ROW(truncate, EPERM) \
	ROW(open_newer, ENOSYS) \
	ROW(memfd_create, EPERM) \
	ROW(wait4, EPERM) \
	ROW(read_file, OK) \
	ROW(ask_over_udp, OK)
/* clang-format on */

static const struct attempt attempts[] = {
#define ROW(name, result) { #name, try_##name },
	SHARED_ROWS(ROW) LOOKUP_ROWS(ROW)
#undef ROW
};

void resolve_answer(const struct msg_RESOLVE *question, char *text, struct msg_ADDRESSES *ret)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "%.*s", (int)question->host.n, question->host.p);
	attempt(attempts, sizeof(attempts) / sizeof(attempts[0]), name, text, RESOLVE_TEXT_MAX);
	*ret = (struct msg_ADDRESSES){ .error = span_str(text) };
}
