/* What running sessions have moved, by the kernel's own count. */
#ifndef PIMPSTAT_TRAFFIC_H
#define PIMPSTAT_TRAFFIC_H

#include "pimpstat/model.h"

/* Fills in the bytes of active sessions whose client's TCP connection ends on this machine, in this
 * network namespace. What the kernel does not tell stays unknown. Waits 200 ms at most. */
void traffic_add(struct model *m);

#endif
