#!/bin/sh
# Installs the system packages that some tests drive (real IMAP clients, a C compiler) if it can: root and apt.
# It never fails: a test whose package is absent skips by name, and fails in CI.
wanted="curl:curl isync:mbsync mutt:mutt tmux:tmux gcc:cc python3-dev:python3-config"
missing=""
for entry in $wanted; do
    command -v "${entry#*:}" >/dev/null 2>&1 || missing="$missing ${entry%%:*}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing for the tests:$missing"
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) >/dev/null 2>&1 \
        || echo "apt-get could not install:$missing; the tests that need them will say so"
else
    echo "Not installed (needs root and apt):$missing; the tests that need them will be skipped by name"
fi
exit 0
