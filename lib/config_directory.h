/* What a `directory` line of the configuration may be, KIND:PLACE, and auth_http_header. Pure. */
#ifndef LIB_CONFIG_DIRECTORY_H
#define LIB_CONFIG_DIRECTORY_H

#include "lib/span.h"

/* Cuts a value at its first colon: the kind, and what is behind it. Returns NULL, or what is wrong
 * and what is allowed, for people: a kind that does not exist, or a place that this kind does not
 * take. */
const char *config_directory_split(const char *value, struct span *ret_kind,
				   const char **ret_place);

/* Cuts auth_http_header in two: NAME VALUE, with blanks between them. Returns NULL, or what is
 * allowed, without what was found: mostly that is a secret. */
const char *config_directory_header(const char *text, struct span *ret_name,
				    struct span *ret_value);

#endif
