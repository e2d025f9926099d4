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

/* Looks an account up, by its name as the client gave it (config_login.h). With `check` FOUND means
 * that the password is right, else it is FOUND_REFUSED; a secret that no account can have is
 * refused here. *ret is the caller's to wipe. All but FOUND comes with *why; `*ret_line` is the
 * line of the directory that decided, 0 for none. */
enum found directories_ask(struct directories *d, const struct driver_question *q,
			   struct account *ret, unsigned *ret_line, struct why *why);

/* Appends the name that an account of this login name has (config_login.h). 0 or -ENOBUFS. */
int directories_complete(const struct directories *d, struct span name, struct buf *out);

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
	char password[ACCOUNT_PASSWORD_MAX];
	struct why why;
};

/* Answers a LOOKUP. The answer's texts borrow `texts`, which is the caller's to wipe. */
void directories_answer(struct directories *d, const struct msg_LOOKUP *question,
			struct directories_texts *texts, struct msg_ACCOUNT *ret);

#endif
