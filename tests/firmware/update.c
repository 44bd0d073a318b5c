/* SPDX-License-Identifier: MIT
 *
 * A list of names in flash that is replaced while the proxy runs: two partitions, a policy for each, as miniproxy.h
 * advises. On the console "a" and "b" ask for one of the two; what is said is whether it was taken.
 *
 * The image is the product's; the linker puts these two functions around its own (--wrap).
 */
#include "board.h"
#include "console.h"
#include "policy.h"

extern const struct miniproxy_policy policy_b;
static struct miniproxy *proxy;

bool __real_miniproxy_init(struct miniproxy *p, const struct miniproxy_config *config);
bool __wrap_miniproxy_init(struct miniproxy *p, const struct miniproxy_config *config);
int __real_board_uart_get(void);
int __wrap_board_uart_get(void);

bool __wrap_miniproxy_init(struct miniproxy *p, const struct miniproxy_config *config)
{
    proxy = p;
    return __real_miniproxy_init(p, config);
}

/* Called in the main loop, between two polls. */
int __wrap_board_uart_get(void)
{
    int command = __real_board_uart_get();
    if (command != 'a' && command != 'b') return command;
    console_printf("POLICY %c %s\n", command,
                   miniproxy_set_policy(proxy, command == 'a' ? &policy : &policy_b) ? "taken" : "refused");
    return -1;
}
