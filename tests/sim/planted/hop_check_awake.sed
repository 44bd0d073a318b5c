# SPDX-License-Identifier: MIT
# A check that ends when there is no policy any more keeps the loop awake.
# variant routes
/^static uint32_t next_check/,/^}/s/p->config.policy == NULL || //
