#!/bin/sh
# shellcheck disable=SC2016  # settings are meant to the letter
# Makes this machine a node of the fabric: finds Python, checks versions, starts the node agent.
# The ticket below works once and for minutes; there is no other secret in this file.
set -u

#@SETTINGS@

say() {
    echo "fabric boot: $*" >&2
}

end_machine() {
    if [ -n "$FABRIC_END_COMMAND" ]; then
        say "ending this machine"
        /bin/sh -c "$FABRIC_END_COMMAND"
    fi
}

fail() {
    code=$1
    shift
    say "$*"
    end_machine
    exit "$code"
}

minor_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# The first Python of the right version; failing that the first at all, so that the check below can say what it is.
python=
for candidate in "$FABRIC_PYTHON" /opt/fabric/bin/python3 python3 "python$FABRIC_PYTHON_VERSION"; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    [ -n "$python" ] || python=$candidate
    if [ "$(minor_of "$candidate")" = "$FABRIC_PYTHON_VERSION" ]; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail 10 "no python3 on this machine; use an image with Python $FABRIC_PYTHON_VERSION"

"$python" - <<'PREFLIGHT'
#@PREFLIGHT@
PREFLIGHT
code=$?
[ "$code" -eq 0 ] || fail "$code" "this machine cannot join; the line above says why"

if [ -z "$FABRIC_END_COMMAND" ]; then
    exec "$python" -m autoscaler.boot.agent
fi

# A machine that costs money must not outlive its agent, even one that was killed without a word.
"$python" -m autoscaler.boot.agent &
agent=$!
trap 'kill -TERM "$agent" 2>/dev/null' TERM INT HUP
while :; do
    wait "$agent"
    code=$?
    # A signal ends the wait early; the agent is over when its pid is gone.
    kill -0 "$agent" 2>/dev/null || break
done
trap - TERM INT HUP
say "the node agent ended with code $code"
end_machine
exit "$code"
