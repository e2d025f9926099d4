/* What a login would find. The same directories, policy and route as for the broker, asked once. */
#include "lookupd/tell.h"

#include <stdio.h>
#include <unistd.h>

#include "lib/localaddr.h"
#include "lib/selfhost.h"
#include "lookupd/directories.h"
#include "lookupd/password.h"
#include "lookupd/resolve.h"

enum { EXIT_FOUND = 0, EXIT_NOT_FOUND = 1, EXIT_USAGE = 2, EXIT_REFUSED = 3, EXIT_TEMPORARY = 75 };

static void print_line(const char *line)
{
	(void)fprintf(stderr, "%s\n", line);
}

/* Does the broker find, when it dials this host, that it is this very one? */
static bool leads_here(const struct config *c, const struct route *r)
{
	const struct msg_RESOLVE question = { .ip_version = c->ipversion_only, .host = r->host };
	char text[RESOLVE_TEXT_MAX];
	struct msg_ADDRESSES answer;
	struct cidr_address address;
	struct span word;

	if (!selfhost_listens_on(c, r->port))
		return false;
	resolve_answer(&question, text, &answer);
	while ((word = span_word(&answer.addresses, ' ')).n > 0) {
		if (cidr_address_parse(word, &address) < 0)
			continue;
		address = selfhost_dialled(&address);
		if (selfhost_is_reached(c, &address, r->port, localaddr_is(&address)))
			return true;
	}
	return false;
}

static void print_local(const struct config *c, enum msg_service service)
{
	struct route server;

	if (selfhost_server(c, service, &server) < 0)
		(void)printf("mail host: this host, but %s is not set\n", selfhost_key(service));
	else if (server.port == 0)
		(void)printf("mail host: local server %.*s, no TLS\n", (int)server.host.n,
			     server.host.p);
	else
		(void)printf("mail host: local server %.*s port %u, no TLS\n", (int)server.host.n,
			     server.host.p, server.port);
}

/* Returns whether there is one. */
static bool print_hosts(const struct account *a, const struct config *c, enum msg_service service)
{
	static const char *const modes[] = {
		[TLS_NONE] = "no TLS",
		[TLS_STARTTLS] = "STARTTLS",
		[TLS_IMPLICIT] = "TLS",
	};
	char data[ROUTE_TEXT_MAX];
	struct buf text = BUF_OVER(data);
	struct route route;

	if (account_routes(a, c, service, &text) < 0) {
		(void)printf("no login: the account has no mail host for %s\n",
			     msg_service_name(service));
		return false;
	}
	for (struct span rest = buf_span(&text); route_next(&rest, &route) > 0;)
		if (route.local || leads_here(c, &route))
			print_local(c, service);
		else
			(void)printf("mail host: %.*s port %u, %s\n", (int)route.host.n,
				     route.host.p, route.port, modes[route.tls]);
	return true;
}

/* Returns whether that is a login. */
static bool print_account(const struct account *a, const struct config *c,
			  enum msg_service service)
{
	if (!print_hosts(a, c, service))
		return false;
	(void)printf("logs in as: %s\n", a->user);
	if (*a->password)
		(void)puts("password: ***");
	if (*a->hash)
		(void)puts("password hash: ***");
	if (*a->options)
		(void)printf("options: %s\n", a->options);
	if (a->is_private)
		(void)puts("only with TLS, or from plaintext_addresses");
	if (a->lifetime > 0)
		(void)printf("lifetime: %u s\n", a->lifetime);
	return true;
}

/* A line of standard input, without its end; what is behind it is not read as another one. Not by
 * stdio, whose buffer would keep it. */
static struct span read_password(char *room, size_t cap)
{
	size_t n = 0;
	ssize_t got;

	while (n < cap && (got = read(STDIN_FILENO, room + n, cap - n)) > 0)
		n += (size_t)got;
	const char *end = memchr(room, '\n', n);

	return (struct span){ room, end ? (size_t)(end - room) : n };
}

static int print_found(enum found found, const struct account *a, const struct config *c,
		       enum msg_service service, bool checked, const struct why *why)
{
	switch (found) {
	case FOUND:
		if (!print_account(a, c, service))
			return EXIT_NOT_FOUND;
		if (checked)
			(void)puts("the password is right");
		return EXIT_FOUND;
	case FOUND_NOT:
		(void)printf("no login: %s\n", why->text);
		return EXIT_NOT_FOUND;
	case FOUND_REFUSED:
		(void)printf("no login: %s\n", why->text);
		return EXIT_REFUSED;
	default:
		(void)printf("not known now: %s\n", why->text);
		return EXIT_TEMPORARY;
	}
}

int tell_account(const struct config *c, const char *file, const char *user, const char *service,
		 bool check)
{
	static char password[PASSWORD_TYPED_MAX + 2]; /* overwritten below */
	struct driver_question q = {
		.service = service, .user = span_str(user), .check = check, .client = ""
	};
	struct directories *d;
	struct account account;
	struct why why = { "" };
	unsigned line;

	enum msg_service which =
		strcmp(service, msg_service_name(SERVICE_POP3)) == 0 ? SERVICE_POP3 : SERVICE_IMAP;

	if (strcmp(service, msg_service_name(which)) != 0) {
		print_line("lookupd: -s is imap or pop3");
		return EXIT_USAGE;
	}
	if (directories_new(c, &d) < 0)
		return EXIT_TEMPORARY;
	(void)directories_check(d, file, print_line);
	if (check)
		q.secret = read_password(password, sizeof(password));
	enum found found = directories_ask(d, &q, &account, &line, &why);

	explicit_bzero(password, sizeof(password));
	if (line > 0)
		(void)printf("directory: %s (line %u)\n", directories_name(d, line), line);
	int status = print_found(found, &account, c, which, check, &why);

	account_wipe(&account);
	directories_free(d);
	return status;
}
