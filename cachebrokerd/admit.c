/* Who may connect. A listener's child has asked itself already, before it greets, with the settings
 * it has; it brings its client here all the same, since only here all of them can be counted, and
 * one line a second be logged: strangers may connect as often as they like.
 */
#include "cachebrokerd/admit.h"

#include "lib/cidr.h"
#include "lib/clock.h"
#include "lib/log.h"

#define SILENCE_MS 1000

/* One line a second for each reason. */
struct quiet {
	int64_t until;
	uint64_t unsaid;
};

static void log_refused(struct quiet *q, const char *shown, const char *why)
{
	int64_t now = clock_ms();

	if (now < q->until) {
		q->unsaid++;
		return;
	}
	q->until = now + SILENCE_MS;
	log_printf(LOG_WARNING, "client refused client=%s why=\"%s\" others=%llu", shown, why,
		   (unsigned long long)q->unsaid);
	q->unsaid = 0;
}

bool admit_is_proxy(const struct broker *b, struct span address)
{
	return cidr_list_holds(span_str(b->config.proxy_protocol_addresses), address);
}

void admit_note_header(const char *shown)
{
	static struct quiet quiet;

	log_refused(&quiet, shown, "no PROXY header, or a bad one: proxy_protocol_addresses");
}

bool admit_address(struct broker *b, struct span address, const char *shown)
{
	static struct quiet quiet;

	if (admit_is_proxy(b, address) ||
	    cidr_permits(span_str(b->config.allow_addresses), span_str(b->config.deny_addresses),
			 address))
		return true;
	state_count(b->state, COUNTER_clients_denied, 1);
	state_count_end(b->state, END_ADDRESS_REFUSED);
	log_refused(&quiet, shown, "allow_addresses, deny_addresses");
	return false;
}
