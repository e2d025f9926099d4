/* Who may connect. A listener's child has asked itself already, before it greets, with the settings
 * it has; it brings its client here all the same, since only here all of them can be counted, and
 * one line a second be logged: strangers may connect as often as they like.
 */
#include "cachebrokerd/admit.h"

#include <string.h>

#include "cachebrokerd/perip.h"
#include "lib/buf.h"
#include "lib/cidr.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/msg.h"

#define SILENCE_MS 1000

/* A kind of line of which others were left out. */
struct kind {
	const char *why;
	int64_t silent_until;
	uint64_t unsaid;
};

static bool log_denied(struct kind *k, const char *shown)
{
	int64_t now = clock_ms();

	if (now < k->silent_until) {
		k->unsaid++;
		return false;
	}
	k->silent_until = now + SILENCE_MS;
	log_printf(LOG_WARNING, "client refused client=%s why=%s others=%llu", shown, k->why,
		   (unsigned long long)k->unsaid);
	k->unsaid = 0;
	return true;
}

bool admit_is_proxy(const struct broker *b, struct span address)
{
	return cidr_list_holds(span_str(b->config.proxy_protocol_addresses), address);
}

void admit_note_header(const char *shown)
{
	static struct kind kind = {
		.why = "\"no PROXY header, or a bad one: proxy_protocol_addresses\""
	};

	(void)log_denied(&kind, shown);
}

void admit_note_denied(struct broker *b, const char *shown)
{
	static struct kind kind = { .why = "\"allow_addresses, deny_addresses\"" };

	state_count(b->state, COUNTER_clients_denied, 1);
	(void)log_denied(&kind, shown);
}

bool admit_address(struct broker *b, struct span address, const char *shown)
{
	if (cidr_permits(span_str(b->config.allow_addresses), span_str(b->config.deny_addresses),
			 address))
		return true;
	state_count_end(b->state, END_ADDRESS_REFUSED);
	admit_note_denied(b, shown);
	return false;
}

/* Courier's line, for programs that look for it. */
static void log_as_courier(uint32_t service, const char *address)
{
	char bytes[150];
	struct buf line = BUF_OVER(bytes);

	if (buf_add_str(&line, "Maximum connection limit reached for ") == 0 &&
	    buf_add_str(&line, strchr(address, ':') ? "" : "::ffff:") == 0 &&
	    buf_add_str(&line, address) == 0)
		(void)log_write_as(service == SERVICE_POP3 ? LOG_NAME_POP3D : LOG_NAME_IMAPD,
				   LOG_ALERT, buf_span(&line));
}

bool admit_one_more(struct broker *b, uint32_t service, const char *address, bool served,
		    const char *shown)
{
	static struct kind kind = { .why = "max_per_ip" };
	struct cidr_address parsed;

	/* a local socket has no address */
	bool bound = !served && cidr_address_parse(span_str(address), &parsed) == 0;

	if (perip_join(b->perip, service, address, bound ? b->config.max_per_ip : 0))
		return true;
	state_count(b->state, COUNTER_clients_refused, 1);
	state_count_end(b->state, END_TOO_MANY_PER_IP);
	if (log_denied(&kind, shown) && b->config.log_format == LOG_FORMAT_COURIER)
		log_as_courier(service, address);
	return false;
}

void admit_gone(struct broker *b, uint32_t service, const char *address)
{
	perip_leave(b->perip, service, address);
}
