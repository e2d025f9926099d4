/* proxyd -n and -p. */
#include "proxyd/settings.h"

#include <stdio.h>

#include "lib/config.h"
#include "lib/config_tls.h"
#include "lib/large.h"
#include "lib/tls_files.h"

static void report(void *context, bool is_error, const char *line)
{
	(void)context;
	(void)fprintf(stderr, "%s%s\n", is_error ? "" : "warning: ", line);
}

int settings_tool(const char *path, bool check, bool print)
{
	static LARGE char text[32768];
	struct config c;
	int warnings = 0;

	if (config_load(&c, path, -1, report, NULL, &warnings) != 0)
		return 1;
	if (check && tls_files_check(&c, path, report, NULL, &warnings) != 0) {
		config_wipe(&c);
		return 1;
	}
	config_tls_settle(&c);
	if (print && config_print(&c, text, sizeof(text)) > 0)
		(void)fputs(text, stdout);
	config_wipe(&c);
	return check && warnings > 0 ? 1 : 0;
}
