#!/bin/sh
# Stands for ssh: runs here what it is asked to run on a host, unless the host is called "nowhere".
while [ $# -gt 0 ]; do
    case "$1" in
        -o | -p) shift 2 ;;
        -*) shift ;;
        *) break ;;
    esac
done
host=$1
shift
if [ "$host" = nowhere ]; then
    echo "ssh: Could not resolve hostname nowhere: Name or service not known" >&2
    exit 255
fi
exec sh -c "$*"
