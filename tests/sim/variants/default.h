/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "default"
