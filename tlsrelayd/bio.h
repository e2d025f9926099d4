/* OpenSSL's way to a TCP connection: recv(2) and send(2) that never block, whatever the descriptor
 * was set to, and never raise SIGPIPE. It tells the end of the connection (FIN) from close_notify,
 * which OpenSSL is told to take for the same. It can read ahead of OpenSSL, which asks for each
 * record in two pieces. */
#ifndef TLSRELAYD_BIO_H
#define TLSRELAYD_BIO_H

#include <stdbool.h>
#include <stddef.h>

struct bio_st;

struct bio_end {
	int fd;
	bool fin;	     /* the peer has ended its direction */
	int error;	     /* errno of the call that failed for good (not if deaf), or 0 */
	unsigned reads_left; /* then it is as if nothing more were there */
	/* Whether to read ahead, and to drop what cannot be sent for good instead of failing. May
	 * be turned on between two steps. */
	bool ahead;
	bool deaf;	     /* the peer hears nothing any more: what is for it was dropped */
	bool empty;	     /* all that had come was read; nothing more is in this step */
	/* Read ahead, still sealed. Within a step `data` may be memory that all connections
	 * share. */
	struct {
		char *data;
		size_t off, len;
	} rest;
};

/* Makes the method; once in a process, before the first bio_new(). Returns 0 or -ENOMEM. */
int bio_setup(void);

/* A BIO over *end, which must outlive it. NULL without memory. */
struct bio_st *bio_new(struct bio_end *end);

/* Around whatever makes OpenSSL read: at most so many reads are answered between the two. What
 * bio_end_step() finds of bytes read ahead is kept in memory of the connection's own; 0 or
 * -ENOMEM. */
void bio_begin_step(struct bio_end *end, unsigned reads);
int bio_end_step(struct bio_end *end);

/* Gives back what is kept of bytes read ahead. */
void bio_drop(struct bio_end *end);

#endif
