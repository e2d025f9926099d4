/* The XPROXY_ commands before login: asked of the broker, which knows who may, and answered as the
 * old program did. */
#ifndef PROXYD_ADMIN_H
#define PROXYD_ADMIN_H

#include "proxyd/imap_args.h"
#include "proxyd/session.h"

/* Serves the command, one of XPROXY_VERSION, _DUMPICC, _TRACE, _NEWLOG and _RESETCOUNTERS. True:
 * answered, *ret_end is END_NONE or why the session ends. False: this client may not, and was told
 * nothing. */
bool admin_command(struct session *s, const struct imap_command *c, int64_t deadline,
		   enum session_end *ret_end);

#endif
