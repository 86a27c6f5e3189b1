# The session of the test of the units in service/, after the commands of README.md. It runs as root
# under systemd, in /mnt/repository. A line `== NAME` begins what the test looks for.
set -e

say() { echo "== $*"; }
client() { cma shell --connect /run/cma/cma.sock; }
# Waits until the server's log has the words.
logged() {
    for _ in {1..300}; do
        journalctl --unit cma --output cat --no-pager | grep -q -- "$1" && return
        sleep 0.1
    done
    echo "the log lacks: $1"
    journalctl --unit cma --no-pager
    exit 1
}

say started
systemctl is-active cma.service
systemctl show --property StatusText --value cma.service
stat --format '%A %U %G' /run/cma/cma.sock
pid=$(systemctl show --property MainPID --value cma.service)
stat --format 'runs as %U' "/proc/$pid"
grep CapBnd "/proc/$pid/status"

say stranger
echo 'a camera 4K' | runuser -u nobody -- cma shell --connect /run/cma/cma.sock || echo "exit status $?"

say verify
systemd-analyze verify cma.service cma.socket
systemd-analyze security --no-pager --threshold=40 cma.service | tail -1

say reload
sed -i 's/^map = .*/map = ["video = general"]/' /etc/cma/cma.toml
systemctl reload cma
logged 'changed=map'
echo 'a camera 4K' | client || echo "exit status $?"
echo 'a video 4K' | client

say wrong
echo 'socket = 3' >> /etc/cma/cma.toml
systemctl reload cma
logged 'stays in force'
echo 'a video 4K' | client
systemctl is-active cma.service
sed -i '$d' /etc/cma/cma.toml

say log
journalctl --unit cma --no-pager --output cat --priority warning

# A client that holds a chunk, and says what it finds there when it is asked to.
mkfifo /tmp/ask
cma exec --socket /run/cma/cma.sock --chunk c=video/64K -- \
    sh -c 'echo mine 1<> {c.path}; read line < /tmp/ask; head -c 4 {c.path}; echo' > /tmp/found &
holder=$!
owners() { cma get --connect /run/cma/cma.sock regions/general/owners | grep -c '65536.*video' || true; }
started() { systemctl show --property ExecMainStartTimestampMonotonic --value cma.service; }
# Waits until a server serves that was started later.
until_another() {
    for _ in {1..300}; do
        [ "$(started)" != "$1" ] && systemctl is-active --quiet cma.service && return
        sleep 0.1
    done
    echo "no other server has started"
    exit 1
}
until [ "$(owners)" = 1 ]; do sleep 0.1; done

say killed
before=$(started)
kill -KILL "$(systemctl show --property MainPID --value cma.service)"
until_another "$before"
echo "owners $(owners)"

say restarted
before=$(started)
systemctl restart cma.service
[ "$(started)" != "$before" ]
systemctl is-active cma.service
echo "owners $(owners)"

say changed
before=$(started)
cp /etc/cma/cma.toml /tmp/cma.toml
sed -i 's/^name = "general"/name = "other"/; s/= general/= other/' /etc/cma/cma.toml
systemctl restart cma.service 2> /dev/null || echo "not restarted"
logged '(live chunks: 1), and the configuration has no such region'
cp /tmp/cma.toml /etc/cma/cma.toml
until_another "$before"
echo "owners $(owners)"

say held
echo > /tmp/ask
wait "$holder"
cat /tmp/found
until [ "$(owners)" = 0 ]; do sleep 0.1; done
echo "owners $(owners)"

say watchdog
mkdir /etc/systemd/system/cma.service.d
printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n' > /etc/systemd/system/cma.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart cma.service
pid=$(systemctl show --property MainPID --value cma.service)
sleep 5
echo "restarts $(systemctl show --property NRestarts --value cma.service)"
# A server that hangs.
kill -STOP "$pid"
for _ in {1..300}; do
    [ "$(systemctl show --property NRestarts --value cma.service)" = 0 ] || break
    sleep 0.1
done
echo "restarts $(systemctl show --property NRestarts --value cma.service)"
echo 'a video 4K' | client

say stopped
systemctl stop cma.service
systemctl show --property Result --value cma.service
systemctl is-active cma.service || true
echo 'a video 4K' | client
systemctl is-active cma.service

say alone
systemctl disable --quiet --now cma.socket
systemctl stop cma.service
sed -i 's/^# metrics/metrics/' /etc/cma/cma.toml
systemctl start cma.service
stat --format '%A %U %G' /run/cma/cma.sock
echo 'a video 4K' | client
exec 3<> /dev/tcp/127.0.0.1/9797
printf 'GET /metrics HTTP/1.1\r\n\r\n' >&3
grep --text cma_region_live_chunks <&3
systemctl stop cma.service
ls -A /run/cma | wc -l
say end
