#include "/work/main/tests/sim/sim.h"
int split_main(const char *results){(void)results;return 0;}
