/* What the master gives up. It has the keys and reads files of keys at each reload, so reading
 * stays; whoever started it with the right to read all files meant that. */
#include <linux/capability.h>
#include <linux/filter.h>
#include <unistd.h>

#include "lib/confine.h"
#include "relay_master_filter.h"
#include "tlsrelayd/sandbox.h"

#define READS_ALL (1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH)

int sandbox_enter_master(void)
{
	static const struct sock_filter steps[] = { RELAY_MASTER_FILTER };

	if (geteuid() == 0)
		return 0;
	int r = confine_rights(READS_ALL);

	if (r == 0)
		r = confine_writes(NULL, 0);
	return r < 0 ? r : confine_calls(steps, sizeof(steps) / sizeof(steps[0]));
}
