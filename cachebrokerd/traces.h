/* Traces that a secret leaves behind where nobody stored it: in vector registers, with which memory
 * is copied, and where the kernel puts these when a signal comes.
 */
#ifndef CACHEBROKERD_TRACES_H
#define CACHEBROKERD_TRACES_H

/* Gives signal handlers with SA_ONSTACK a stack that traces_wipe() knows. 0 or -errno. */
int traces_prepare(void);

/* To be called when a secret has been read or passed on. */
void traces_wipe(void);

#endif
