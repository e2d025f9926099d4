/* The settings once more, on SIGHUP: read, checked, put where the children read them. */
#ifndef IMAPPROXYD_RELOAD_H
#define IMAPPROXYD_RELOAD_H

#include <stdbool.h>

#include "imapproxyd/supervisor.h"

/* Reads the configuration and the files that it names; only when all of it is good it replaces what
 * the children see. Everything is reported. Returns 0 and in *ret_tls whether there is TLS now, or
 * -errno: nothing has changed. */
int reload_settings(struct supervisor *s, bool *ret_tls);

#endif
