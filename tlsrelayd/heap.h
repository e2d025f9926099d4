/* OpenSSL's memory, overwritten when it is freed: what OpenSSL leaves behind of a key that it has
 * read would be inherited by workers that are not to have it. */
#ifndef TLSRELAYD_HEAP_H
#define TLSRELAYD_HEAP_H

/* Before OpenSSL is used for anything. 0 or -EBUSY. */
int heap_setup(void);

/* From now on memory is freed as it is, for a worker that has dropped what it is not to have. Only
 * blocks that may have held a record are overwritten as before: they come and go with each, and
 * what it said is to stay nowhere. (SSL_OP_CLEANSE_PLAINTEXT does it byte by byte, and twice: that
 * was a seventh of a worker's own time.) */
void heap_relax(void);

#endif
