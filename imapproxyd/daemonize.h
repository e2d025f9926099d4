/* Going to the background so that the starter learns whether it worked. */
#ifndef IMAPPROXYD_DAEMONIZE_H
#define IMAPPROXYD_DAEMONIZE_H

/* Forks. The parent never returns: it waits and exits 0 when daemonize_ready() is called, 1 when
 * the child ends without that. In the child, in a session of its own, *ret_starter is for
 * daemonize_ready(). Returns 0 or -errno (then there is no child). */
int daemonize_fork(int *ret_starter);

/* The start has succeeded: lets the starter go. */
void daemonize_ready(int *starter);

#endif
