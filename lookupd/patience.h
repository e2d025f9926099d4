/* How long one directory may hold a worker up, whatever its driver believes. */
#ifndef LOOKUPD_PATIENCE_H
#define LOOKUPD_PATIENCE_H

#include <stddef.h>
#include <stdint.h>

#include "lookupd/driver.h"

/* Above what a driver allows itself, below what the broker waits for. */
#define PATIENCE_SECONDS (DRIVER_TIMEOUT_MS / 1000 + 1)

/* In a worker: from now on a directory that takes longer ends this process. */
void patience_watch(void);

/* Around each call of the n-th directory's driver, but of one whose work grows with its files: all
 * workers would be ended over that, again and again. Without patience_watch() they do nothing. */
void patience_begin(size_t n);
void patience_end(void);

/* Of a process that ended with this exit status: the number of the directory that held it up, or
 * -1. */
int patience_cause(int exit_status);

/* In the master: the n-th directory has held a worker up, and workers that are forked from now on
 * leave it alone for a while. Returns that while's milliseconds. */
int64_t patience_note(size_t n);

/* In the master: the directories are others now. */
void patience_forget(void);

/* May the n-th directory be asked again? */
bool patience_is_back(size_t n);

#endif
