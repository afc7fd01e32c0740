#!/bin/sh
# The page around a table of agents that the nightly test wrote.
set -eu
. /etc/os-release
cat <<PAGE
# Agents, each unmodified

\`just agents\` on $(date -u +%F), a virtual machine with $(nproc) cores and $(free -g | awk '/^Mem:/ { print $2 }') GiB, $PRETTY_NAME.

Each agent (\`conformance/agents\`) runs below \`bowline run --allow https://tools.example\`, with a session-bound token and no word
of bowline in it, before a \`bowline ingress --policy require-session\`. The egress goes out through a proxy of the test, which counts
its connections, too. *Works*: with no option but the origin, certificate and key.

$(cat "$1")
PAGE
