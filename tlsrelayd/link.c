/* Master and worker: sending and receiving. The worker needs no sendmsg(2): its reports carry no
 * descriptors, and its jail forbids to pass any on.
 *
 * Trap: the end of one that has not read all of ours is told first, once (ECONNRESET); what it had
 * said comes behind that. */
#include "tlsrelayd/link.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/utf8.h"

#define JOB_LEAST    offsetof(struct link_job, ticket)
#define REPORT_LEAST offsetof(struct link_report, ticket)

int link_send_job(int link, const struct link_job *job, const int *fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)job, JOB_LEAST + job->ticket_length };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		header.msg_control = control.bytes;
		header.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(2 * sizeof(int));
		memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
	}
	ssize_t n;

	do
		n = sendmsg(link, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int link_receive_job(int link, struct link_job *job, int fds[2])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec iov = { job, sizeof(*job) };
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes) };
	ssize_t n;

	do
		n = recvmsg(link, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == ECONNRESET)
		n = recvmsg(link, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	const struct cmsghdr *c = CMSG_FIRSTHDR(&header);
	bool has_fds = c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(2 * sizeof(int));

	fds[0] = fds[1] = -1;
	if (has_fds)
		memcpy(fds, CMSG_DATA(c), 2 * sizeof(int));
	if ((header.msg_flags & MSG_CTRUNC) && (size_t)n >= JOB_LEAST) {
		/* one may have come */
		if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
			close(*(const int *)(const void *)CMSG_DATA(c));
		return -EMFILE;
	}
	/* the master is us: what does not fit is a bug */
	if ((size_t)n < JOB_LEAST || (size_t)n != JOB_LEAST + job->ticket_length ||
	    has_fds == (job->kind == LINK_LEAVE)) {
		for (int i = 0; i < 2; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		return -EBADMSG;
	}
	return 0;
}

int link_send_report(int link, const struct link_report *report)
{
	ssize_t n;

	do
		n = send(link, report, REPORT_LEAST + report->ticket_length,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void make_printable(char *text, size_t size)
{
	text[size - 1] = '\0';
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

int link_receive_report(int link, struct link_report *report)
{
	ssize_t n;

	do
		n = recv(link, report, sizeof(*report), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == ECONNRESET)
		n = recv(link, report, sizeof(*report), MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	if ((size_t)n < REPORT_LEAST || report->ticket_length > TICKET_MAX ||
	    (size_t)n != REPORT_LEAST + report->ticket_length || report->word < LINK_READY ||
	    report->word > LINK_LINE || report->failure.reason < TLS_UNAVAILABLE ||
	    report->failure.reason > TLS_TIMEOUT)
		return -EBADMSG;
	make_printable(report->version, sizeof(report->version));
	make_printable(report->cipher, sizeof(report->cipher));
	make_printable(report->name, sizeof(report->name));
	report->identity[sizeof(report->identity) - 1] = '\0';
	if (!utf8_is_text(span_str(report->identity)))
		report->identity[0] = '\0'; /* another text would be another user's */
	make_printable(report->failure.text, sizeof(report->failure.text));
	return 0;
}
