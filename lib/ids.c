/* Giving up the rights of root: the directory first, then groups, the group, the user, and a check.
 *
 * Trap: with the ids the kernel forgets the signal of the parent's death (PR_SET_PDEATHSIG).
 */
#include "lib/ids.h"

#include <errno.h>
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

int ids_drop(uid_t uid, gid_t gid)
{
	if (uid == 0 || gid == 0)
		return -EINVAL;
	if (setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	if (setuid(0) == 0 || getuid() != uid || geteuid() != uid || getegid() != gid)
		return -EPERM;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int ids_confine(uid_t uid, gid_t gid, const char *directory)
{
	if (uid == 0 || gid == 0)
		return -EINVAL;
	if (*directory && (chroot(directory) < 0 || chdir("/") < 0))
		return -errno;
	return ids_drop(uid, gid);
}
