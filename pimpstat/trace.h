/* pimpstat --trace USER, --untrace USER, --traced: who is traced into the protocol log. */
#ifndef PIMPSTAT_TRACE_H
#define PIMPSTAT_TRACE_H

#include <stdio.h>

/* Does what the command line says, if it has one of these options. Returns the exit status, or -1:
 * it has none, and getopt(3) begins anew. */
int trace_main(int argc, char **argv, const char *default_config);

/* The lines of the usage text about these options. */
void trace_print_usage(FILE *out);

#endif
