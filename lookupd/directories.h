/* The directories of the configuration, asked in its order. */
#ifndef LOOKUPD_DIRECTORIES_H
#define LOOKUPD_DIRECTORIES_H

#include "lib/msg.h"
#include "lookupd/driver.h"

struct directories;

/* Told about each directory that cannot be opened: one finished line, without a line feed. */
typedef void directories_report_fn(const char *line);

/* Those of c, which must live as long; each is opened when it is asked for the first time, and
 * again when that failed. 0 or -ENOMEM. */
int directories_new(const struct config *c, struct directories **ret);
void directories_free(struct directories *d);

/* Opens them all now, and reports all that cannot be; file is the configuration's name. 0 or
 * -EINVAL. */
int directories_check(struct directories *d, const char *file, directories_report_fn *report);

/* Looks an account up. `service` is "imap" or "pop3". *ret is the caller's to wipe. FOUND_NOT and
 * FOUND_TROUBLE come with *why; `*ret_line` is the line of the directory that decided, 0 for none.
 */
enum found directories_find(struct directories *d, const char *service, struct span user,
			    struct account *ret, unsigned *ret_line, struct why *why);

/* Lets the directory of this line judge an answer to CRAM's challenge: one that does not give away
 * what is needed for that may do it itself. FOUND: it is right; FOUND_NOT: wrong, or it cannot,
 * with *why. */
enum found directories_cram(struct directories *d, unsigned line, const char *service,
			    const char *mechanism, struct span challenge, struct span answer,
			    struct why *why);

/* The `directory` line that stands there, for people; "" for none. */
const char *directories_name(const struct directories *d, unsigned line);

/* Room for the texts of an answer. */
struct directories_texts {
	char hosts[ROUTE_TEXT_MAX];
	char user[ACCOUNT_USER_MAX + 1];
	char password[ACCOUNT_PASSWORD_MAX + 1];
	struct why why;
};

/* Answers a LOOKUP. The answer's texts borrow `texts`, which may hold a password: wiped by the
 * caller. */
void directories_answer(struct directories *d, const struct msg_LOOKUP *question,
			struct directories_texts *texts, struct msg_ACCOUNT *ret);

#endif
