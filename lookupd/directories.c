/* Asking the directories in turn: who does not know the account hands it to the next one, trouble
 * stops the search. A directory in trouble may be the one that knows the account, so going on could
 * send it to the wrong host, and to say "unknown" would be a lie that makes clients forget
 * passwords.
 *
 * Who asks whether a password is right is answered here, whatever the directory gives: a hash, a
 * clear password, or a verdict of its own.
 *
 * A directory that was found down is not asked again for a moment, which doubles while it stays
 * down: else every login would hold a worker for the whole timeout. One that holds it up beyond
 * that costs the worker its life (patience.c).
 */
#include "lookupd/directories.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/config_directory.h"
#include "lib/config_login.h"
#include "lib/log.h"
#include "lookupd/drivers.h"
#include "lookupd/password.h"
#include "lookupd/patience.h"

#define PAUSE_LEAST_MS 500
#define PAUSE_MOST_MS  8000
#define WARN_MS	       60000 /* about passwords that cannot be checked, for each directory */

struct source {
	const struct driver *driver; /* NULL: not built in */
	void *state;
	bool opened;
	const char *value, *place; /* of the configuration */
	unsigned line;
	int64_t down_until; /* monotonic ms */
	int64_t pause_ms;   /* 0: it is not down */
	int64_t warn_at;    /* not before */
	struct why why;
};

struct directories {
	const struct config *config;
	size_t count;
	bool checks_names;
	struct source sources[CONFIG_LIST_MOST];
};

static int open_source(struct source *s, const struct config *c, struct why *why)
{
	int r;

	if (s->opened)
		return 0;
	if (!s->driver) {
		why_say(why, "this lookupd was built without it");
		return -ENOTSUP;
	}
	r = s->driver->open(s->place, c, &s->state, why);
	s->opened = r == 0;
	return r;
}

static void add_source(struct directories *d, const char *value, unsigned line)
{
	struct source *s = &d->sources[d->count++];
	struct span kind;

	s->line = line;
	s->value = value;
	if (!config_directory_split(value, &kind, &s->place)) /* as the parser did */
		s->driver = driver_of(kind);
}

int directories_new(const struct config *c, struct directories **ret)
{
	struct directories *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->config = c;
	for (size_t i = 0; i < c->directory.count; i++)
		add_source(d, c->directory.items[i], c->directory.lines[i]);
	/* Without directories the mail host judges names as it judges passwords. */
	d->checks_names = d->count > 0;
	if (d->count == 0)
		add_source(d, "static:", 0);
	*ret = d;
	return 0;
}

int directories_check(struct directories *d, const char *file, directories_report_fn *report)
{
	struct why why = { "" };
	char line[600];
	int r = 0;

	for (size_t i = 0; i < d->count; i++) {
		struct source *s = &d->sources[i];

		if (open_source(s, d->config, &why) == 0)
			continue;
		r = -EINVAL;
		(void)snprintf(line, sizeof(line),
			       "%.200s:%u: directory: '%.100s' cannot be used: %s", file, s->line,
			       s->value, why.text);
		report(line);
	}
	return r;
}

void directories_free(struct directories *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->count; i++)
		if (d->sources[i].opened)
			d->sources[i].driver->close(d->sources[i].state);
	free(d);
}

const char *directories_name(const struct directories *d, unsigned line)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->sources[i].line == line && line > 0)
			return d->sources[i].value;
	return "";
}

static void note_down(struct source *s, const struct why *why)
{
	if (s->pause_ms == 0)
		log_printf(LOG_WARNING, "directory %s (line %u) is down: %s", s->value, s->line,
			   why->text);
	s->pause_ms = s->pause_ms == 0 ? PAUSE_LEAST_MS : s->pause_ms * 2;
	if (s->pause_ms > PAUSE_MOST_MS)
		s->pause_ms = PAUSE_MOST_MS;
	s->down_until = clock_ms() + s->pause_ms;
	s->why = *why;
}

static void note_up(struct source *s)
{
	if (s->pause_ms > 0)
		log_printf(LOG_NOTICE, "directory %s (line %u) answers again", s->value, s->line);
	s->pause_ms = 0;
}

static enum found ask(const struct directories *d, struct source *s,
		      const struct driver_question *q, struct account *ret, struct why *why)
{
	const size_t n = (size_t)(s - d->sources);

	if (s->pause_ms > 0 && clock_ms() < s->down_until) {
		*why = s->why;
		return FOUND_TROUBLE;
	}
	if (!patience_is_back(n)) {
		why_say(why, "a directory began answers and did not end them");
		return FOUND_TROUBLE;
	}
	if (s->driver != &driver_userdb) /* reads all of its files, however long that takes */
		patience_begin(n);
	enum found found = open_source(s, d->config, why) < 0
				   ? FOUND_DOWN
				   : s->driver->find(s->state, q, ret, why);

	patience_end();
	if (found == FOUND_DOWN) {
		note_down(s, why);
		return FOUND_TROUBLE;
	}
	note_up(s);
	return found;
}

/* Control characters are in no directory, and the end of a line in some protocols. */
static bool is_possible(struct span user)
{
	for (size_t i = 0; i < user.n; i++)
		if ((unsigned char)user.p[i] < ' ' || user.p[i] == 0x7f)
			return false;
	return user.n > 0 && user.n <= ACCOUNT_USER_MAX;
}

/* What the account may do here, and where it is when nobody says so. */
static enum found judge(const struct directories *d, const char *service, struct account *a,
			struct why *why)
{
	struct span lifetime;
	char option[40];

	if (account_add_defaults(a, span_str(d->config->default_options)) < 0) {
		why_say(why, "the account's options and default_options are too much together");
		return FOUND_TROUBLE;
	}
	if (a->lifetime == 0 && account_option(a, "lifetime", &lifetime))
		account_set_lifetime(a, lifetime);
	(void)snprintf(option, sizeof(option), "disable%s", service);
	if (account_option_is_on(a, option)) {
		why_say(why, "the account has %s", option);
		return FOUND_NOT;
	}
	(void)snprintf(option, sizeof(option), "disableinsecure%s", service);
	a->is_private = account_option_is_on(a, option);
	if (a->host_count == 0 && d->config->no_mailhost == NO_MAILHOST_REFUSE && d->checks_names) {
		why_say(why, "the account has no mail host");
		return FOUND_NOT;
	}
	a->is_local = a->host_count == 0 && d->config->no_mailhost == NO_MAILHOST_LOCAL &&
		      d->checks_names;
	return FOUND;
}

/* What an administrator must know of, and has nothing to do with what was typed. */
static void warn(struct source *s, const char *scheme, const char *problem)
{
	int64_t now_ms = clock_ms();

	if (now_ms < s->warn_at)
		return;
	s->warn_at = now_ms + WARN_MS;
	log_printf(LOG_WARNING, "directory %s (line %u): a password of the scheme %s %s", s->value,
		   s->line, scheme, problem);
}

static enum found check_hash(struct source *s, const struct account *a, struct span secret,
			     struct why *why)
{
	static const char *const problems[] = {
		[PASSWORD_UNKNOWN] = "is stored, which is not known here",
		[PASSWORD_BROKEN] = "is stored that is not well-formed",
		[PASSWORD_COSTLY] = "is stored that would take too long to check",
		[PASSWORD_LONG] = "is stored, and a longer one was typed than crypt(3) compares",
	};
	char scheme[PASSWORD_SCHEME_MAX];
	enum password_verdict verdict = password_check(span_str(a->hash), secret, scheme);

	why_say(why, "the password is wrong");
	if (verdict == PASSWORD_RIGHT)
		return FOUND;
	if (verdict != PASSWORD_WRONG) {
		warn(s, scheme, problems[verdict]);
		why_say(why, "a password of the scheme %s %s", scheme, problems[verdict]);
	}
	return FOUND_REFUSED;
}

/* Is it the account's password? */
static enum found check(struct source *s, const struct account *a, struct span secret,
			struct why *why)
{
	const struct span clear = span_str(a->password);

	if (a->checked)
		return FOUND;
	if (clear.n == 0 && !*a->hash) {
		why_say(why, "the directory has no password of the account");
		return FOUND_REFUSED;
	}
	if (*a->hash && (clear.n == 0 || !a->prefers_password))
		return check_hash(s, a, secret, why);
	why_say(why, "the password is wrong");
	return password_same(clear, secret) ? FOUND : FOUND_REFUSED;
}

/* Asks them in turn, for a name that is complete. *ret_source is the one that decided. */
static enum found ask_all(struct directories *d, const struct driver_question *q,
			  struct account *ret, struct source **ret_source, struct why *why)
{
	enum found found = FOUND_NOT;
	bool denied = false;

	for (size_t i = 0; i < d->count && found == FOUND_NOT; i++) {
		account_wipe(ret);
		(void)account_init(ret, q->user);
		found = ask(d, &d->sources[i], q, ret, why);
		if (found == FOUND_DENIED) {
			denied = true;
			found = FOUND_NOT;
		}
		if (found != FOUND_NOT)
			*ret_source = &d->sources[i];
	}
	if (found == FOUND_NOT)
		why_say(why, denied ? "the directory refused the password, or has no such account"
				    : "no directory knows the account");
	return found == FOUND_NOT && denied ? FOUND_REFUSED : found;
}

enum found directories_ask(struct directories *d, const struct driver_question *q,
			   struct account *ret, unsigned *ret_line, struct why *why)
{
	char name[ACCOUNT_USER_MAX];
	struct buf whole = BUF_OVER(name);
	struct driver_question question = *q;
	struct source *source = NULL;

	*ret_line = 0;
	memset(ret, 0, sizeof(*ret));
	if (config_login_name(d->config, q->user, &whole) < 0 ||
	    account_init(ret, buf_span(&whole)) < 0 ||
	    (d->checks_names && !is_possible(buf_span(&whole)))) {
		why_say(why, "no account can have this name");
		return FOUND_NOT;
	}
	if (q->check && !password_is_possible(q->secret)) {
		why_say(why, "no account can have this password");
		return FOUND_REFUSED;
	}
	question.user = buf_span(&whole);
	enum found found = ask_all(d, &question, ret, &source, why);

	*ret_line = source ? source->line : 0;
	if (found == FOUND && source->driver != driver_of(SPAN("static")))
		found = judge(d, q->service, ret, why);
	return found == FOUND && q->check ? check(source, ret, q->secret, why) : found;
}

int directories_complete(const struct directories *d, struct span name, struct buf *out)
{
	return config_login_name(d->config, name, out);
}

/* The password that the mail host wants, when it is not what the client typed. Only a directory
 * that judges itself can have two: what we check passwords with is the account's own. */
static struct span other_password(const struct account *a, struct span typed)
{
	const struct span own = span_str(a->password);

	return a->checked && own.n > 0 && !span_eq_secret(own, typed) ? own : SPAN_NONE;
}

static struct source *source_at(struct directories *d, unsigned line)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->sources[i].line == line && line > 0)
			return &d->sources[i];
	return NULL;
}

enum found directories_cram(struct directories *d, unsigned line, const char *service,
			    const char *mechanism, struct span challenge, struct span answer,
			    struct why *why)
{
	struct source *s = source_at(d, line);

	why_say(why, "the directory has neither a clear password nor what stands for one");
	if (!s || !s->opened || s->driver != &driver_authdaemon)
		return FOUND_NOT;
	patience_begin((size_t)(s - d->sources));
	enum found found = authdaemon_cram(s->state, service, mechanism, challenge, answer, why);

	patience_end();
	if (found == FOUND_DOWN)
		note_down(s, why);
	return found;
}

/* From 1 in the order in which they are asked; 0: none of them. What is remembered by that is good
 * whatever comments are written between their lines. */
static unsigned place_of(struct directories *d, unsigned line)
{
	const struct source *s = source_at(d, line);

	return s ? (unsigned)(s - d->sources) + 1 : 0;
}

/* One that has mail hosts of the other service only may not use this one. */
static enum found find_routes(const struct config *c, const struct account *a,
			      enum msg_service service, struct buf *hosts, struct why *why)
{
	switch (account_routes(a, c, service, hosts)) {
	case 0:
		return FOUND;
	case -ENOENT:
		why_say(why, "the account has no mail host for %s", msg_service_name(service));
		return FOUND_NOT;
	case -ENOBUFS:
		why_say(why, "the account's mail hosts are too many");
		return FOUND_TROUBLE;
	default:
		why_say(why, "the account's mail host is neither a name nor an address");
		return FOUND_TROUBLE;
	}
}

void directories_answer(struct directories *d, const struct msg_LOOKUP *question,
			struct directories_texts *texts, struct msg_ACCOUNT *ret)
{
	static const enum msg_account status[] = {
		[FOUND] = ACCOUNT_FOUND,
		[FOUND_NOT] = ACCOUNT_UNKNOWN,
		[FOUND_TROUBLE] = ACCOUNT_UNAVAILABLE,
		[FOUND_DOWN] = ACCOUNT_UNAVAILABLE,
		[FOUND_REFUSED] = ACCOUNT_REFUSED,
		[FOUND_DENIED] = ACCOUNT_REFUSED,
	};
	static struct account account; /* overwritten below */
	struct buf hosts = BUF_OVER(texts->hosts);
	char client[65] = "";
	const struct driver_question q = { .service = msg_service_name(question->service),
					   .user = question->user,
					   .check = question->check == CHECK_PASSWORD,
					   .secret = question->secret,
					   .client = client,
					   .tls = question->tls,
					   .attempt = question->attempt };
	unsigned line = 0;
	enum found found = FOUND_TROUBLE;

	why_say(&texts->why, "this service is not known");
	if (question->client.n > 0 && question->client.n < sizeof(client) &&
	    span_is_printable(question->client))
		memcpy(client, question->client.p, question->client.n);
	if (q.service)
		found = directories_ask(d, &q, &account, &line, &texts->why);
	if (found == FOUND)
		found = find_routes(d->config, &account, (enum msg_service)question->service,
				    &hosts, &texts->why);
	*ret = (struct msg_ACCOUNT){ .status = status[found],
				     .place = place_of(d, line),
				     .error = SPAN_NONE };
	if (found == FOUND) {
		(void)snprintf(texts->user, sizeof(texts->user), "%s", account.user);
		ret->hosts = buf_span(&hosts);
		ret->backend_user = span_str(texts->user);
		ret->lifetime = account.lifetime;
		ret->private = account.is_private;
		if (question->check != CHECK_NOTHING) {
			const struct span password = q.check ? other_password(&account, q.secret)
							     : span_str(account.password);

			memcpy(texts->password, password.p, password.n);
			ret->password = (struct span){ texts->password, password.n };
		}
	} else {
		ret->error = span_str(texts->why.text);
	}
	account_wipe(&account);
}
