/* SPDX-License-Identifier: MIT */
/* For a port that speaks TLS to clients and origins. */
#define MINIPROXY_WITH_TLS 1
