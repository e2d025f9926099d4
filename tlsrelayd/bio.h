/* OpenSSL's way to a TCP connection: recv(2) and send(2) that never block, whatever the descriptor
 * was set to, and never raise SIGPIPE. It tells the end of the connection (FIN) from close_notify,
 * which OpenSSL is told to take for the same. */
#ifndef TLSRELAYD_BIO_H
#define TLSRELAYD_BIO_H

#include <stdbool.h>

struct bio_st;

struct bio_end {
	int fd;
	bool fin;  /* the peer has ended its direction */
	int error; /* errno of the call that failed for good, or 0 */
	unsigned reads_left; /* then it behaves as if there were nothing more to read */
};

/* Makes the method; once in a process, before the first bio_new(). Returns 0 or -ENOMEM. */
int bio_setup(void);

/* A BIO over *end, which must outlive it. NULL without memory. */
struct bio_st *bio_new(struct bio_end *end);

#endif
