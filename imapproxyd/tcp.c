/* Binding the ports that clients come to.
 *
 * The backlog is deep because a restart of the listener leaves clients waiting in it. They are
 * bound once and outlive every child.
 */
#include "imapproxyd/tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "imapproxyd/report.h"
#include "lib/cidr.h"
#include "lib/clock.h"
#include "lib/fd.h"

#define BACKLOG	 4096
#define RETRY_MS 20

static int resolve(const char *address, uint32_t port, struct addrinfo **ret)
{
	static const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	char service[16];

	(void)snprintf(service, sizeof(service), "%u", port);
	return getaddrinfo(address, service, &hints, ret);
}

const char *tcp_resolve_check(const char *address, uint32_t port)
{
	struct addrinfo *list;
	int r = resolve(address, port, &list);

	if (r != 0)
		return gai_strerror(r);
	freeaddrinfo(list);
	return NULL;
}

bool tcp_is_loopback(const char *address)
{
	struct addrinfo *list;
	bool all = true;

	if (resolve(address, 0, &list) != 0)
		return false;
	for (const struct addrinfo *a = list; a && all; a = a->ai_next) {
		struct cidr_address parsed;

		all = cidr_address_of(a->ai_addr, &parsed) == 0 &&
		      cidr_list_has(SPAN("127.0.0.0/8 ::1"), &parsed);
	}
	freeaddrinfo(list);
	return all;
}

static const char *advice(int error)
{
	static const struct {
		int error;
		const char *text;
	} rows[] = {
		{ EADDRINUSE, "end the program that uses it or give another port" },
		{ EACCES, "start as root or give a port above 1023" },
		{ EADDRNOTAVAIL, "give an address of this machine as listen_address" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].error == error)
			return rows[i].text;
	return "see listen_address";
}

static void report_failure(const struct addrinfo *a, const char *key, int error)
{
	char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";

	(void)getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), port, sizeof(port),
			  NI_NUMERICHOST | NI_NUMERICSERV);
	report(LOG_ERR,
	       a->ai_family == AF_INET6 ? "cannot listen on [%s]:%s (%s): %s; %s"
					: "cannot listen on %s:%s (%s): %s; %s",
	       host, port, key, strerror(error), advice(error));
}

/* :: takes IPv4 clients, too, as the old program did; any other IPv6 address only its own. */
static int only_ipv6(const struct addrinfo *a)
{
	struct sockaddr_in6 address;

	memcpy(&address, a->ai_addr, sizeof(address));
	return !IN6_IS_ADDR_UNSPECIFIED(&address.sin6_addr);
}

/* Returns the descriptor or -errno. */
static int listen_on(const struct addrinfo *a)
{
	int on = 1;
	AUTO_FD fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, a->ai_protocol);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (a->ai_family == AF_INET6) {
		int only = only_ipv6(a);

		if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0)
			return -errno;
	}
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

/* A name may stand for an address that this machine lacks: localhost is ::1, too, where IPv6 is
 * off. */
static bool may_skip(const struct addrinfo *a, int count, int error)
{
	return (error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT) && (count > 0 || a->ai_next);
}

/* Waits until the deadline for a port that is in use. */
static int listen_by(const struct addrinfo *a, int64_t deadline)
{
	int fd;

	while ((fd = listen_on(a)) == -EADDRINUSE && clock_ms() < deadline)
		(void)poll(NULL, 0, RETRY_MS);
	return fd;
}

static int listen_on_all(const struct addrinfo *list, const char *key, int64_t deadline,
			 int fds[TCP_SOCKETS_MAX])
{
	int count = 0;

	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		int fd = count < TCP_SOCKETS_MAX ? listen_by(a, deadline) : -E2BIG;

		if (fd < 0 && may_skip(a, count, fd))
			continue;
		if (fd < 0) {
			report_failure(a, key, -fd);
			while (count > 0)
				close(fds[--count]);
			return fd;
		}
		fds[count++] = fd;
	}
	return count;
}

int tcp_listen(const char *address, const char *key, uint32_t port, int64_t patience_ms,
	       int fds[TCP_SOCKETS_MAX])
{
	struct addrinfo *list;
	int r = resolve(address, port, &list);

	if (r != 0) {
		report(LOG_ERR, "cannot listen on %s: %s", address, gai_strerror(r));
		return -EADDRNOTAVAIL;
	}
	r = listen_on_all(list, key, clock_ms() + patience_ms, fds);
	freeaddrinfo(list);
	return r;
}
