/* Clients that are challenged: CRAM-MD5, CRAM-SHA1, CRAM-SHA256, SCRAM-SHA-1 and SCRAM-SHA-256,
 * with what a directory has of an account.
 *
 * A conversation is an entry of a table of this worker, under a random number: it waits for no
 * client, and no client holds up the worker. It is forgotten when it is answered, after a minute,
 * and when so many newer ones were begun that it is the oldest.
 */
#ifndef LOOKUPD_CHALLENGE_H
#define LOOKUPD_CHALLENGE_H

#include "lookupd/directories.h"

#define CHALLENGES_MOST 1024
#define CHALLENGE_MS	60000

/* Makes the secret by which unknown accounts get the same salt each time. Called once, by the
 * master: its workers inherit it. 0 or -errno. */
int challenge_make_secret(void);

struct challenges;

/* NULL: no memory. */
struct challenges *challenges_new(void);
void challenges_free(struct challenges *c);

/* Room for the texts of an answer. */
struct challenge_texts {
	char user[ACCOUNT_USER_MAX + 1];
	char data[1600];
	struct why why;
};

/* Answers a step, now (monotonic ms). The answer's texts borrow `texts`. */
void challenges_answer(struct challenges *c, struct directories *d, int64_t now_ms,
		       const struct msg_AUTH_STEP *step, struct challenge_texts *texts,
		       struct msg_AUTH_STEP *ret);

#endif
