/* The keys about this host as a mail host. */
#ifndef LIB_CONFIG_LOCAL_H
#define LIB_CONFIG_LOCAL_H

#include "lib/config_rows.h"

/* Reports a value that is none of local_server's, and what of proxy_hostname can be no name or
 * address. True: it is good. */
bool config_local_check_place(struct config_problems *p, const struct config_row *row,
			      const char *value);
bool config_local_check_names(struct config_problems *p, const struct config_row *row,
			      const char *value);

/* server_hostname's value, without the brackets that may be around an address; or reports that it
 * can be no host. True: it is good. */
bool config_local_take_host(struct config_problems *p, const struct config_row *row,
			    struct span *value);

/* Reports what these keys say that does not go together. */
void config_local_judge(struct config_problems *p);

#endif
