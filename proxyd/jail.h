/* The jail of a session's process: entered once the broker has been met and root given up, before
 * the first byte of the client is read. An errand is locked up in the same one before it takes its
 * job.
 */
#ifndef PROXYD_JAIL_H
#define PROXYD_JAIL_H

/* Where the jailed process has its descriptors; the filter knows the numbers. A descriptor that is
 * made later gets the lowest free number: the next link to a broker stands where the last one
 * stood. */
enum jail_fd {
	JAIL_CLIENT = 3, /* in an errand: the mail host, received after the jail was entered */
	JAIL_DOOR = 4,
	JAIL_LINK = 5,
	JAIL_LOG = 6, /* the logger's socket */
	JAIL_NEXT = 7,
};

/* Moves the descriptors to their places, closes all others above standard error, and gives up
 * everything that a session does not need: new privileges, files (Landlock), processes, dumps, and
 * all system calls that are not on the list of jail/make_filter.c. client, door and log may be -1:
 * the link then takes the door's place, too, and the others' are empty. 0 or -errno: the process
 * must not go on. */
int jail_enter(int *client, int *door, int *link, int *log);

#endif
