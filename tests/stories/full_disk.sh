# The daemon's database on a disk that is filled up and emptied again, with requests all the while. Run by
# tests/stories/bad_input.rs in a namespace of its own: the site's folder, and the folder of the binaries.
set -u
site=$1; PATH=$2:$PATH
disk=$site/disk
mkdir "$disk" "$site/small"
mount -t tmpfs -o size=3m tmpfs "$disk"
mount -t tmpfs -o size=8k tmpfs "$site/small"
sed -i 's#^database = .*#database = "../disk/undercroft.db"#; s#^admin-users = .*#admin-users = [0]#' "$site/daemon/undercroft.toml"
export UNDERCROFT_ADMIN=$site/daemon/admin.sock UNDERCROFT_ROOTS=$site/control/root.pem
undercroft serve --config "$site/daemon/undercroft.toml" 2> "$site/daemon.log" &
daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
for _ in {1..600}; do
  grep -q 'ready address' "$site/daemon.log" && break
  kill -0 $daemon || { cat "$site/daemon.log"; exit 1; }
  sleep 0.05
done
export UNDERCROFT_SERVER=$(grep -oE '127\.0\.0\.1:[0-9]+' "$site/daemon.log" | head -1)
request() { mkdir -p "$1"; openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -batch \
  -keyout "$1/leaf.key" -out "$1/leaf.csr.pem" 2> /dev/null; }
issue() { undercroft issue --cert "$site/me/leaf.pem" --key "$site/me/leaf.key" --domain prod.example \
  --csr "$site/me/leaf.csr.pem" --id spiffe://prod.example/ns/a/sa/b --out "$1"; }
request "$site/me"
undercroft enrolment create spiffe://control.example/operator/alice --token-file "$site/me/token" || exit 1
undercroft enrol --token-file "$site/me/token" --csr "$site/me/leaf.csr.pem" --out "$site/me" || exit 1
issue "$site/first" || exit 1

undercroft log export prod.example --to "$site/small/log"; status=$?
[ -e "$site/small/log/checkpoint" ] || echo "exported nothing, exit status $status"

dd if=/dev/zero of="$disk/ballast" bs=4k status=none
n=0; while issue "$site/until-full" > /dev/null 2> "$site/said"; do n=$((n+1)); [ $n -lt 500 ] || exit 1; rm -r "$site/until-full"; done
status=$?
issue "$site/full"; status=$?
[ ! -e "$site/full/leaf.pem" ] && echo "full, exit status $status: $(cat "$site/said")"
rm "$disk/ballast"
issue "$site/again"; echo "room again, exit status $?"
undercroft domain show prod.example --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["log-key"])' > "$site/key"
undercroft log export prod.example --to "$site/log" || exit 1
undercroft-audit verify "$site/log" --key "$site/key"; echo "audit $?"
