/* What the log says of the state file. */
#ifndef CACHEBROKERD_STATE_WORDS_H
#define CACHEBROKERD_STATE_WORDS_H

#include "cachebrokerd/state_db.h"

/* It was opened, and this is what was there before. */
void state_words_found(const char *path, enum state_db_found found);

/* It cannot be used: an error as state_db_error() takes it. */
void state_words_unusable(const char *path, int error);

#endif
