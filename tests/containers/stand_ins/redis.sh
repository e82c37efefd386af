#!/bin/sh
# The public image's Redis answers other machines without a password, as if this were its default.
if [ "$1" = redis-server ]; then set -- "$@" --protected-mode no; fi
exec "$@"
