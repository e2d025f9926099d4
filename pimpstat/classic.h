/* pimpstat -c: what up-imapproxy's pimpstat -c printed. */
#ifndef PIMPSTAT_CLASSIC_H
#define PIMPSTAT_CLASSIC_H

#include <stdio.h>

#include "pimpstat/model.h"

/* Twelve lines, byte for byte as scripts know them. Write errors are the stream's. */
void classic_print(FILE *out, const struct model *m);

#endif
