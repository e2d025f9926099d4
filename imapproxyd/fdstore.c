/* A bounded list in the order of arrival. Several may have one name, as under systemd. */
#include "imapproxyd/fdstore.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

bool fdstore_name_ok(struct span name)
{
	if (name.n == 0 || name.n >= ACTIVATION_NAME)
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] <= ' ' || name.p[i] > '~' || name.p[i] == ':')
			return false;
	return true;
}

int fdstore_add(struct fdstore *s, struct span name, int fd)
{
	if (!fdstore_name_ok(name))
		return -EINVAL;
	if (s->count == FDSTORE_MAX)
		return -ENOSPC;

	struct activation_fd *slot = &s->fds[s->count++];

	slot->fd = fd;
	memcpy(slot->name, name.p, name.n);
	slot->name[name.n] = '\0';
	return 0;
}

size_t fdstore_remove(struct fdstore *s, struct span name)
{
	size_t kept = 0, count = s->count;

	for (size_t i = 0; i < count; i++) {
		if (span_eq(span_str(s->fds[i].name), name))
			close(s->fds[i].fd);
		else
			s->fds[kept++] = s->fds[i];
	}
	s->count = kept;
	return count - kept;
}

void fdstore_wipe(struct fdstore *s)
{
	for (size_t i = 0; i < s->count; i++)
		close(s->fds[i].fd);
	s->count = 0;
}
