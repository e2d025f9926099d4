/* The master user's password opens every mailbox. It is known to this process, and to the errand
 * that logs in (made.c). What the client sent as auth_shared_secret is compared here and goes
 * nowhere else; above all it is never tried as a password at the mail host.
 */
#include "cachebrokerd/master.h"

#include <errno.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/config_login.h"

#define BACKEND_NAME_MAX 512 /* of JOB */

bool master_may_log_in(const struct broker *b)
{
	return *b->config.auth_sasl_plain_username && *b->config.auth_sasl_plain_password;
}

bool master_is_on(const struct broker *b)
{
	return config_master_is_on(&b->config);
}

bool master_shares_secret(const struct broker *b)
{
	return b->config.auth == AUTH_BACKEND && master_is_on(b);
}

/* Digests are compared: neither the secret's bytes nor its length shows in the time. */
bool master_admits(const struct broker *b, struct span secret)
{
	struct span right = span_str(b->config.auth_shared_secret);
	struct key given, wanted;

	return keys_proof(b->keys, PROOF_PASSWORD, secret, &given) == 0 &&
	       keys_proof(b->keys, PROOF_PASSWORD, right, &wanted) == 0 &&
	       key_same(&given, &wanted);
}

int master_proof(const struct broker *b, const struct key *given, struct key *ret)
{
	const struct config *c = &b->config;

	if (!master_shares_secret(b))
		return keys_made(b->keys, given, span_str(c->auth_sasl_plain_username),
				 span_str(c->auth_sasl_plain_password), ret);
	return keys_master(b->keys, span_str(c->auth_shared_secret),
			   span_str(c->auth_sasl_plain_username),
			   span_str(c->auth_sasl_plain_password), ret);
}

bool master_may_name(const struct broker *b, struct span user)
{
	const char *separator = b->config.master_separator;

	return !*separator || !memchr(user.p, *separator, user.n);
}

/* "user*master" */
static int write_name(const struct broker *b, struct span account, struct buf *out)
{
	int r;

	(void)((r = buf_add(out, account)) ||
	       (r = buf_add_str(out, b->config.master_separator)) ||
	       (r = buf_add_str(out, b->config.auth_sasl_plain_username)));
	return r;
}

static int be_master(const struct broker *b, struct span account, struct errand_login *ret)
{
	static char bytes[BACKEND_NAME_MAX];
	struct buf name = BUF_OVER(bytes);

	if (!master_may_log_in(b))
		return -EACCES; /* a reload has ended that */
	if (!master_may_name(b, account))
		return -EINVAL;
	if (*b->config.master_separator) {
		if (write_name(b, account, &name) < 0)
			return -EINVAL;
		*ret = (struct errand_login){
			.backend_user = buf_span(&name),
			.secret = span_str(b->config.auth_sasl_plain_password)
		};
		return 0;
	}
	*ret = (struct errand_login){ .backend_user = span_str(b->config.auth_sasl_plain_username),
				      .authzid = account,
				      .secret = span_str(b->config.auth_sasl_plain_password) };
	return 0;
}

int master_login(const struct broker *b, bool verified, struct span account,
		 struct errand_login *ret)
{
	return verified || master_is_on(b) ? be_master(b, account, ret) : -EACCES;
}
