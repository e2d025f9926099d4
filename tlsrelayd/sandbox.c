/* What a worker gives up.
 *
 * The filter is made at build time (sandbox/make_filter.c). A forbidden call kills the process. No
 * file can be opened, no socket made, no descriptor sent: not even a worker that was taken over
 * reaches more than the connections it has. A sanitizer build is locked up in part only: its
 * run-time reads /proc and uses other calls.
 */
#include "tlsrelayd/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/confine.h"
#include "lib/ids.h"
#include "relay_filter.h"

int sandbox_arrange(int *link)
{
	if (*link != SANDBOX_LINK && dup3(*link, SANDBOX_LINK, O_CLOEXEC) < 0)
		return -errno;
	*link = SANDBOX_LINK;
	return syscall(SYS_close_range, SANDBOX_NEXT, ~0u, 0) < 0 ? -errno : 0;
}

int sandbox_enter(uid_t uid, gid_t gid)
{
	static const struct sock_filter steps[] = { RELAY_FILTER };
	int r = geteuid() == 0 ? ids_drop(uid, gid) : 0;

	(void)(r || (r = confine_rights(0)) || (r = confine_files()) || (r = confine_processes()) ||
	       (r = confine_calls(steps, sizeof(steps) / sizeof(steps[0]))));
	return r;
}
