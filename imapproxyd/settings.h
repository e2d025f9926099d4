/* The configuration as the supervisor needs it: read, checked against this machine, names resolved
 * to ids. */
#ifndef IMAPPROXYD_SETTINGS_H
#define IMAPPROXYD_SETTINGS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "lib/config.h"
#include "lib/log.h"

/* What the children run as; drop is false when an ordinary user started us. */
struct identity {
	bool drop;
	uid_t uid;
	gid_t gid;
};

struct settings {
	struct config config;
	char config_path[PATH_MAX]; /* absolute */
	char run_directory[128];
	char pid_file[PATH_MAX]; /* absolute; "" for none */
	bool foreground;
	enum log_target target;
	const char *log_file; /* of LOG_TO_FILE; borrowed from config */
	struct identity identity;
};

/* Reads the configuration text from the descriptor (a copy of the file config_path) and checks it;
 * every problem is reported. pid_file is what -p said, or NULL. at_start also resolves
 * listen_address and gives the start's notices. Returns 0 or the number of errors; on errors s
 * holds nothing. */
int settings_load(struct settings *s, const char *config_path, int text_fd, const char *pid_file,
		  bool at_start);

/* Where the key stands, for messages: "FILE:LINE", or FILE alone for a default. Lives until the
 * next call. */
const char *settings_place(const struct settings *s, const char *key);

/* Frees what settings_load() allocated. */
void settings_wipe(struct settings *s);

/* Writes path, made absolute with the current directory, to out. Returns 0 or -errno. */
int settings_absolute(const char *path, char *out, size_t cap);

#endif
