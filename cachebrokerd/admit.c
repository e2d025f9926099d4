/* Who may connect. A listener's child has asked itself already, before it greets, with the settings
 * it has; it brings its client here all the same, since only here all of them can be counted, and
 * one line a second be logged: strangers may connect as often as they like.
 */
#include "cachebrokerd/admit.h"

#include "lib/cidr.h"
#include "lib/clock.h"
#include "lib/log.h"

#define SILENCE_MS 1000

static void log_denied(const char *shown)
{
	static int64_t silent_until;
	static uint64_t unsaid;
	int64_t now = clock_ms();

	if (now < silent_until) {
		unsaid++;
		return;
	}
	silent_until = now + SILENCE_MS;
	log_printf(LOG_WARNING,
		   "client refused client=%s why=\"allow_addresses, deny_addresses\" others=%llu",
		   shown, (unsigned long long)unsaid);
	unsaid = 0;
}

bool admit_address(struct broker *b, struct span address, const char *shown)
{
	if (cidr_permits(span_str(b->config.allow_addresses), span_str(b->config.deny_addresses),
			 address))
		return true;
	state_count(b->state, COUNTER_clients_denied, 1);
	state_count_end(b->state, END_ADDRESS_REFUSED);
	log_denied(shown);
	return false;
}
