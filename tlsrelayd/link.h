/* What master and worker say to each other, over a SOCK_SEQPACKET pair: fixed structures, for both
 * are one program. The master hands out jobs, each with two descriptors: the TCP connection and the
 * worker's end of the plain one. The worker reports. */
#ifndef TLSRELAYD_LINK_H
#define TLSRELAYD_LINK_H

#include "lib/span.h"
#include "tlsrelayd/errors.h"
#include "tlsrelayd/tickets.h"

enum link_kind {
	LINK_ACCEPT = 1,
	LINK_DIAL,
	LINK_LEAVE, /* finish what you have, then exit; no descriptors */
};

struct link_job {
	uint32_t kind;
	uint32_t id;
	uint32_t service;
	uint32_t starttls;
	uint32_t port;
	char peer[256]; /* the mail host's name, the client's address */
	uint32_t ticket_length;
	char ticket[TICKET_MAX]; /* sent as far as it is used */
};

enum link_word {
	LINK_READY = 1,
	LINK_FAILED,
	LINK_TICKET, /* a session that may be resumed */
	LINK_GONE,   /* the last word of a connection that was ready */
	LINK_LINE,   /* for the log, in `failure`: a worker reaches no logger */
};

struct link_report {
	uint32_t word;
	uint32_t id;
	uint32_t resumed;
	uint32_t truncated;
	char version[33];
	char cipher[65];
	char name[256];
	char identity[256]; /* whom the client's certificate names; empty: it showed none */
	struct errors_text failure;
	uint32_t ticket_length;
	char ticket[TICKET_MAX]; /* sent as far as it is used */
};

/* Master to worker. fds are two, or NULL; they stay the caller's. 0 or -errno; -EAGAIN: the worker
 * does not read. */
int link_send_job(int link, const struct link_job *job, const int *fds);

/* In the worker: fds are two, or both -1. 0, -EAGAIN, -ECONNRESET at the end, -EBADMSG; -EMFILE:
 * there is a job, but no room for its descriptors, which are closed. */
int link_receive_job(int link, struct link_job *job, int fds[2]);

/* Worker to master. 0 or -errno. */
int link_send_report(int link, const struct link_report *report);

/* In the master, which does not trust a worker: every text ends and is printable. 0, -EAGAIN,
 * -ECONNRESET at the end, -EBADMSG. */
int link_receive_report(int link, struct link_report *report);

#endif
