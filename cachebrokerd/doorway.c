/* The broker's own door: what systemd, xinetd or inetd starts for one connection is locked up when
 * this broker dies, and cannot connect to the next one. So each such session gets the sending end
 * of a door with its WELCOME and does what a listener's child does.
 *
 * Both ends are stored with the supervisor, so that all sessions have one door, however many
 * brokers have died: a door for each of them would fill the store. The sending end is not closed
 * while we hold it; a hostile session can shut it down, though: then the next HELLO makes another.
 */
#include "cachebrokerd/doorway.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cachebrokerd/door.h"
#include "lib/activation.h"
#include "lib/fd.h"
#include "lib/log.h"

static int sending = -1;

static bool is_open(void)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return sending >= 0 && getsockopt(sending, SOL_SOCKET, SO_COOKIE, &cookie, &n) == 0 &&
	       door_leads_from(cookie);
}

void doorway_leave(void)
{
	if (sending < 0)
		return;
	fd_drop(&sending);
	(void)activation_notify("FDSTOREREMOVE=1\nFDNAME=" DOORWAY_NAME, NULL, 0);
}

static bool has_supervisor(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path && *path;
}

static void make(struct broker *b)
{
	if (!has_supervisor())
		return;
	int r = door_make(b, &sending);

	if (r == 0)
		r = activation_notify("FDSTORE=1\nFDNAME=" DOORWAY_NAME "\nFDPOLL=0", &sending,
				      1);
	if (r < 0)
		log_printf(LOG_WARNING, "sessions have no door: %s", strerror(-r));
}

void doorway_open(struct broker *b, int fd)
{
	sending = fd;
	if (is_open())
		return;
	doorway_leave();
	make(b);
}

void doorway_show(struct peer *session)
{
	const struct msg m = { .type = MSG_DOOR };

	if (!is_open())
		doorway_open(session->broker, sending);
	if (sending >= 0)
		(void)peer_send(session, &m, sending);
}
