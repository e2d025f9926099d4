/* What the log says of the state file. */
#include "cachebrokerd/state_words.h"

#include "lib/log.h"

void state_words_found(const char *path, enum state_db_found found)
{
	switch (found) {
	case STATE_DB_OURS:
		return;
	case STATE_DB_REBUILT:
		log_printf(LOG_NOTICE,
			   "state file %s: made anew, it was of another boot or version "
			   "or damaged",
			   path);
		return;
	case STATE_DB_OLD:
	case STATE_DB_OLD_AGAIN:
		log_printf(LOG_NOTICE,
			   "state file %s: up-imapproxy's statistics are kept as %s.old%s", path,
			   path, found == STATE_DB_OLD ? "" : ", in place of what had that name");
		return;
	case STATE_DB_OLD_LOST:
		log_printf(LOG_NOTICE,
			   "state file %s: up-imapproxy's statistics were in the way and "
			   "could not be kept",
			   path);
		return;
	}
}

void state_words_unusable(const char *path, int error)
{
	log_printf(LOG_WARNING,
		   "state file %s (or %s-lock) cannot be used: %s; pimpstat will show "
		   "nothing, mail is served all the same",
		   path, path, state_db_error(error));
}
