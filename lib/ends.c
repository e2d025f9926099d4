/* The words of the end reasons. */
#include "lib/ends.h"

#include <stddef.h>

#define WORD(name, word, ...) word,

const char *end_word(unsigned end)
{
	static const char *const words[] = { END_TABLE(WORD) };

	return end < END_COUNT ? words[end] : "?";
}

const char *not_cached_word(unsigned reason)
{
	static const char *const words[] = { NOT_CACHED_TABLE(WORD) };

	return reason < NOT_CACHED_COUNT ? words[reason] : "?";
}

bool end_is_error(unsigned end)
{
#define IS_ERROR(name, word, is_error, ...) is_error,
	static const bool errors[] = { END_TABLE(IS_ERROR) };

	return end < END_COUNT && errors[end];
}

const char *end_bye(unsigned end)
{
#define BYE(name, word, is_error, bye, ...) bye,
	static const char *const texts[] = { END_TABLE(BYE) };

	return end < END_COUNT ? texts[end] : NULL;
}
