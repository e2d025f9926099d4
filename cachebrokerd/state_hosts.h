/* The mail hosts' figures on their way into the state file. Inside the state file's module only. */
#ifndef CACHEBROKERD_STATE_HOSTS_H
#define CACHEBROKERD_STATE_HOSTS_H

#include "cachebrokerd/state_db.h"
#include "lib/span.h"
#include "lib/statefile.h"

/* The host of this label, made when it is new. The figures live as long as the list. NULL: no
 * memory. */
struct statefile_host *state_hosts_find(struct state_host **list, struct span label);

/* What is counted begins anew; what is now stays. */
void state_hosts_reset(struct state_host *list);

/* Have any figures changed since they were last handed over? */
bool state_hosts_changed(const struct state_host *list);

/* A row for each host whose figures have changed, in front of *rows; without memory it waits for
 * the next time. */
void state_hosts_rows(struct state_host *list, struct state_row **rows);

void state_hosts_free(struct state_host **list);

#endif
