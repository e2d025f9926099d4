/* What directories and the files of accounts say: the first byte chooses who reads the rest. What a
 * record holds in the end must be fit for the broker. */
#include <assert.h>
#include <stdlib.h>

#include "lookupd/authrc.h"
#include "lookupd/ldapquery.h"
#include "lookupd/sqlquery.h"
#include "lookupd/textline.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static struct account a;

static void read_lines(struct span text)
{
	(void)account_set_lines(&a, text);
}

static void read_options(struct span text)
{
	(void)account_add_options(&a, text);
	(void)account_option_is_on(&a, "disableimap");
}

static void read_userdb(struct span text)
{
	struct span name, fields;

	if (textline_userdb(text, &name, &fields) > 0)
		(void)textline_userdb_account(fields, "imap", &a);
}

static void read_enumerated(struct span text)
{
	struct span name, options;

	if (textline_enumerated(text, &name, &options) > 0)
		(void)account_add_options(&a, options);
}

static void read_csv(struct span text)
{
	struct span fields[8];
	char *room = malloc(text.n + 1);
	int count = room ? textline_csv(text, room, fields, 8) : 0;

	for (int i = 0; i < count; i++)
		(void)account_add_hosts(&a, fields[i]);
	free(room);
}

static int quote(void *context, struct span text, struct buf *out)
{
	(void)context;
	return buf_add(out, text);
}

/* A file of settings, and a name that is put into what it asks. */
static void read_settings(struct span text)
{
	static char room[SQL_QUERY_MAX];
	struct buf query = BUF_OVER(room), filter = BUF_OVER(room);
	struct ldap_options options;
	struct authrc rc;
	struct why why;
	char *copy = calloc(1, text.n + 1);

	if (!copy)
		return;
	memcpy(copy, text.p, text.n);
	if (authrc_parse(&rc, copy, text.n, &why) == 0) {
		(void)sql_build(&rc, "MYSQL_", "imap", SPAN("a@b"), quote, NULL, &query);
		(void)ldap_filter_build(&rc, text, &filter);
		(void)ldap_options_parse(authrc_get(&rc, "LDAP_AUXOPTIONS", ""), &options);
	}
	authrc_wipe(&rc);
}

static void read_route(struct span text)
{
	struct route r;

	while (route_next(&text, &r) > 0)
		assert(r.local || (route_is_host(r.host) && r.port > 0));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static void (*const readers[])(
		struct span) = { read_lines, read_options,  read_userdb, read_enumerated,
				 read_csv,   read_settings, read_route };
	struct config c = { .server_hostname = (char *)(uintptr_t) "home",
			    .proxy_hostname = (char *)(uintptr_t) "self",
			    .local_server = (char *)(uintptr_t) "",
			    .pop3_local_server = (char *)(uintptr_t) "",
			    .server_port = 143 };
	char text[ROUTE_TEXT_MAX];
	struct buf out = BUF_OVER(text);

	if (size == 0)
		return 0;
	(void)account_init(&a, SPAN("anna"));
	readers[data[0] % (sizeof(readers) / sizeof(readers[0]))](
		(struct span){ (const char *)data + 1, size - 1 });
	assert(a.host_count <= ROUTE_HOSTS_MOST);
	assert(account_routes(&a, &c, SERVICE_IMAP, &out) == 0);
	read_route(buf_span(&out));
	account_wipe(&a);
	return 0;
}
