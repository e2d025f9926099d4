/* The kinds of directories, as all programs know them: the file is refused before anything starts,
 * also by those that have no drivers. Which of them a lookupd was built with only it knows.
 */
#include "lib/config_directory.h"

enum place { PLACE_NONE, PLACE_PATH, PLACE_URL };

static const struct {
	const char *kind;
	enum place place;
} kinds[] = {
	{ "static", PLACE_NONE }, { "userdb", PLACE_PATH }, { "lmdb", PLACE_PATH },
	{ "http", PLACE_URL },	  { "https", PLACE_URL },   { "authdaemon", PLACE_PATH },
	{ "ldap", PLACE_PATH },	  { "pgsql", PLACE_PATH },  { "mysql", PLACE_PATH },
};

static const char *judge_place(enum place allowed, const char *place)
{
	switch (allowed) {
	case PLACE_NONE:
		return *place ? "give static: and nothing behind it" : NULL;
	case PLACE_PATH:
		return *place == '/' ? NULL : "give an absolute path behind the colon";
	case PLACE_URL:
		/* the whole line is shown in logs */
		return strncmp(place, "//", 2) == 0 && place[2] && !strchr(place, '@')
			       ? NULL
			       : "give a URL without a password: http://HOST:PORT/PATH";
	}
	return "?";
}

const char *config_directory_split(const char *value, struct span *ret_kind, const char **ret_place)
{
	const char *colon = strchr(value, ':');
	const struct span kind = { value, colon ? (size_t)(colon - value) : 0 };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!span_eq(kind, span_str(kinds[i].kind)))
			continue;
		*ret_kind = kind;
		*ret_place = colon + 1;
		return judge_place(kinds[i].place, colon + 1);
	}
	return "give one of static: userdb:PATH lmdb:PATH http://... https://... authdaemon:PATH "
	       "ldap:PATH pgsql:PATH mysql:PATH";
}

const char *config_directory_header(const char *text, struct span *ret_name,
				    struct span *ret_value)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
	const size_t length = strspn(text, letters), blanks = strspn(text + length, " \t");

	*ret_name = (struct span){ text, length };
	*ret_value = span_str(text + length + blanks);
	return length > 0 && blanks > 0 && ret_value->n > 0 && span_is_printable(*ret_value)
		       ? NULL
		       : "give NAME VALUE: letters, digits and - in the name, no colon behind "
			 "it, and printable ASCII in the value";
}
