/* The default host. It knows no accounts: whether there is such a user, the mail host decides at
 * login. Pure. */
#include "lookupd/default_host.h"

#include "lib/config_tls.h"

void default_host_answer(const struct config *c, const struct msg_LOOKUP *question,
			 struct msg_ACCOUNT *ret)
{
	*ret = (struct msg_ACCOUNT){
		.status = ACCOUNT_FOUND,
		.host_port = config_server_port(c),
		.host = span_str(c->server_hostname),
		.backend_user = question->user,
		.error = SPAN_NONE,
	};
}
