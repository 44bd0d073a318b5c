/* SPDX-License-Identifier: MIT
 *
 * Hashes for the passwords of the policy.
 */
#include "policy.h"
#include "port/miniproxy_sha256.h"

#if MINIPROXY_WITH_PBKDF2

#include "random.h"

/* The secret is as good as random.h says: what a board without a random source begins with can be guessed. All that
 * hangs on it are the digests of verified logins in RAM. Who can read these and knows the secret can try passwords
 * against one SHA-256 a guess rather than the rounds of the policy; from the network there is nothing to gain. A
 * product that has a hardware generator mixes it in, and this gets better with it. */
void policy_logins(struct miniproxy_config *config)
{
    static uint8_t secret[MINIPROXY_SECRET_LEN];
    random_fill(secret, sizeof secret);
    config->secret = secret;
    config->pbkdf2 = &miniproxy_sha256_pbkdf2;
    config->sha256 = miniproxy_sha256;
}

#else

void policy_logins(struct miniproxy_config *config)
{
    config->sha256 = miniproxy_sha256;
}

#endif
