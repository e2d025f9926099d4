/* pimpstat --json. */
#ifndef PIMPSTAT_JSON_H
#define PIMPSTAT_JSON_H

#include <stdio.h>

#include "pimpstat/model.h"

/* Writes the model as one JSON object and a line feed; pimpstat(8) describes it. now is in seconds
 * since 1970. The output is pure ASCII. Returns 0, -ENOMEM or -EIO. */
int json_print(FILE *out, const struct model *m, int64_t now);

#endif
