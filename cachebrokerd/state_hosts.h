/* The mail hosts' figures on their way into the state file. Inside the state file's module only. */
#ifndef CACHEBROKERD_STATE_HOSTS_H
#define CACHEBROKERD_STATE_HOSTS_H

#include "cachebrokerd/state_db.h"
#include "lib/span.h"
#include "lib/statefile.h"

#define STATE_HOSTS_MOST 8192 /* hosts of several services and settings may share one */

/* The host of this label, made when it is new. The figures live until the host has been released,
 * or pushed out while nobody holds it. NULL: no memory, or too many are held. */
struct statefile_host *state_hosts_find(struct state_host **list, struct span label);

/* Somebody counts in the host's figures, or does so no more: with the last one it leaves the file.
 */
void state_hosts_hold(struct state_host *list, struct span label);
void state_hosts_release(struct state_host *list, struct span label);

/* How many have a label that is_one() is true for. */
unsigned state_hosts_count(struct state_host *list,
			   bool (*is_one)(const void *context, struct span label),
			   const void *context);

/* What is counted begins anew; what is now stays. */
void state_hosts_reset(struct state_host *list);

/* Have any figures changed since they were last handed over? */
bool state_hosts_changed(const struct state_host *list);

/* A row for each host whose figures have changed or that is gone, in front of *rows; without memory
 * it waits for the next time. */
void state_hosts_rows(struct state_host **list, struct state_row **rows);

void state_hosts_free(struct state_host **list);

#endif
