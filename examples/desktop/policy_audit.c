#include "policy_words.h"
unsigned policy_lint(const struct compiled *c, FILE *out){(void)c;(void)out;return 0;}
unsigned policy_diff(const struct compiled *c, const struct compiled *d, FILE *out){(void)c;(void)d;(void)out;return 0;}
