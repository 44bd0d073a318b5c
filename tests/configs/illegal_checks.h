/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_CHECKS is out of range */
#define MINIPROXY_CHECKS 0
