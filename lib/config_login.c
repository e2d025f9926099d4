/* The keys about logins: who judges passwords, what a login name means.
 *
 * The name is completed in one place, the broker, before anything is looked up or kept under it;
 * lookupd does the same to names that reach it by another way. So both must come to the same, and
 * a name that was completed must not be completed again: config_login_judge() refuses a
 * default_domain that would be.
 */
#include "lib/config_login.h"

#include <ctype.h>

#include "lib/config_rows.h"
#include "lib/sasl.h"

bool config_master_is_on(const struct config *c)
{
	return *c->auth_sasl_plain_username && *c->auth_sasl_plain_password &&
	       (c->auth == AUTH_DIRECTORY || (c->auth == AUTH_BACKEND && *c->auth_shared_secret));
}

static bool has_any(struct span name, const char *characters)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] != '\0' && strchr(characters, name.p[i]))
			return true;
	return false;
}

/* Is the name one that default_domain belongs behind? */
static bool lacks_domain(const struct config *c, struct span name)
{
	const char first[] = { *c->default_domain, '\0' };

	return *first && !has_any(name, *c->domain_separators ? c->domain_separators : first);
}

static int add_name(const struct config *c, struct span name, struct buf *out)
{
	int r = 0;

	if (c->login_case == LOGIN_KEEP)
		return buf_add(out, name);
	for (size_t i = 0; r == 0 && i < name.n; i++) {
		bool upper = name.p[i] >= 'A' && name.p[i] <= 'Z';

		r = buf_add_char(out, upper ? (char)(name.p[i] - 'A' + 'a') : name.p[i]);
	}
	return r;
}

int config_login_name(const struct config *c, struct span name, struct buf *out)
{
	int r = add_name(c, name, out);

	/* lowered as well, so that who writes his domain himself is the same account */
	if (r == 0 && lacks_domain(c, name))
		r = add_name(c, span_str(c->default_domain), out);
	return r;
}

static void judge_auth(struct config_problems *p)
{
	const struct config *c = p->config;

	p->line = config_line_of(c, "auth");
	if (c->auth != AUTH_BACKEND && c->directory.count == 0)
		config_say(p, true,
			   "auth: without a directory there is none that could judge passwords");
	p->line = config_line_of(c, "default_domain");
	if (*c->default_domain && *c->domain_separators &&
	    !has_any(span_str(c->default_domain), c->domain_separators))
		config_say(p, true,
			   "default_domain: none of domain_separators is in it, so that it would "
			   "be put behind a name that has it");
}

/* The keys that must be there for a master user, of those three. Clients that are verified without
 * a password of theirs need the first two only. */
static void judge_master(struct config_problems *p)
{
	const struct config *c = p->config;
	const int master =
		(*c->auth_sasl_plain_username != '\0') + (*c->auth_sasl_plain_password != '\0');
	const int set = master + (*c->auth_shared_secret != '\0');
	const bool verifies = config_offers(c, SASL_CHALLENGES | SASL_EXTERNAL);

	if (c->auth == AUTH_BACKEND ? set > 0 && set < 3 && !(master == 2 && verifies)
				    : master == 1)
		config_say(
			p, false,
			c->auth == AUTH_BACKEND
				? "auth_sasl_plain_username, auth_sasl_plain_password, "
				  "auth_shared_secret: not all three are set, so none has an effect"
				: "auth_sasl_plain_username, auth_sasl_plain_password: not both "
				  "are set, so none has an effect");
	if (c->auth != AUTH_BACKEND && *c->auth_shared_secret)
		config_say(p, false, "auth_shared_secret: has an effect with auth backend only");
	if (config_master_is_on(c) && !c->run_listener)
		config_say(p, false,
			   "auth_sasl_plain_username: with run_listener no, logins work only where "
			   "another listener of proxyd runs (not with a process per connection)");
	if (*c->master_separator && !ispunct((unsigned char)*c->master_separator))
		config_say(p, true,
			   "master_separator: give a character that is neither letter nor "
			   "digit, since users with it in their names are refused");
}

static void judge_challenges(struct config_problems *p)
{
	if (config_offers(p->config, SASL_CHALLENGES) && p->config->directory.count == 0)
		config_say(p, false,
			   "auth_mechanisms: CRAM, SCRAM and APOP are judged by what a directory "
			   "has, and there is no line 'directory': they are not offered");
}

void config_login_judge(struct config_problems *p)
{
	unsigned line = p->line;

	judge_auth(p);
	p->line = line;
	judge_challenges(p);
	judge_master(p);
}
