/* Following an IMAP session in both directions, closely enough to know at every instant whether its
 * connection is quiet (RFC 9051 sections 2.2, 4.3, 7).
 *
 * The relay shows every byte to these functions before it passes it on. Pure: no sockets, no clock.
 * Feeding the same bytes in other pieces gives the same result, which the fuzz target proves.
 *
 * Client bytes are approved line by line: an incomplete line stays with the proxy, so that a client
 * that drops in the middle of one has sent nothing of it to the mail host. What follows the
 * announcement of a synchronising literal, or IDLE, is held until the server has answered, since
 * only its answer says whether a literal, DONE or a command comes next.
 */
#ifndef PROXYD_FOLLOW_H
#define PROXYD_FOLLOW_H

#include "lib/ends.h"
#include "lib/span.h"
#include "proxyd/fingerprint.h"

/* Commands in progress at once; further ones wait in the proxy. */
#define FOLLOW_OUTSTANDING 256

/* A tag that the proxy answers itself is at most so long; a longer LOGOUT goes to the mail host. */
#define FOLLOW_TAG 255

/* Of a line of the server's so much is kept: a longer tag hides the result behind it. */
#define FOLLOW_HEAD	  16
#define FOLLOW_TAG_SHOWN (FOLLOW_HEAD - 3)

enum follow_client {
	FOLLOW_LINE,	/* a command begins here */
	FOLLOW_REST,	/* the rest of a command's line, behind a literal */
	FOLLOW_LITERAL, /* literal_left bytes of a literal */
	FOLLOW_WAIT,	/* held until the server answers a literal or IDLE */
	FOLLOW_DONE,	/* IDLE runs: the next line ends it */
	FOLLOW_LONG,	/* in a line longer than the buffer */
	FOLLOW_LOGOUT,	/* the client logged out; nothing more is approved */
	FOLLOW_REFUSED, /* a command waits that the proxy answers itself, once all before it is */
};

/* What has been seen of one line that comes in pieces. */
struct follow_line {
	uint64_t length; /* without the line feed */
	uint64_t tag;	 /* hash of the bytes up to the first blank */
	bool in_tag;
	char head[FOLLOW_HEAD];
	char tail[32];
};

struct follow {
	/* the client's half */
	enum follow_client client;
	uint64_t literal_left;
	uint64_t current;    /* the tag of the command whose text is not complete */
	bool waits_for_idle; /* FOLLOW_WAIT: IDLE, not a literal */
	bool unasked;	     /* the literal comes without the server's continuation */
	bool takes_message;  /* the command is one that stores a message */
	bool pushed_lines;   /* an unasked literal with a line feed was sent */
	bool owes_done;	     /* IDLE runs and DONE has not been sent */
	bool selected;	     /* a mailbox is or may be selected */
	struct follow_line long_line;
	char logout_tag[FOLLOW_TAG];
	size_t logout_tag_length;
	size_t logout_line_length; /* of the line to be dropped, with its end */
	size_t refused_tag_length; /* at the front of what waits; 0: that is no tag */
	bool dropping;		   /* a refused command's text, literals and all */

	/* the server's half */
	struct follow_line line;
	uint64_t server_literal_left;
	bool server_rest; /* the line goes on behind a literal */
	bool bye;

	/* both */
	size_t outstanding_count;
	bool last_ok;		 /* the last completion said OK, where FOLLOW_TAG_SHOWN */
	enum not_cached spoiled; /* why this connection cannot be given back any more */
	struct span site_verbs;	 /* borrowed for the session's life */
	uint64_t outstanding[FOLLOW_OUTSTANDING];
	struct fingerprint fingerprint;
};

/* A session that begins: nothing selected, nothing outstanding. */
void follow_init(struct follow *f, struct span site_verbs);

/* Looks at client bytes that wait to be passed on and returns how many of them may be. `full` says
 * that no more bytes can be added before some are passed on. Call it again when bytes were added,
 * and after follow_server(). While f->dropping the bytes that it counts are for nobody; then it
 * returns at their end. */
size_t follow_client(struct follow *f, struct span bytes, bool full);

/* Looks at bytes of the server, which may be passed on. */
void follow_server(struct follow *f, struct span bytes);

/* The first step of follow_server(): a line or a literal, or what there is of it. Returns how many
 * bytes it was. */
size_t follow_server_step(struct follow *f, struct span bytes);

/* The proxy has answered the command of FOLLOW_REFUSED; its text is dropped. */
void follow_refused(struct follow *f);

/* This command (without its tag; or nothing), which may turn CONDSTORE on, has been refused on this
 * connection before it came to be followed. */
void follow_repeated(struct follow *f, struct span command);

/* The proxy itself sends DONE, because the client will not: only when f->owes_done. */
void follow_sent_done(struct follow *f);

/* Can the connection be given back after a reset? NOT_CACHED_NOTHING, or the reason why it cannot
 * (yet). */
enum not_cached follow_quiet(const struct follow *f);

/* Is the line that begins so an untagged status response (RFC 9051 section 7.1), whose text can
 * hold no literal? */
bool follow_is_status(struct span head);

/* The length in a literal's announcement at the end of a line (without its CRLF), like {12}, {12+}
 * or ~{12}. Returns false when there is none. *ret_sync: the sender waits for a continuation. */
bool follow_literal_at_end(struct span line, uint64_t *ret_length, bool *ret_sync);

#endif
