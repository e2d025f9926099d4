/* The jail of a session's process: entered before the first byte of the client is read.
 *
 * A process that was started for one connection enters it alone (jail_enter), and so does an errand
 * before it takes its job. The listener's children inherit it from the nursery that makes them
 * (jail_enter_nursery), which may also fork, wait and accept; a child then only gives up what is
 * left of that (jail_enter_child): it has no listening socket, and no process can be made
 * (RLIMIT_NPROC).
 */
#ifndef PROXYD_JAIL_H
#define PROXYD_JAIL_H

#include <stddef.h>

/* Where the jailed process has its descriptors; the filters know the numbers. A descriptor that is
 * made later gets the lowest free number: the next link to a broker stands where the last one
 * stood. */
enum jail_fd {
	JAIL_CLIENT = 3, /* in an errand: the mail host, received after the jail was entered */
	JAIL_DOOR = 4,
	JAIL_LINK = 5,
	JAIL_LOG = 6, /* the logger's socket; a session has standard error there if there is none */
	JAIL_NEXT = 7,
	/* in the nursery and its spares only: */
	JAIL_REPORTS = 7,
	JAIL_WAKE = 8,
	JAIL_LIFE = 9,
	JAIL_SOCKETS = 10,
};

#define JAIL_SOCKETS_MAX 16

/* The nursery's descriptors; log may be -1. */
struct jail_nursery {
	int door, log;
	int reports; /* written by it */
	int wake;    /* eventfd */
	int life;    /* to be polled */
	int *sockets;
	size_t count; /* of sockets, at most JAIL_SOCKETS_MAX */
};

/* Moves the descriptors to their places, closes all others above standard error, and gives up
 * everything that a session does not need: new privileges, files (Landlock), processes, dumps, and
 * all system calls that are not on the list of jail/make_filter.c. client, door and log may be -1:
 * the link then takes the door's place, too, and the others' are empty. 0 or -errno: the process
 * must not go on. */
int jail_enter(int *client, int *door, int *link, int *log);

/* The same for the nursery, with what it may do besides; places JAIL_CLIENT and JAIL_LINK stay
 * free. */
int jail_enter_nursery(struct jail_nursery *n);

/* A child of the nursery that has a client on JAIL_CLIENT: closes what only the nursery needs. */
int jail_enter_child(int client);

#endif
