/* An errand: a job that needs IMAP or POP3 but has no client, done by a process of its own. */
#ifndef PROXYD_ERRAND_H
#define PROXYD_ERRAND_H

#include "lib/msg.h"

/* In a new process that holds nothing else of its parent's: becomes the user that `start` names,
 * goes to jail, takes the job that waits in link, does it and tells the broker its outcome. Takes
 * over link. Returns the process's exit status. */
int errand_run(int link, const struct msg_ERRAND *start);

#endif
