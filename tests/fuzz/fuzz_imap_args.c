/* The small parsers under foreign bytes: a client's command and its strings, ID lists, capability
 * lists, base64, messages with tokens, and the configuration file. Each input goes to all of them.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>

#include "lib/base64.h"
#include "lib/config.h"
#include "lib/config_tls.h"
#include "lib/sasl.h"
#include "proxyd/capability.h"
#include "proxyd/follow.h"
#include "proxyd/imap_args.h"
#include "proxyd/sasl_oauth.h"
#include "proxyd/tag.h"
#include "proxyd/verbs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MOST 8192

static bool is_inside(struct span part, struct span whole)
{
	return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

/* What can be quoted comes back as it was. */
static void check_quoted(struct span value)
{
	char quoted[2 * INPUT_MOST + 2], plain[INPUT_MOST];
	struct buf out = BUF_OVER(quoted), again = BUF_OVER(plain);

	if (imap_add_quoted(&out, value) < 0)
		return;
	struct span rest = buf_span(&out);

	assert(imap_take_astring(&rest, &again) == 0);
	assert(rest.n == 0 && span_eq(buf_span(&again), value));
}

static void check_astrings(struct span rest)
{
	char bytes[INPUT_MOST];
	struct buf out = BUF_OVER(bytes);
	struct span whole = rest;

	while (imap_take_astring(&rest, &out) == 0) {
		struct span value = buf_span(&out);

		assert(is_inside(rest, whole) && rest.n < whole.n);
		assert(value.n <= whole.n && !memchr(value.p, '\0', value.n));
		check_quoted(value);
		buf_consume(&out, out.len);
		rest = span_from(rest, rest.n > 0 && rest.p[0] == ' ');
	}
}

static void check_command(struct span input)
{
	struct imap_command c = {.tag = SPAN_NONE};
	int r = imap_split(input, &c);

	assert(r == 0 || r == -EINVAL || r == -ENODATA);
	if (r == -EINVAL)
		return;
	assert(c.tag.n > 0 && c.tag.n <= IMAP_TAG_MAX && is_inside(c.tag, input));
	assert((c.verb.n > 0) == (r == 0) && is_inside(c.verb, input) && is_inside(c.args, input));
	(void)verb_class_of(c.verb, c.args, SPAN("XSITE"));
	(void)verb_line_enables(input);
	check_astrings(c.args);
}

/* An accepted list comes out as one that is accepted and stays the same. */
static void check_id(struct span input)
{
	char bytes[INPUT_MOST], more[INPUT_MOST];
	struct buf once = BUF_OVER(bytes), twice = BUF_OVER(more);

	if (imap_read_id(input, &once) < 0)
		return;
	assert(!memchr(bytes, '\n', once.len) && !memchr(bytes, '\0', once.len));
	assert(imap_read_id(buf_span(&once), &twice) == 0);
	assert(span_eq(buf_span(&once), buf_span(&twice)));
}

static void check_capability(struct span input)
{
	char bytes[INPUT_MOST + 20];
	struct buf out = BUF_OVER(bytes);
	struct span list;

	if (capability_in_line(input, &list))
		assert(is_inside(list, input));
	assert(capability_filter(input, SPAN("NOTIFY IDLE"), &out) == 0);
	struct span filtered = buf_span(&out);

	assert(capability_has(filtered, SPAN("XIMAPPROXY")));
	assert(!capability_has(filtered, SPAN("IDLE")) &&
	       !capability_has(filtered, SPAN("STARTTLS")));
	assert(!capability_has(filtered, SPAN("AUTH=PLAIN")));
}

static void check_base64(struct span input)
{
	char plain[INPUT_MOST], text[INPUT_MOST * 2];
	int n = base64_decode(input, plain, sizeof(plain));

	if (n >= 0) {
		int m = base64_encode((struct span){plain, (size_t)n}, text, sizeof(text));

		assert(m >= 0 &&
		       span_eq((struct span){text, (size_t)m}, input)); /* one form only */
	}
	n = base64_encode(input, text, sizeof(text));
	assert(n >= 0);
	n = base64_decode((struct span){text, (size_t)n}, plain, sizeof(plain));
	assert(n >= 0 && span_eq((struct span){plain, (size_t)n}, input));
}

/* What is taken for a name and a token is written and reads the same. */
static void check_token(enum msg_proof kind, struct span input)
{
	char name[INPUT_MOST], again[INPUT_MOST], text[3 * INPUT_MOST + SASL_OAUTH_EXTRA];
	struct buf user = BUF_OVER(name), same = BUF_OVER(again), out = BUF_OVER(text);
	struct span token, second;

	if (sasl_oauth_read(kind, input, &user, &token) < 0)
		return;
	assert(user.len > 0 && token.n > 0 && is_inside(token, input));
	assert(!memchr(name, '\0', user.len) && !memchr(name, '\001', user.len));
	assert(sasl_oauth_write(kind, buf_span(&user), token, &out) == 0);
	assert(sasl_oauth_read(kind, buf_span(&out), &same, &second) == 0);
	assert(span_eq(buf_span(&user), buf_span(&same)) && span_eq(token, second));
}

static void check_mechanisms(struct span input)
{
	struct span bad;
	uint32_t set;

	if (sasl_list_read(input, &set, &bad) < 0)
		assert(bad.n > 0 && is_inside(bad, input));
	else
		assert(set <= (SASL_PLAIN | SASL_LOGIN | SASL_TOKENS));
}

static void hear(void *context, bool is_error, const char *line)
{
	unsigned *errors = context;

	assert(line[0] != '\0' && !strchr(line, '\n'));
	*errors += is_error;
}

/* What was read and printed reads and prints the same. */
static void check_config(struct span input)
{
	static char text[65536], again[65536];
	struct config c, d;
	unsigned errors = 0;

	if (config_init(&c) < 0)
		return;
	int r = config_parse(&c, "fuzz", input.p, input.n, hear, &errors, NULL);

	assert(r == (int)errors);
	if (r == 0 && config_init(&d) == 0) {
		config_tls_settle(&c);
		int n = config_print(&c, text, sizeof(text));

		assert(n > 0);
		assert(config_parse(&d, "again", text, (size_t)n, hear, &errors, NULL) == 0);
		config_tls_settle(&d);
		assert(config_print(&d, again, sizeof(again)) == n &&
		       memcmp(text, again, (size_t)n) == 0);
		config_wipe(&d);
	}
	config_wipe(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = {(const char *)data, size}, rest;
	const struct tag tag = {.text = "K0123456789abcde"};

	if (size > INPUT_MOST)
		return 0;
	check_command(input);
	check_astrings(input);
	check_id(input);
	check_capability(input);
	check_base64(input);
	check_token(PROOF_XOAUTH2, input);
	check_token(PROOF_OAUTHBEARER, input);
	check_mechanisms(input);
	check_config(input);
	(void)tag_completes(&tag, input, &rest);
	return 0;
}
