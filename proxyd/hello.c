/* The addresses of a client's socket. */
#include "proxyd/hello.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Numeric address into text (at least INET6_ADDRSTRLEN) and the port; an IPv4 client of a
 * dual-stack socket is shown as IPv4. Returns the port. */
static uint32_t describe(const struct sockaddr_storage *address, char *text)
{
	const struct sockaddr_in *v4 = (const void *)address;
	const struct sockaddr_in6 *v6 = (const void *)address;
	const char *shown = NULL;

	if (address->ss_family == AF_INET)
		shown = inet_ntop(AF_INET, &v4->sin_addr, text, INET6_ADDRSTRLEN);
	else if (address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		shown = inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, INET6_ADDRSTRLEN);
	else if (address->ss_family == AF_INET6)
		shown = inet_ntop(AF_INET6, &v6->sin6_addr, text, INET6_ADDRSTRLEN);
	if (!shown)
		memcpy(text, "local", sizeof("local"));
	if (address->ss_family == AF_INET)
		return ntohs(v4->sin_port);
	return address->ss_family == AF_INET6 ? ntohs(v6->sin6_port) : 0;
}

void hello_describe(int client, enum msg_service service, struct msg_HELLO *ret)
{
	static char peer_text[INET6_ADDRSTRLEN], local_text[INET6_ADDRSTRLEN];
	struct sockaddr_storage peer = { 0 }, local = { 0 };
	socklen_t n = sizeof(peer);

	(void)getpeername(client, (struct sockaddr *)&peer, &n);
	n = sizeof(local);
	(void)getsockname(client, (struct sockaddr *)&local, &n);
	*ret = (struct msg_HELLO){ .service = service };
	ret->client_port = describe(&peer, peer_text);
	ret->local_port = describe(&local, local_text);
	ret->client = span_str(peer_text);
	ret->local = span_str(local_text);
}
