# SPDX-License-Identifier: MIT
# A ticket holds for a week.
s/TICKET_S = 86400/TICKET_S = 604800/
