#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh IMAGE PORT
#
# Starts a firmware image for the LM3S6965 in the emulator, with user-mode networking: its proxy is 127.0.0.1:PORT, this
# machine is 10.0.2.2 for it. The console is this terminal.
image=$1 port=$2
qemu=${QEMU:-qemu-system-arm}
command -v "$qemu" >/dev/null || { echo "$qemu is missing: apt install qemu-system-arm" >&2; exit 1; }
cat <<END
The proxy: 127.0.0.1:$port. This machine is 10.0.2.2 for it; try, with a web server on port 8000 of this machine:
    curl -x http://operator:swordfish@127.0.0.1:$port http://10.0.2.2:8000/
c prints counters, h how often each rule of examples/policy/site.policy decided, Ctrl-C ends.
END
exec "$qemu" -M lm3s6965evb -display none -monitor none -serial stdio -kernel "$image" \
    -nic "user,model=stellaris,hostfwd=tcp:127.0.0.1:$port-:3128"
