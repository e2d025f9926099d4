/* How many connections each client's address has, for each service by itself (max_per_ip). Pure.
 *
 * There is an entry for every address that has one, so never more than there are clients.
 */
#ifndef CACHEBROKERD_PERIP_H
#define CACHEBROKERD_PERIP_H

#include <stdbool.h>
#include <stdint.h>

struct perip;

/* NULL: no memory. */
struct perip *perip_new(void);
void perip_free(struct perip *p);

/* One more, unless there are `most` already (0: no bound). False: there are; it does not count. An
 * address is a text of at most 64 bytes. */
bool perip_join(struct perip *p, uint32_t service, const char *address, uint32_t most);

/* One that has joined is gone. */
void perip_leave(struct perip *p, uint32_t service, const char *address);

#endif
