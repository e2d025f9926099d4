/* A configuration as text, and what is reported of it: for all tests of keys. */
#ifndef TESTS_UNIT_CONFIG_SCENE_H
#define TESTS_UNIT_CONFIG_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/config.h"

static struct config c;
static char reports[16384]; /* "E " or "W ", the line and a line feed */
static int warnings;

/* The context is &c. */
static inline void collect(void *context, bool is_error, const char *line)
{
	size_t used = strlen(reports);

	assert_ptr_equal(context, &c);
	(void)snprintf(reports + used, sizeof(reports) - used, "%c %s\n", is_error ? 'E' : 'W',
		       line);
}

/* How many errors there are. */
static inline int parse_bytes(const char *text, size_t length)
{
	config_wipe(&c);
	reports[0] = '\0';
	assert_int_equal(config_init(&c), 0);
	return config_parse(&c, "f", text, length, collect, &c, &warnings);
}

static inline int parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static inline int wipe_config(void **unused)
{
	(void)unused;
	config_wipe(&c);
	return 0;
}

#endif
