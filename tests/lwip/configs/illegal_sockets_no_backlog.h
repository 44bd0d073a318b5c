/* SPDX-License-Identifier: MIT */
/* fails with: TCP_LISTEN_BACKLOG must be 1 in lwipopts.h */
#define TCP_LISTEN_BACKLOG 0
#include "tests/lwip/configs/sockets.h"
