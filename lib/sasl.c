/* SASL mechanisms: the one table that the parser of imapproxy.conf, the capability lists and both
 * sides' logins read. */
#include "lib/sasl.h"

#include <errno.h>

static const struct sasl_row rows[] = {
	{ { "PLAIN", 5 }, SASL_PLAIN, PROOF_PASSWORD },
	{ { "LOGIN", 5 }, SASL_LOGIN, PROOF_PASSWORD },
	{ { "XOAUTH2", 7 }, SASL_XOAUTH2, PROOF_XOAUTH2 },
	{ { "OAUTHBEARER", 11 }, SASL_OAUTHBEARER, PROOF_OAUTHBEARER },
	{ { "SCRAM-SHA-256", 13 }, SASL_SCRAM_SHA_256, PROOF_VERIFIED },
	{ { "SCRAM-SHA-1", 11 }, SASL_SCRAM_SHA_1, PROOF_VERIFIED },
	{ { "CRAM-SHA256", 11 }, SASL_CRAM_SHA256, PROOF_VERIFIED },
	{ { "CRAM-SHA1", 9 }, SASL_CRAM_SHA1, PROOF_VERIFIED },
	{ { "CRAM-MD5", 8 }, SASL_CRAM_MD5, PROOF_VERIFIED },
	{ { "EXTERNAL", 8 }, SASL_EXTERNAL, PROOF_EXTERNAL },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

bool sasl_row_at(size_t i, struct sasl_row *ret)
{
	if (i >= ROWS)
		return false;
	*ret = rows[i];
	return true;
}

bool sasl_token_of(uint32_t proof, struct sasl_row *ret)
{
	for (size_t i = 0; i < ROWS; i++) {
		if ((uint32_t)rows[i].proof != proof || !(rows[i].bit & SASL_TOKENS))
			continue;
		*ret = rows[i];
		return true;
	}
	return false;
}

static uint32_t bit_of(struct span name)
{
	for (size_t i = 0; i < ROWS; i++)
		if (span_ieq(name, rows[i].name))
			return rows[i].bit;
	return span_ieq(name, SPAN("APOP")) ? SASL_APOP : 0;
}

int sasl_list_read(struct span list, uint32_t *ret, struct span *ret_bad)
{
	struct span rest = list;
	uint32_t found = 0;

	if (span_ieq(list, SPAN("none"))) {
		*ret = 0;
		return 0;
	}
	for (;;) {
		struct span word = span_word(&rest, ' ');
		uint32_t bit = bit_of(word);

		if (word.n == 0)
			break;
		if (bit == 0) {
			*ret_bad = word;
			return -EINVAL;
		}
		found |= bit;
	}
	*ret = found;
	return 0;
}
