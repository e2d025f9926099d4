/* Who is at the other end of a client's socket: the addresses for HELLO. */
#ifndef PROXYD_HELLO_H
#define PROXYD_HELLO_H

#include "lib/msg.h"

/* Fills *ret for the connected socket; its texts are static. Works for any kind of stream socket.
 */
void hello_describe(int client, enum msg_service service, struct msg_HELLO *ret);

#endif
