/* Local messages on a SOCK_SEQPACKET socket, with descriptors (SCM_RIGHTS). */
#ifndef LIB_MSGSOCK_H
#define LIB_MSGSOCK_H

#include "lib/msg.h"

/* Sends m, with the descriptor fd when its type carries one (fd stays the caller's). Never blocks:
 * -EAGAIN when the peer does not read. Returns 0 or -errno. The encoded copy is wiped. */
int msgsock_send(int sock, const struct msg *m, int fd);

/* Gives the memory that msgsock_send() uses back to the kernel until the next time. */
void msgsock_release(void);

/* Receives one message from a peer of this role into m, whose texts borrow received (MSG_MAX
 * bytes). *ret_fd is the descriptor (close-on-exec, the caller's) or -1. Never blocks. Returns 0;
 * -EAGAIN; -ECONNRESET at the end; -EBADMSG and the other errors of msg_decode() for what the peer
 * must not send, with every descriptor of it closed. The caller wipes received when the message may
 * hold a secret. */
int msgsock_receive(int sock, enum msg_role sender, char *received, struct msg *m, int *ret_fd);

/* Connects to the socket path, waiting while its backlog is full. Returns a descriptor or -errno.
 */
int msgsock_connect(const char *path);

/* A connected pair, both non-blocking. Returns 0 or -errno. */
int msgsock_pair(int ret[2]);

#endif
