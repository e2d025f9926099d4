/* pimpstat -1: the model as a page of text. */
#ifndef PIMPSTAT_TEXT_H
#define PIMPSTAT_TEXT_H

#include <stdio.h>

#include "pimpstat/model.h"

/* Writes the page; now is in seconds since 1970, times are shown in this process's time zone. Write
 * errors are the stream's. */
void text_print(FILE *out, const struct model *m, int64_t now);

/* Writes foreign bytes so that they cannot command a terminal: printable ASCII as it is, \\ for a
 * backslash, \xNN for all else. Returns how many columns that took. */
size_t text_print_foreign(FILE *out, struct span bytes);

#endif
