/* A reused connection that dies before its first response was dead when it was handed out.
 *
 * What was sent on it is kept meanwhile (repeat.h), and so are the client's credentials: with them
 * another connection takes its place and gets the same bytes. As soon as the mail host has said
 * anything both are gone.
 */
#include "proxyd/relay.h"

#include "lib/clock.h"
#include "proxyd/io.h"

void relay_expect_repeat(struct relay *r, int64_t until)
{
	bool cached = r->s->backend.cached && !r->s->offer.open;

	repeat_begin(&r->repeat, cached);
	r->secret_until = cached ? until : 0;
}

void relay_forget_repeat(struct relay *r)
{
	if (r->secret_until == 0)
		return;
	r->repeat.armed = false;
	r->secret_until = 0;
	session_wipe_credentials(r->s);
}

bool relay_replace_backend(struct relay *r)
{
	struct session *s = r->s;
	bool may = r->repeat.armed && r->secret_until > 0 && !r->client_ended && s->backend.leased;

	r->repeat.armed = false;
	r->hides = false; /* UNSELECT died with it */
	bool good = may && login_again(s) &&
		    io_write(s->backend.fd, repeat_sent(&r->repeat),
			     clock_ms() + relay_ms(s->settings->backend_timeout)) == 0;

	relay_forget_repeat(r);
	if (good)
		r->backend_ended = false;
	return good;
}
