/* Would tlsrelayd take these settings? */
#ifndef IMAPPROXYD_TLSCHECK_H
#define IMAPPROXYD_TLSCHECK_H

#include "imapproxyd/child.h"

/* Has tlsrelayd look at a configuration's text and the files that belong to it (tlsfiles_copy());
 * both stay the caller's. Waits for it, some seconds at most. 0, or -errno, reported. */
int tlscheck_run(const struct child_setup *setup, int text, int files);

#endif
