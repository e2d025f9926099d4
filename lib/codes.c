/* The response codes' words: programs tell each other numbers, so that what a mail host says comes
 * no further than to who talks with it.
 */
#include "lib/codes.h"

#include "lib/span.h"

#define CODES_WORD(name, word) [CODE_##name] = (word),
static const char *const words[CODE_COUNT] = { [CODE_NONE] = "", CODES_TABLE(CODES_WORD) };
#undef CODES_WORD

const char *code_word(uint32_t code)
{
	return code < CODE_COUNT ? words[code] : "";
}

enum response_code code_of(const char *word)
{
	for (enum response_code i = CODE_NONE + 1; i < CODE_COUNT; i++)
		if (span_ieq(span_str(word), span_str(words[i])))
			return i;
	return CODE_NONE;
}
