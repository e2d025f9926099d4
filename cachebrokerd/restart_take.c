/* A planned restart, the successor's part: taking over what the broker before us has packed
 * (restart.c).
 *
 * It is out of the supervisor's store before any of it is used: if we die of it, the next one
 * starts empty, and no descriptor is ever taken twice (what is in flight can be received once).
 */
#include "cachebrokerd/restart.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client_pack.h"
#include "cachebrokerd/connection_pack.h"
#include "cachebrokerd/habits.h"
#include "cachebrokerd/tries.h"
#include "lib/activation.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"

#define FDS_A_MESSAGE 253 /* SCM_MAX_FD */
#define TEXT_MOST     (1 << 30)
#define SEALS	      (F_SEAL_SHRINK | F_SEAL_WRITE) /* else the mapping could go away or change */

struct unpacker {
	struct broker *broker;
	int sockets;
	unsigned count, at; /* of fds */
	int fds[FDS_A_MESSAGE];
	bool reloaded;		       /* the configuration is another one now */
	struct connection *connection; /* of the record behind its own */
	unsigned clients, idle, dropped;
};

static void forget_stored(void)
{
	(void)activation_notify("FDSTOREREMOVE=1\nFDNAME=" RESTART_SOCKETS, NULL, 0);
	(void)activation_notify("FDSTOREREMOVE=1\nFDNAME=" RESTART_TEXT, NULL, 0);
}

/* --- the text ----------------------------------------------------------- */

static int map_text(int fd, struct span *ret)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((seals & SEALS) != SEALS || st.st_size <= 0 || st.st_size > TEXT_MOST)
		return -EBADMSG;
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = (struct span){ p, (size_t)st.st_size };
	return 0;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) < 0 ? 0 : cookie;
}

/* With another configuration it is as behind a reload (broker_reload()). */
static int take_settings(struct unpacker *u, const struct pack_HEAD *head)
{
	struct broker *b = u->broker;
	struct key settings;
	int r = broker_digest_settings(b, &settings);

	if (r < 0)
		return r;
	b->settled_at = (int64_t)head->settled_at;
	u->reloaded = !key_same(&settings, &head->settings);
	if (!u->reloaded)
		return 0;
	log_printf(LOG_NOTICE, "restart: the configuration is another one than before");
	broker_unsettle(b);
	return 0;
}

static int take_head(struct unpacker *u, struct span *rest)
{
	struct broker *b = u->broker;
	struct pack_record record;
	struct keys *keys;
	uint32_t version, messages;
	int r = pack_take_prefix(rest, &version, &messages);

	if (r == -EPROTONOSUPPORT)
		log_printf(LOG_NOTICE,
			   "restart: what the broker before has left is of version %u.%u, and this "
			   "is %u.%u: the cache starts empty",
			   version, messages, PACK_VERSION, MSG_VERSION);
	if (r < 0)
		return r;
	if (pack_decode(rest, &record) != 1 || record.type != PACK_HEAD ||
	    record.HEAD.socket == 0 || record.HEAD.socket != cookie_of(u->sockets))
		return -EBADMSG;
	r = keys_adopt(&record.HEAD.secret, &keys);
	explicit_bzero(&record.HEAD.secret, sizeof(record.HEAD.secret));
	if (r < 0)
		return r;
	keys_free(b->keys);
	b->keys = keys;
	if (record.HEAD.next_id > b->next_id)
		b->next_id = record.HEAD.next_id;
	/* what was made under other settings is found by nobody */
	b->tls_settings = record.HEAD.tls_settings;
	b->tls_unsettled = record.HEAD.tls_unsettled & 1;
	b->clients_unsettled = record.HEAD.tls_unsettled & 2;
	tries_set_born(b->tries, (int64_t)record.HEAD.tries_born);
	if (record.HEAD.tls_policy != b->tls_policy) {
		b->tls_settings += 0x10; /* host_tls() adds the mode */
		b->tls_unsettled = true;
	}
	return take_settings(u, &record.HEAD);
}

/* --- the descriptors ----------------------------------------------------- */

static void collect(struct unpacker *u, struct msghdr *header)
{
	u->count = u->at = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n && u->count < FDS_A_MESSAGE; i++)
			memcpy(&u->fds[u->count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
}

static void drop_waiting(struct unpacker *u)
{
	while (u->at < u->count)
		close(u->fds[u->at++]);
}

/* The next descriptor, the caller's; or -1: there are no more, or not all of a message came. */
static int next_fd(struct unpacker *u)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_A_MESSAGE * sizeof(int))];
	} control;
	uint32_t said = 0;
	struct iovec iov = { &said, sizeof(said) };
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes) };

	if (u->at < u->count)
		return u->fds[u->at++];
	if (recvmsg(u->sockets, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -1;
	collect(u, &header);
	if (u->count == 0)
		return -1;
	if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || said != u->count) {
		drop_waiting(u);
		return -1;
	}
	return u->fds[u->at++];
}

/* --- the records --------------------------------------------------------- */

static void drop_connection(struct unpacker *u)
{
	if (u->connection)
		connection_lost(u->connection);
	u->connection = NULL;
}

static int take_habit(struct unpacker *u, const struct pack_record *record)
{
	const struct pack_HABIT *h = &record->HABIT;
	const struct habits_row row = { .who = h->who,
					.seen = (int64_t)h->seen,
					.enables = h->enables,
					.plain_turns = h->plain_turns,
					.fingerprint = h->fingerprint };

	habits_restore(u->broker->habits, &row);
	return 0;
}

static int take_account(struct unpacker *u, const struct pack_record *record)
{
	const struct pack_ACCOUNT *a = &record->ACCOUNT;
	const struct accounts_row row = { .login = a->login,
					  .user = a->user,
					  .fresh_until = (int64_t)a->fresh_until,
					  .until = (int64_t)a->until,
					  .none = a->flags & (PACK_NONE | PACK_REFUSED),
					  .refused = a->flags & PACK_REFUSED,
					  .account = { .hosts = a->hosts,
						       .backend_user = a->backend_user,
						       .other_password =
							       a->flags & PACK_OTHER_PASSWORD,
						       .private = a->flags & PACK_PRIVATE,
						       .place = a->place } };

	if (!u->reloaded)
		accounts_restore(u->broker->accounts, &row);
	return 0;
}

static int take_tries(struct unpacker *u, const struct pack_record *record)
{
	const struct pack_TRIES *t = &record->TRIES;
	const struct tries_row row = { .pid = (pid_t)t->pid,
				       .since = (int64_t)t->since,
				       .gone = (int64_t)t->gone,
				       .used = t->used,
				       .deeds = t->deeds,
				       .again = t->again != 0 };

	tries_restore(u->broker->tries, &row);
	return 0;
}

static int take_connection(struct unpacker *u, const struct pack_record *record)
{
	drop_connection(u);
	u->connection = connection_unpack(u->broker, &record->CONNECTION);
	return 0;
}

static int take_client(struct unpacker *u, const struct pack_record *record)
{
	int fd = next_fd(u);

	if (fd < 0)
		return -ENODATA;
	if (client_unpack(u->broker, &record->CLIENT, fd, u->connection, u->reloaded) < 0) {
		u->dropped++;
		drop_connection(u);
		return 0;
	}
	u->connection = NULL; /* the client's */
	u->clients++;
	return 0;
}

static int take_idle(struct unpacker *u, const struct pack_record *record)
{
	AUTO_FD fd = next_fd(u);

	if (fd < 0)
		return -ENODATA;
	if (u->connection &&
	    connection_unpack_idle(u->connection, (int64_t)record->IDLE.since, &fd) == 0)
		u->idle++;
	else
		u->dropped++;
	u->connection = NULL; /* it is in the cache, or gone */
	return 0;
}

static const struct {
	enum pack_type type;
	int (*take)(struct unpacker *u, const struct pack_record *record);
} takers[] = {
	{ PACK_HABIT, take_habit },   { PACK_ACCOUNT, take_account },
	{ PACK_TRIES, take_tries },   { PACK_CONNECTION, take_connection },
	{ PACK_CLIENT, take_client }, { PACK_IDLE, take_idle },
};

static int take_record(struct unpacker *u, const struct pack_record *record)
{
	for (size_t i = 0; i < sizeof(takers) / sizeof(takers[0]); i++)
		if (takers[i].type == record->type)
			return takers[i].take(u, record);
	return -EBADMSG;
}

static int take_all(struct unpacker *u, struct span rest)
{
	struct pack_record record;
	int r = take_head(u, &rest);

	while (r == 0 && (r = pack_decode(&rest, &record)) == 1)
		r = take_record(u, &record);
	return r == -ENODATA ? 0 : r; /* what did not fit has been said by its sender */
}

void restart_take(struct broker *b, int sockets, int text)
{
	AUTO_FD owned_sockets = sockets;
	AUTO_FD owned_text = text;
	struct unpacker u = { .broker = b, .sockets = sockets };
	struct span all;
	int64_t begun = clock_ms();

	if (sockets < 0 && text < 0)
		return;
	forget_stored();
	int r = sockets < 0 || text < 0 ? -ENOENT : map_text(text, &all);

	if (r == 0) {
		r = take_all(&u, all);
		(void)munmap((void *)(uintptr_t)all.p, all.n);
	}
	drop_connection(&u);
	drop_waiting(&u);
	connection_keep_to_size(b);	    /* the configuration may be another one */
	if (r < 0 && r != -EPROTONOSUPPORT) /* that has been said */
		log_printf(LOG_WARNING, "restart: what the broker before has left is broken: %s",
			   strerror(-r));
	if (r == -EPROTONOSUPPORT)
		return;
	log_printf(LOG_NOTICE,
		   "restart: %u sessions and %u idle connections are gone on with, "
		   "%u dropped, in %lld ms",
		   u.clients, u.idle, u.dropped, (long long)(clock_ms() - begun));
	broker_count(b);
}
