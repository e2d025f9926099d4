/* Waiting with deadlines: every wait of a session goes through here.
 *
 * Deadlines are monotonic milliseconds (clock.h). SIGTERM is blocked but while waiting, and makes
 * every wait return -ECANCELED from then on, so that a session can say goodbye in an orderly way.
 */
#ifndef PROXYD_IO_H
#define PROXYD_IO_H

#include <poll.h>
#include <sys/types.h>

#include "lib/buf.h"

/* Installs the handling of SIGTERM and ignores SIGPIPE. Call it once, before the first wait. */
void io_init(void);

/* Waits for any of count descriptors until the deadline. Returns how many are ready, 0 at the
 * deadline, -ECANCELED after SIGTERM, -errno. */
int io_poll(struct pollfd *fds, nfds_t count, int64_t deadline);

/* Waits until fd is ready for events. 0, -ETIMEDOUT, -ECANCELED, -errno. */
int io_wait(int fd, short events, int64_t deadline);

/* Appends what can be read from fd to b, waiting if there is nothing yet. Returns the count, 0 at
 * the end of the stream, -ENOBUFS when b is full, -ETIMEDOUT, -ECANCELED, -errno. */
int io_fill(int fd, struct buf *b, int64_t deadline);

/* The same without waiting: -EAGAIN when there is nothing. */
int io_fill_now(int fd, struct buf *b);

/* The same, leaving so many bytes of room in b: -ENOBUFS when there are no more. */
int io_fill_leaving(int fd, struct buf *b, size_t spare);

/* Writes what the socket takes now. Returns the count (0 when it takes nothing) or -errno. */
ssize_t io_write_now(int fd, struct span s);

/* Writes all of s. 0, -ETIMEDOUT, -ECANCELED, -errno. */
int io_write(int fd, struct span s, int64_t deadline);

/* The same, and then no more: the last bytes and the end of the stream go out together. */
int io_write_last(int fd, struct span s, int64_t deadline);

/* As much of that as goes now: when it was all, the end is there, too. Bytes written, or -errno. */
ssize_t io_write_last_now(int fd, struct span s);

/* Whether the kernel asks now and then if the other end still lives (SO_KEEPALIVE). Not an error
 * where that is not known. */
void io_keep_alive(int fd, bool on);

/* Small packets leave at once (TCP_NODELAY). Not an error on a socket that is not TCP. */
void io_no_delay(int fd);

#endif
