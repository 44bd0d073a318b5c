/* SPDX-License-Identifier: MIT
 *
 * For the tests of the POSIX port: small tables, so that their ends are reached, and short lifetimes.
 */
#define MINIPROXY_SESSIONS 80
#define MINIPROXY_POSIX_LISTENERS 8
#define MINIPROXY_POSIX_RESOLVERS 3
#define MINIPROXY_POSIX_NAMES 8
#define MINIPROXY_POSIX_NAME_S 2
#define MINIPROXY_POSIX_NO_NAME_S 1
