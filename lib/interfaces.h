/* The addresses of this machine's network interfaces. */
#ifndef LIB_INTERFACES_H
#define LIB_INTERFACES_H

#include "lib/cidr.h"

/* Is it an address of this machine? All of 127.0.0.0/8 are. The list is asked of the kernel at most
 * once a second; addresses come and go. When the kernel does not tell, loopback addresses only. */
bool interfaces_have(const struct cidr_address *address);

#endif
