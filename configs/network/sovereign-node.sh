#!/bin/sh
# The same as sovereign-node.nft where there is no nft: this machine has no way to the burst machines, so that no
# connection to or from them comes about. Run as root on every machine of your own that holds data which stays home:
#
#     sovereign-node.sh 10.88.0.0/24 [SUBNET...]       to split
#     sovereign-node.sh --undo 10.88.0.0/24 [SUBNET...]
set -eu

verb=replace
if [ "${1:-}" = --undo ]; then
    verb=delete
    shift
fi
if [ $# -eq 0 ]; then
    echo "usage: $0 [--undo] SUBNET..." >&2
    exit 2
fi
# A table of its own, looked at before the main one: a more specific route in there would win otherwise.
for subnet in "$@"; do
    ip route "$verb" blackhole "$subnet" table 8400
done
while ip rule delete priority 840 2>/dev/null; do :; done
if [ -n "$(ip route show table 8400)" ]; then
    ip rule add priority 840 table 8400
fi
