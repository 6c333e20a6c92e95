#!/bin/sh
# Builds the image, founds a cluster of three in ./cluster (once), starts it and waits until it
# serves. Needs Rust, a C compiler and a Docker engine; pulls nothing.
#   ./up.sh             build and start
#   ./up.sh monitoring  the same with Prometheus (:9090) and Grafana (:3000), whose images are pulled
#   ./up.sh down        stop; the data stays in ./cluster
#
# The environment may say otherwise, the same for `down` as for the start:
#   STAKEHOLD_PROJECT    what containers and network are named after         stakehold
#   STAKEHOLD_IMAGE      the image's name                                    $STAKEHOLD_PROJECT:local
#   STAKEHOLD_HOME       where the program and cluster/ are kept             this directory
#   STAKEHOLD_HTTP_PORT  loopback port of the first node, the others follow  8081
#   STAKEHOLD_QUIC_PORT  the same, UDP                                       9081
#   STAKEHOLD_PROFILE    Cargo's profile                                     release
#   STAKEHOLD_PROGRAM    a statically linked program to use, not built
#   STAKEHOLD_START      how: `docker compose`, `docker-compose` or plain `docker`; the first there is
set -eu
here=$(cd "$(dirname "$0")" && pwd)
project=${STAKEHOLD_PROJECT:-stakehold}
image=${STAKEHOLD_IMAGE:-$project:local}
home=${STAKEHOLD_HOME:-$here}
mkdir -p "$home"
home=$(cd "$home" && pwd)
http=${STAKEHOLD_HTTP_PORT:-8081}
quic=${STAKEHOLD_QUIC_PORT:-9081}
profile=${STAKEHOLD_PROFILE:-release}
start=${STAKEHOLD_START:-}
if [ -z "$start" ]; then
    if docker compose version >/dev/null 2>&1; then start="docker compose"
    elif docker-compose version >/dev/null 2>&1; then start=docker-compose
    else start=docker
    fi
fi

profiles=
case ${1:-} in
"" | down) ;;
monitoring)
    if [ "$start" = docker ]; then
        echo "Prometheus and Grafana are started with Compose; install its plugin, or leave \`monitoring\` out." >&2
        exit 1
    fi
    profiles="--profile monitoring"
    ;;
*)
    echo "$1 is not known; say nothing, \`monitoring\` or \`down\`." >&2
    exit 2
    ;;
esac

# Without compose the same three containers are started one by one.
start_plain() {
    docker network inspect "${project}_mesh" >/dev/null 2>&1 || docker network create "${project}_mesh" >/dev/null
    for n in 1 2 3; do
        docker rm -f "$project-n$n-1" >/dev/null 2>&1 || true
        docker run -d --name "$project-n$n-1" --hostname "n$n" --network "${project}_mesh" --network-alias "n$n" \
            --restart unless-stopped --stop-timeout 20 --user "$STAKEHOLD_UID:$STAKEHOLD_GID" \
            --read-only --cap-drop ALL --security-opt no-new-privileges:true \
            -v "$home/cluster/n$n:/node" \
            -p "127.0.0.1:$((http + n - 1)):8080/tcp" -p "127.0.0.1:$((quic + n - 1)):9080/udp" "$image" >/dev/null
    done
}

stop_plain() {
    there=
    for n in 1 2 3; do
        if docker container inspect "$project-n$n-1" >/dev/null 2>&1; then there="$there $project-n$n-1"; fi
    done
    if [ -n "$there" ]; then
        # All at once and with a drain, as compose does it.
        docker stop $there >/dev/null
        docker rm $there >/dev/null
    fi
    if docker network inspect "${project}_mesh" >/dev/null 2>&1; then docker network rm "${project}_mesh" >/dev/null; fi
}

# The nodes run as whoever owns the files, but never as root.
STAKEHOLD_UID=$(id -u) STAKEHOLD_GID=$(id -g)
[ "$STAKEHOLD_UID" != 0 ] || STAKEHOLD_UID=65532 STAKEHOLD_GID=65532
# What compose.yml is told: it cannot count ports up by itself.
export STAKEHOLD_UID STAKEHOLD_GID
export STAKEHOLD_NAME="$project" STAKEHOLD_IMAGE="$image" STAKEHOLD_HOME="$home"
export STAKEHOLD_HTTP_1=$http STAKEHOLD_HTTP_2=$((http + 1)) STAKEHOLD_HTTP_3=$((http + 2))
export STAKEHOLD_QUIC_1=$quic STAKEHOLD_QUIC_2=$((quic + 1)) STAKEHOLD_QUIC_3=$((quic + 2))

if [ "${1:-}" = down ]; then
    # Compose stops what it started, and nothing else; so does the plain way.
    case $start in
    docker) stop_plain ;;
    *) $start -p "$project" -f "$here/compose.yml" --profile monitoring down ;;
    esac
    exit 0
fi

if [ -n "${STAKEHOLD_PROGRAM:-}" ]; then
    [ "$STAKEHOLD_PROGRAM" -ef "$home/stakehold" ] || cp "$STAKEHOLD_PROGRAM" "$home/stakehold"
else
    # Only the last step, the linking, is another one than that of `cargo build`: whatever is
    # built for that is used here too. Under a name of its own, so that both stay where they are.
    (cd "$here/.." && cargo rustc --profile "$profile" --locked -p stakehold --bin stakehold -- \
        -C target-feature=+crt-static --emit "link=$home/stakehold")
    # Symbols stay, for backtraces; line tables are four fifths of the file.
    strip --strip-debug "$home/stakehold"
fi
# The two files and no more, whatever else is kept beside them.
tar -c -C "$here" Dockerfile -C "$home" stakehold | docker build -q -t "$image" - >/dev/null

cluster=$home/cluster
if [ ! -e "$cluster" ]; then
    found=$("$home/stakehold" init --dir "$cluster" --nodes 3 --host 'n{node}' --same-ports --listen 0.0.0.0 \
        --http-port 8080 --quic-port 9080 --json)
    (umask 077 && printf '%s\n' "$found" | sed 's/.*"operator_token":"\([^"]*\)".*/\1/' >"$cluster/operator.token")
    if [ "$(id -u)" = 0 ]; then chown -R "$STAKEHOLD_UID:$STAKEHOLD_GID" "$cluster"/n?; fi
fi

case $start in
docker) start_plain ;;
*) $start -p "$project" -f "$here/compose.yml" $profiles up -d ;;
esac
for n in 1 2 3; do
    tries=0
    until "$home/stakehold" health --url "http://127.0.0.1:$((http + n - 1))" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 120 ]; then
            echo "Node n$n is not ready after a minute; its last lines:" >&2
            docker logs --tail 20 "$project-n$n-1" >&2
            exit 1
        fi
        sleep 0.5
    done
done

cat <<DONE
Three nodes serve at http://127.0.0.1:$http, :$((http + 1)) and :$((http + 2)).

Place a first bet:
  export STAKEHOLD_URL=http://127.0.0.1:$http STAKEHOLD_TOKEN=\$(cat $cluster/operator.token)
  alias stakehold=$home/stakehold
  stakehold ctl accounts create --name Ada
  stakehold ctl accounts deposit ACCOUNT 100.00
  stakehold ctl markets create --name Winner --runner 'Bold Venture' --runner Omaha
  stakehold ctl markets open MARKET
  stakehold ctl orders place MARKET --account ACCOUNT --runner 1 --back 10.00 --price 3.50

Stop with: $here/up.sh down
DONE
