/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_BODY_TYPE is longer than MINIPROXY_PAGE_TYPE_MAX */
#define MINIPROXY_BODY_TYPE "text/html; charset=utf-8; profile=a-type-that-nobody-has-use-for-"
