/* Settings files of courier-authlib (authldaprc, authmysqlrc, authpgsqlrc), read as they are. */
#ifndef LOOKUPD_AUTHRC_H
#define LOOKUPD_AUTHRC_H

#include "lookupd/driver.h"

#define AUTHRC_SETTINGS_MAX 128

struct authrc {
	char *text;
	size_t length;
	size_t count;
	struct {
		const char *name, *value; /* in text */
	} settings[AUTHRC_SETTINGS_MAX];
};

/* Reads a file; one that everybody may read is refused, since there are passwords in it. 0, or
 * -errno and *why. */
int authrc_read(const char *path, struct authrc *ret, struct why *why);

/* Finds the settings in a text of so many bytes and a NUL, which it takes over and changes: lines
 * NAME and value with blanks between; # begins a comment line, \ at the end goes on. The first line
 * of a name counts. 0, or -EINVAL and *why. Pure. */
int authrc_parse(struct authrc *a, char *text, size_t length, struct why *why);

/* Overwrites and frees it. */
void authrc_wipe(struct authrc *a);

/* A setting's value, or `usual` when it is not there. */
const char *authrc_get(const struct authrc *a, const char *name, const char *usual);

/* The same as a number. */
long authrc_number(const struct authrc *a, const char *name, long usual);

#endif
