/* SPDX-License-Identifier: MIT
 *
 * Types of a system that nothing here is linked with.
 */
#ifndef LWIP_ARCH_SYS_ARCH_H
#define LWIP_ARCH_SYS_ARCH_H

typedef int sys_sem_t, sys_mutex_t, sys_mbox_t, sys_thread_t, sys_prot_t;

#endif
