/* SPDX-License-Identifier: MIT
 *
 * The configuration under test, for miniproxy and for lwIP in one; -DMINIPROXY_CONFIG names it.
 */
#include MINIPROXY_CONFIG
