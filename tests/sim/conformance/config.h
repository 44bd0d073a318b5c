/* SPDX-License-Identifier: MIT
 *
 * For the tests of the simulated port: time is virtual, and what goes octet by octet takes its time.
 */
#define SIM_VARIANT "conformance"
#define CONFORMANCE_LIMIT_MS 600000u
