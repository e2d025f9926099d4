/* What a directory's or a name server's answer cannot do, even if it takes a library over.
 *
 * The filters are made at build time (jail/make_filter.c). Reading files stays possible: which ones
 * a library or a module of nsswitch.conf needs, nobody knows. Whoever started this program with the
 * right to read all files meant that (a secret that only root may read), so that right stays.
 */
#include "lookupd/jail.h"

#include <linux/capability.h>
#include <linux/filter.h>

#include "lib/confine.h"
#include "lookup_filter.h"

#define READS_ALL (1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH)

int jail_enter_lookupd(void)
{
	static const struct sock_filter steps[] = { LOOKUP_MASTER_FILTER };
	int r = confine_rights(READS_ALL);

	if (r == 0)
		r = confine_writes(NULL, 0);
	return r < 0 ? r : confine_calls(steps, sizeof(steps) / sizeof(steps[0]));
}

int jail_enter_worker(void)
{
	static const struct sock_filter steps[] = { LOOKUP_WORKER_FILTER };

	return confine_calls(steps, sizeof(steps) / sizeof(steps[0]));
}
