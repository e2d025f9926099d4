/* What a directory says of an account: the record that every driver fills. Pure; bounded; it may
 * hold secrets, so whoever made one ends it with account_wipe(). */
#ifndef LOOKUPD_ACCOUNT_H
#define LOOKUPD_ACCOUNT_H

#include "lib/config.h"
#include "lib/msg.h"
#include "lib/route.h"

#define ACCOUNT_USER_MAX     512 /* as in the messages */
#define ACCOUNT_PASSWORD_MAX 512
#define ACCOUNT_HASH_MAX     256
#define ACCOUNT_OPTIONS_MAX  2048
#define ACCOUNT_HMAC_MAX     128

/* The digests of which Courier keeps the states of an HMAC under the password. */
enum account_hmac { HMAC_MD5, HMAC_SHA1, HMAC_SHA256, HMACS };

/* How a host was written: without a scheme it is server_tls that decides. */
enum account_scheme { SCHEME_NONE, SCHEME_IMAP, SCHEME_IMAPS, SCHEME_POP3, SCHEME_POP3S };

struct account_host {
	char name[256];
	uint32_t port; /* 0: the usual one */
	enum account_scheme scheme;
};

struct account {
	struct account_host hosts[ROUTE_HOSTS_MOST];
	size_t host_count;			 /* 0: it has no mail host, */
	bool is_local;				 /* and its mail is on this host */
	char user[ACCOUNT_USER_MAX + 1];	 /* to log in with at the mail host */
	char password[ACCOUNT_PASSWORD_MAX + 1]; /* clear; empty: there is none */
	char hash[ACCOUNT_HASH_MAX + 1];	 /* empty: there is none */
	char hmac[HMACS][ACCOUNT_HMAC_MAX + 1];	 /* for CRAM, in hex; empty: there is none */
	char options[ACCOUNT_OPTIONS_MAX + 1];	 /* name=value,name=value,name */
	bool is_private;			 /* no login where somebody can listen */
	uint32_t lifetime;			 /* seconds; 0: as long as anything is believed */
	bool checked;	       /* the directory itself found the client's password right */
	bool prefers_password; /* it is checked with `password`, when that is there */
};

/* A record with nothing but the name that the client gave. 0, or -EINVAL for one that no record can
 * have: too long, or with a NUL in it. */
int account_init(struct account *a, struct span user);

/* Overwrites it. */
void account_wipe(struct account *a);

/* Set a part of it. 0, or -EINVAL for a value that is too long, has control characters in it, or
 * (host) is no mail host; an empty user or host changes nothing. */
int account_set_user(struct account *a, struct span user);
int account_set_password(struct account *a, struct span password);
int account_set_hash(struct account *a, struct span hash);
int account_set_hmac(struct account *a, enum account_hmac which, struct span states);

/* "md5", "sha1" or "sha256". */
const char *account_hmac_name(enum account_hmac which);

/* Adds mail hosts: HOST, HOST:PORT, [ADDRESS]:PORT, or one of them behind imap://, imaps://,
 * pop3:// or pop3s://, several separated by spaces or semicolons. -EINVAL also when there are more
 * than ROUTE_HOSTS_MOST. */
int account_add_hosts(struct account *a, struct span hosts);

/* Adds options: name=value, name, ..., separated by commas. Those named mailhost are mail hosts as
 * well. */
int account_add_options(struct account *a, struct span options);

/* Adds those of these options that the account has not itself, by name; mail hosts among them only
 * when it has none. */
int account_add_defaults(struct account *a, struct span options);

/* For how many seconds the record is good, as text; what is no number of them, and 0, changes
 * nothing. */
void account_set_lifetime(struct account *a, struct span seconds);

/* Sets one of the fields that authdaemond's answers have (ADDRESS, PASSWD, PASSWD2, OPTIONS),
 * or of those that our own tables have besides (HMAC-MD5 and so on); others are not for us. 0 or
 * -EINVAL. */
int account_set_field(struct account *a, struct span name, struct span value);

/* Sets fields from lines NAME=value; what has no = is passed over. 0 or -EINVAL. */
int account_set_lines(struct account *a, struct span lines);

/* The value of an option, the first of this name; SPAN_NONE when it has none. False: it is not set.
 */
bool account_option(const struct account *a, const char *name, struct span *ret);

/* Is it a number other than 0, or does it begin with t, T, y or Y? */
bool account_option_is_on(const struct account *a, const char *name);

/* Appends the mail hosts of this service as lib/route.h has them, with what the configuration says
 * of ports and TLS, and of which of them is this very host by its name; an account without any is
 * on server_hostname. 0; -ENOENT for one that has mail hosts, but of another service only; -errno.
 */
int account_routes(const struct account *a, const struct config *c, enum msg_service service,
		   struct buf *text);

#endif
