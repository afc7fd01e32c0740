"""Runs a client of the suite with `bowline egress` as its HTTP proxy, in a network namespace of its own.

    python3 through_egress.py BOWLINE PKI COUNTS CLIENT TRANSPORT URL

The suite's servers speak plaintext on loopback ports that they choose, and the egress speaks only mutual TLS. So in the namespace each of
these ports is a front that ends TLS, asks for a certificate and passes the bytes on to the same port outside: host, port and URLs stay as
they are. PKI is a folder of `bowline pki init`. COUNTS gets a line `SCENARIO REQUESTS` with what the egress has carried. Needs root.

    client --absolute form--> egress --mutual TLS--> front | outside: the suite's server
    '------------- namespace, localhost:PORT -------------'           localhost:PORT
"""

import ctypes
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading

CLONE_NEWNET = 0x40000000
LISTEN = "0A"


def main(bowline, pki, counts, client, transport, url):
    libc = ctypes.CDLL(None, use_errno=True)
    ports = listening(os.getppid()) or [int(re.search(r":(\d+)", url)[1])]
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    check(libc, libc.unshare(CLONE_NEWNET))
    inside = os.open("/proc/self/ns/net", os.O_RDONLY)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Sockets stay in the namespace that they were made in.
    fronts = [socket.create_server(("127.0.0.1", port), backlog=128) for port in ports]
    check(libc, libc.setns(outside, CLONE_NEWNET))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{pki}/ca.pem")
    context.load_cert_chain(f"{pki}/server.pem", f"{pki}/server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    for front, port in zip(fronts, ports):
        threading.Thread(target=accept, args=(front, port, context), daemon=True).start()

    enter = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{inside}"]
    allowed = [option for port in ports for option in ("--allow", f"https://localhost:{port}")]
    egress = subprocess.Popen(
        [*enter, bowline, "egress", "--listen", "127.0.0.1:0", *allowed, "--cert", f"{pki}/client.pem", "--key", f"{pki}/client.key",
         "--cacert", f"{pki}/ca.pem"],
        stderr=subprocess.PIPE, text=True,
    )
    for line in egress.stderr:
        if listens := re.search(r"listening on (\S+?),? ", line):
            break
    else:
        sys.exit("through_egress: the egress did not start")
    log = []
    reading = threading.Thread(target=lambda: log.extend(egress.stderr))
    reading.start()
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ended = subprocess.run([*enter, client, transport, url], env=clean | {"http_proxy": f"http://{listens[1]}"})
    egress.send_signal(signal.SIGTERM)
    egress.wait()
    reading.join()
    carried = [int(found[1]) for line in log if (found := re.search(r"connections in, (\d+) requests", line))]
    with open(counts, "a") as file:
        file.write(f"{os.environ.get('MCP_CONFORMANCE_SCENARIO', url)} {carried[-1] if carried else -1}\n")
    return ended.returncode


def check(libc, result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def listening(process):
    """The TCP ports on which a process listens, or the one that started it: `--command` may be run by a shell."""
    for _ in range(3):
        if ports := ports_of(process):
            return ports
        status = pathlib.Path(f"/proc/{process}/status").read_text()
        process = int(re.search(r"^PPid:\s+(\d+)", status, re.M)[1])
    return []


def ports_of(process):
    inodes = set()
    for link in pathlib.Path(f"/proc/{process}/fd").iterdir():
        try:
            if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link)):
                inodes.add(found[1])
        except FileNotFoundError:
            pass
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


def accept(front, port, context):
    while True:
        agent, _ = front.accept()
        threading.Thread(target=serve, args=(agent, port, context), daemon=True).start()


def serve(agent, port, context):
    try:
        tls = context.wrap_socket(agent, server_side=True)
        server = socket.create_connection(("localhost", port))
    except OSError as error:
        print(f"through_egress: {port}: {error}", file=sys.stderr)
        agent.close()
        return
    # A thread has one direction, and `ssl` allows one reader and one writer at a time.
    threading.Thread(target=copy, args=(tls, server), daemon=True).start()
    copy(server, tls)


def copy(source, sink):
    try:
        while part := source.recv(65536):
            sink.sendall(part)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
