/* SPDX-License-Identifier: MIT
 *
 * lwIP's hooks: those of the product, and routes as the host build of the tests has them.
 */
#ifndef IMAGE_HOOKS_H
#define IMAGE_HOOKS_H

#include "lwiphooks.h"

#include "../../lwip/desktop/hooks.h"

#endif
