#!/bin/sh
# Builds the image, founds a cluster of three in ./cluster (once), starts it and waits until it
# serves. Needs Rust, a C compiler and a Docker engine; pulls nothing.
#   ./up.sh          build and start        ./up.sh down     stop; the data stays in ./cluster
set -eu
cd "$(dirname "$0")"
image=stakehold:local

compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else return 127; fi
}

# Without the compose plugin the same three containers are started one by one.
start_plain() {
    docker network inspect stakehold_mesh >/dev/null 2>&1 || docker network create stakehold_mesh >/dev/null
    for n in 1 2 3; do
        docker rm -f "stakehold-n$n-1" >/dev/null 2>&1 || true
        docker run -d --name "stakehold-n$n-1" --hostname "n$n" --network stakehold_mesh --network-alias "n$n" \
            --restart unless-stopped --stop-timeout 20 --user "$STAKEHOLD_UID:$STAKEHOLD_GID" \
            --read-only --cap-drop ALL --security-opt no-new-privileges:true \
            -v "$PWD/cluster/n$n:/node" \
            -p "127.0.0.1:808$n:8080/tcp" -p "127.0.0.1:908$n:9080/udp" "$image" >/dev/null
    done
}

if [ "${1:-}" = down ]; then
    compose down 2>/dev/null || docker rm -f stakehold-n1-1 stakehold-n2-1 stakehold-n3-1
    docker network rm stakehold_mesh >/dev/null 2>&1 || true
    exit 0
fi

# Named explicitly, so that the flag is for the program alone and not for what runs while building.
target=$(rustc -vV | sed -n 's/^host: //p')
(cd .. && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked -p stakehold --target "$target")
cp "${CARGO_TARGET_DIR:-../target}/$target/release/stakehold" stakehold
# Symbols stay, for backtraces; line tables are four fifths of the file.
strip --strip-debug stakehold
docker build -q -t "$image" . >/dev/null

# The nodes run as whoever owns the files, but never as root.
STAKEHOLD_UID=$(id -u) STAKEHOLD_GID=$(id -g)
[ "$STAKEHOLD_UID" != 0 ] || STAKEHOLD_UID=65532 STAKEHOLD_GID=65532
export STAKEHOLD_UID STAKEHOLD_GID
if [ ! -e cluster ]; then
    found=$(./stakehold init --dir cluster --nodes 3 --host 'n{n}' --same-ports --listen 0.0.0.0 \
        --http-port 8080 --quic-port 9080 --json)
    (umask 077 && printf '%s\n' "$found" | sed 's/.*"operator_token":"\([^"]*\)".*/\1/' >cluster/operator.token)
    if [ "$(id -u)" = 0 ]; then chown -R "$STAKEHOLD_UID:$STAKEHOLD_GID" cluster/n?; fi
fi

compose up -d || start_plain
for n in 1 2 3; do
    tries=0
    until ./stakehold health --url "http://127.0.0.1:808$n" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 120 ]; then
            echo "Node n$n is not ready after a minute; its last lines:" >&2
            docker logs --tail 20 "stakehold-n$n-1" >&2
            exit 1
        fi
        sleep 0.5
    done
done

cat <<DONE
Three nodes serve at http://127.0.0.1:8081, :8082 and :8083.

Place a first bet:
  export STAKEHOLD_URL=http://127.0.0.1:8081 STAKEHOLD_TOKEN=\$(cat $PWD/cluster/operator.token)
  alias stakehold=$PWD/stakehold
  stakehold ctl accounts create --name Ada
  stakehold ctl accounts deposit ACCOUNT 100.00
  stakehold ctl markets create --name Winner --runner 'Bold Venture' --runner Omaha
  stakehold ctl markets open MARKET
  stakehold ctl orders place MARKET --account ACCOUNT --runner 1 --back 10.00 --price 3.50

Stop with: $PWD/up.sh down
DONE
