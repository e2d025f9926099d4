/* sock_diag(7), as ss(8) uses it: the kernel lists the TCP connections and how many bytes each has
 * received and had acknowledged. That is what the session's client sent and took, the dialogue
 * before login included; nobody else had to count it. A connection is found by its other end, which
 * is what the broker knows of a client.
 */
#include "pimpstat/traffic.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "lib/fd.h"

#define WAIT_US	      200000
#define ESTABLISHED   (1u << 1)
#define CLOSE_WAIT    (1u << 8)
#define MAPPED_PREFIX 12

/* A client's end: IPv4 as mapped IPv6, so that there is one form. */
struct end {
	unsigned char address[16];
	uint16_t port; /* network byte order, as the kernel has it */
};

struct known {
	struct end end;
	struct model_session *session;
};

static void set_v4(struct end *e, const void *address)
{
	memset(e->address, 0, sizeof(e->address));
	e->address[10] = e->address[11] = 0xff;
	memcpy(e->address + MAPPED_PREFIX, address, 4);
}

/* "address:port", the port behind the last colon. */
static bool read_end(struct span text, struct end *ret)
{
	char address[INET6_ADDRSTRLEN] = "";
	unsigned char v4[4];
	uint64_t port;
	size_t colon = text.n;

	while (colon > 0 && text.p[colon - 1] != ':')
		colon--;
	if (colon == 0 || colon > sizeof(address) ||
	    span_u64(span_from(text, colon), UINT16_MAX, &port) < 0)
		return false;
	memcpy(address, text.p, colon - 1);
	memset(ret, 0, sizeof(*ret));
	ret->port = htons((uint16_t)port);
	if (inet_pton(AF_INET6, address, ret->address) == 1)
		return true;
	if (inet_pton(AF_INET, address, v4) != 1)
		return false;
	set_v4(ret, v4);
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct known *first = a, *second = b;
	int r = memcmp(first->end.address, second->end.address, sizeof(first->end.address));

	return r != 0 ? r : (int)first->end.port - (int)second->end.port;
}

static struct known *list_known(struct model *m, size_t *ret_count)
{
	struct known *known = calloc(m->session_count + 1, sizeof(*known));
	size_t count = 0;

	for (size_t i = 0; known && i < m->session_count; i++) {
		struct model_session *s = &m->sessions[i];

		if (s->state == STATEFILE_ACTIVE && read_end(s->client, &known[count].end))
			known[count++].session = s;
	}
	if (count > 0)
		qsort(known, count, sizeof(*known), compare);
	*ret_count = count;
	return known;
}

static int ask(int fd, unsigned char family)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 question;
	} request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.question = {.sdiag_family = family,
			     .sdiag_protocol = IPPROTO_TCP,
			     .idiag_ext = 1 << (INET_DIAG_INFO - 1),
			     .idiag_states = ESTABLISHED | CLOSE_WAIT},
	};

	return send(fd, &request, sizeof(request), 0) == (ssize_t)sizeof(request) ? 0 : -1;
}

static void note(const struct nlmsghdr *header, const struct known *known, size_t count)
{
	const struct inet_diag_msg *socket = NLMSG_DATA(header);
	struct known key = {.session = NULL};
	const struct known *found;
	unsigned length;

	if (header->nlmsg_len < NLMSG_LENGTH(sizeof(*socket)))
		return;
	length = header->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof(*socket));
	if (socket->idiag_family == AF_INET)
		set_v4(&key.end, socket->id.idiag_dst);
	else
		memcpy(key.end.address, socket->id.idiag_dst, sizeof(key.end.address));
	key.end.port = socket->id.idiag_dport;
	found = bsearch(&key, known, count, sizeof(key), compare);
	if (!found)
		return;
	for (const struct rtattr *a = (const struct rtattr *)(socket + 1); RTA_OK(a, length);
	     a = RTA_NEXT(a, length)) {
		struct tcp_info info = {0};

		if (a->rta_type != INET_DIAG_INFO)
			continue;
		/* An older kernel's is shorter: its figures would be 0. */
		if (RTA_PAYLOAD(a) < offsetof(struct tcp_info, tcpi_segs_out))
			continue;
		memcpy(&info, RTA_DATA(a),
		       RTA_PAYLOAD(a) < sizeof(info) ? RTA_PAYLOAD(a) : sizeof(info));
		found->session->has_bytes = true;
		found->session->from_client = info.tcpi_bytes_received;
		found->session->from_backend = info.tcpi_bytes_acked;
	}
}

/* Takes the answers to one question. */
static int take(int fd, const struct known *known, size_t count)
{
	static char answers[1 << 16] __attribute__((aligned(NLMSG_ALIGNTO)));

	for (;;) {
		ssize_t n = recv(fd, answers, sizeof(answers), 0);

		if (n <= 0)
			return -1;
		unsigned rest = (unsigned)n;

		for (const struct nlmsghdr *h = (const void *)answers; NLMSG_OK(h, rest);
		     h = NLMSG_NEXT(h, rest)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return -1;
			note(h, known, count);
		}
	}
}

void traffic_add(struct model *m)
{
	static const unsigned char families[] = {AF_INET, AF_INET6};
	const struct timeval wait = {.tv_usec = WAIT_US};
	size_t count;
	struct known *known = list_known(m, &count);
	AUTO_FD fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
		count = 0;
	for (size_t i = 0; count > 0 && i < sizeof(families); i++)
		if (ask(fd, families[i]) < 0 || take(fd, known, count) < 0)
			break;
	free(known);
}
