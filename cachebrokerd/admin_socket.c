/* The admin socket.
 *
 * Its mode keeps others out (it is root's where root started the service, so that a proc_username
 * that other services have, too, gives them nothing); who it was that connected, the kernel says.
 */
#include "cachebrokerd/admin_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cachebrokerd/admin.h"
#include "lib/log.h"

#define PEERS_MOST 16

static unsigned peer_count;

static bool is_known(int fd, uid_t *ret)
{
	struct ucred who;
	socklen_t n = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0 ||
	    (who.uid != 0 && who.uid != geteuid()))
		return false;
	*ret = who.uid;
	return true;
}

static int on_message(struct peer *p, const struct msg *m, int *fd)
{
	(void)fd;
	return m->serial == 0 ? -EPROTO : admin_ask(p->owner, p, m);
}

static void on_gone(struct peer *p)
{
	admin_gone(p->owner);
	loop_bury(p->broker->loop, p->owner, free);
	peer_count--;
}

const struct peer_kind admin_peer_kind = { ROLE_ADMIN, on_message, on_gone };

static void ignore_gone(struct peer *p)
{
	(void)p;
}

void admin_peer_new(struct peer *p)
{
	static const struct peer_kind rejected = { ROLE_ADMIN, on_message, ignore_gone };
	uid_t uid;
	bool known = is_known(p->fd, &uid);
	struct admin_caller *c = known && peer_count < PEERS_MOST ? calloc(1, sizeof(*c)) : NULL;

	if (!known)
		log_printf(LOG_WARNING, "admin socket: refused, neither root nor this user");
	if (!c) {
		p->kind = &rejected;
		peer_end(p);
		return;
	}
	c->uid = uid;
	p->owner = c;
	peer_count++;
}
