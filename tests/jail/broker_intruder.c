/* A broker that has been taken over: stands in the place of probe.c in
 * build/test/cachebrokerd-intruder and, when it is ready, tries what server_hostname names; "all"
 * is all that must fail without being the end. What came back is logged. It is started in a
 * directory that everybody may write to, beside that of its state file. */
#include "tests/jail/attempts.h"

#include "cachebrokerd/host.h"
#include "lib/log.h"

CALL_AS(make_elsewhere, openat, AT_FDCWD, "intruder", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)
CALL_AS(write_elsewhere, openat, AT_FDCWD, "victim", O_WRONLY | O_CLOEXEC)
CALL_AS(remove_elsewhere, unlinkat, AT_FDCWD, "victim", 0)
CALL_AS(move_elsewhere, renameat, AT_FDCWD, "victim", AT_FDCWD, "moved")
CALL_AS(write_inside, openat, AT_FDCWD, "../inside/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)
CALL_AS(make_shared, openat, AT_FDCWD, "/dev/shm/keepwarm-intruder", O_WRONLY | O_CREAT | O_CLOEXEC,
	0600)
CALL_AS(read_elsewhere, openat, AT_FDCWD, "victim", O_RDONLY | O_CLOEXEC)
CALL_AS(datagrams, socket, AF_INET, SOCK_DGRAM, 0)

/* clang-format off: as in attempts.h */
#define BROKER_ROWS(ROW) \
	ROW(make_elsewhere, EACCES) \
	ROW(write_elsewhere, EACCES) \
	ROW(remove_elsewhere, EACCES) \
	ROW(move_elsewhere, EACCES) \
	ROW(make_shared, EACCES) \
	ROW(write_inside, OK) \
	ROW(read_elsewhere, OK) \
	ROW(datagrams, EPERM)
/* clang-format on */

enum { OK, KILLED = -1 };

static const struct attempt attempts[] = {
#define ROW(name, result) { #name, try_##name },
	SHARED_ROWS(ROW) BROKER_ROWS(ROW)
#undef ROW
};

static const int results[] = {
#define ROW(name, result) result,
	SHARED_ROWS(ROW) BROKER_ROWS(ROW)
#undef ROW
};

static void try_one(const char *name)
{
	char answer[100];

	attempt(attempts, sizeof(attempts) / sizeof(attempts[0]), name, answer, sizeof(answer));
	log_printf(LOG_NOTICE, "%s", *answer ? answer : "what is that?");
}

void host_probe(struct host *h)
{
	if (strcmp(h->name, "all") != 0) {
		try_one(h->name);
		return;
	}
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
		if (results[i] != KILLED)
			try_one(attempts[i].name);
}
