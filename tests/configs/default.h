/* SPDX-License-Identifier: MIT */
/* Nothing overridden. */
