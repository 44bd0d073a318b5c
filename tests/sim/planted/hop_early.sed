# SPDX-License-Identifier: MIT
# What a client sends behind CONNECT goes to the parent before that has agreed.
# variant routes
/^static enum next ask_for_tunnel/,/^}/s/start_pipe(&s->up, SOURCE_NONE, 0, 0);/start_pipe(\&s->up, SOURCE_RAW, 0, 0);/
