/* TCP wrappers (hosts_access(5)): the old program obeyed their files, this one does not and says
 * so. */
#ifndef IMAPPROXYD_WRAPPERS_H
#define IMAPPROXYD_WRAPPERS_H

#include "lib/span.h"

/* Which of our names a rule in this text of hosts.allow or hosts.deny has; NULL for none. */
const char *wrappers_find(struct span text);

/* Reports one warning when /etc/hosts.allow or /etc/hosts.deny have rules for us. */
void wrappers_warn(void);

#endif
