/* What a mail host has said with the refusal of a login, as messages carry it: a number of this
 * table, never a text of the mail host's. Pure.
 */
#ifndef LIB_CODES_H
#define LIB_CODES_H

#include <stdint.h>

/* Response codes of RFC 5530, and POP3's LOGIN-DELAY (RFC 2449). */
#define CODES_TABLE(ROW) \
	ROW(AUTHENTICATIONFAILED, "AUTHENTICATIONFAILED") \
	ROW(AUTHORIZATIONFAILED, "AUTHORIZATIONFAILED") \
	ROW(EXPIRED, "EXPIRED") \
	ROW(PRIVACYREQUIRED, "PRIVACYREQUIRED") \
	ROW(CONTACTADMIN, "CONTACTADMIN") \
	ROW(NOPERM, "NOPERM") \
	ROW(LIMIT, "LIMIT") \
	ROW(UNAVAILABLE, "UNAVAILABLE") \
	ROW(INUSE, "INUSE") \
	ROW(SERVERBUG, "SERVERBUG") \
	ROW(CANNOT, "CANNOT") \
	ROW(LOGIN_DELAY, "LOGIN-DELAY")

#define CODES_ENUM(name, word) CODE_##name,
enum response_code { CODE_NONE, CODES_TABLE(CODES_ENUM) CODE_COUNT };
#undef CODES_ENUM

/* Its word, static; "" for CODE_NONE and for what is no code. */
const char *code_word(uint32_t code);

/* The code of a word, in any case; CODE_NONE: none of them. */
enum response_code code_of(const char *word);

#endif
