/* Giving up the rights of root. */
#ifndef LIB_IDS_H
#define LIB_IDS_H

#include <sys/types.h>

/* Becomes uid and gid with no other groups, and proves that there is no way back; also sets
 * no_new_privs. Only for root; uid and gid are not 0. 0, or -errno: then the process must not go
 * on. */
int ids_drop(uid_t uid, gid_t gid);

/* The same, and before that the directory becomes the root and the current directory ("": neither).
 * Descriptors that are open keep what they lead to. 0, or -errno: then the process must not go on.
 */
int ids_confine(uid_t uid, gid_t gid, const char *directory);

#endif
