# A PostgreSQL server for tests: writes the folder of its socket to standard
# output when it answers, and is gone, with all its data, when standard input
# ends, however its reader ended. Its superuser is `postgres`.
# Run as root it becomes the user `postgres`, since the server refuses root.
set -eu
for bin in /usr/lib/postgresql/*/bin; do PATH="$PATH:$bin"; done
export PATH
for tool in initdb pg_ctl; do
    command -v "$tool" >/dev/null || {
        echo "no $tool: install PostgreSQL (Debian: postgresql)" >&2
        exit 1
    }
done
if [ "$(id -u)" -eq 0 ]; then
    cd /
    exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/ TMPDIR=/tmp sh -c "$PORTCULLIS_POSTGRES"
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/pg.XXXXXX")
trap 'pg_ctl -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || :; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP
{
    initdb -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync &&
        pg_ctl -D "$dir/data" -w -l "$dir/log" -o "-k $dir -c listen_addresses= -c fsync=off -c max_connections=500" start
} >"$dir/start" 2>&1 </dev/null || {
    cat "$dir/start" "$dir/log" >&2 || :
    exit 1
}
echo "$dir"
while read -r _; do :; done
