"""Hosts and the network between them.

With namespaces a host is a network namespace, joined to the others by a bridge in the one that
this program runs in. Without, it is an address of the loopback network, and there is nothing to
cut or slow down. Unix sockets are files, so this program reaches a host's server whatever
becomes of its network.
"""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NOWHERE = "02:00:00:00:ff:ff"


class Network:
    def __init__(self, work, namespaces, user):
        self.work, self.namespaces, self.user = work, namespaces, user
        self.hosts = {}
        self.delays = {}
        if namespaces:
            # of this mount namespace alone
            os.makedirs("/run/netns", exist_ok=True)
            run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
            run("mount", "-t", "tmpfs", "tmpfs", "/dev/shm", "-o", "mode=1777")
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "bridge", "type", "bridge")
            run("ip", "link", "set", "bridge", "up")

    def add(self, name, number):
        host = self.hosts[name] = Host(self, name, number)
        return host

    def join(self):
        """Everybody knows everybody's hardware address, so that a cut is silence and no error."""
        if self.namespaces:
            for host in self.hosts.values():
                for other in self.hosts.values():
                    if host is not other:
                        host.learn(other, other.mac)

    @property
    def prefix(self):
        return "10.77.0." if self.namespaces else "127.0.77."

    @property
    def range(self):
        return self.prefix + "0/24"

    def cut(self, one, other):
        one.learn(other, NOWHERE)
        other.learn(one, NOWHERE)

    def mend(self, one, other):
        one.learn(other, other.mac)
        other.learn(one, one.mac)

    def slow(self, ms):
        """Each host's own cable; says what does it."""
        if netem_works():
            for host in self.hosts.values():
                run("ip", "netns", "exec", host.name, "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{ms}ms")
            return "netem"
        for host in self.hosts.values():
            name = host.name
            run("ip", "link", "add", f"slow-{name}", "type", "veth", "peer", "name", f"fast-{name}")
            for end in f"slow-{name}", f"fast-{name}":
                run("ip", "link", "set", end, "up")
            run("ip", "link", "set", f"to-{name}", "nomaster")
            run("ip", "link", "set", f"fast-{name}", "master", "bridge")
            # each way of two hosts' cables is passed, so half of it in each
            self.delays[name] = subprocess.Popen(
                [sys.executable, f"{HERE}/delay.py", str(ms / 2), f"to-{name}", f"slow-{name}"], cwd=self.work)
        return "a program that hands the frames on (this kernel has no netem)"

    def fast(self):
        if not self.delays:
            for host in self.hosts.values():
                run("ip", "netns", "exec", host.name, "tc", "qdisc", "del", "dev", "eth0", "root")
        for name, process in self.delays.items():
            process.kill()
            process.wait()
            run("ip", "link", "del", f"slow-{name}")
            run("ip", "link", "set", f"to-{name}", "master", "bridge")
        self.delays = {}


class Host:
    def __init__(self, network, name, number):
        self.network, self.name = network, name
        self.dir = f"{network.work}/{name}"
        self.address = f"{network.prefix}{number}"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.processes = []
        os.mkdir(self.dir, 0o700)
        self.give(self.dir)
        if network.namespaces:
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"to-{name}", "master", "bridge", "up")
            self.ip("link", "set", "lo", "up")
            self.ip("link", "set", "eth0", "address", self.mac, "up")
            self.ip("addr", "add", f"{self.address}/24", "dev", "eth0")

    def ip(self, *args):
        run("ip", "-n", self.name, *args)

    def learn(self, other, mac):
        self.ip("neigh", "replace", other.address, "lladdr", mac, "dev", "eth0", "nud", "permanent")

    def pull(self):
        """Its cable, from the bridge."""
        run("ip", "link", "set", f"to-{self.name}", "nomaster")

    def plug(self):
        run("ip", "link", "set", f"to-{self.name}", "master", "bridge")

    def give(self, path):
        if self.network.user:
            os.chown(path, *self.network.user)

    def write(self, name, text):
        path = f"{self.dir}/{name}"
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        self.give(path)
        return path

    def command(self, argv, env):
        """There, as the unprivileged user, with an environment of its own."""
        command = []
        if self.network.namespaces:
            command += ["nsenter", f"--net=/run/netns/{self.name}", "--"]
        if self.network.user:
            command += ["setpriv", "--reuid=%d" % self.network.user[0], "--regid=%d" % self.network.user[1], "--clear-groups", "--"]
        keep = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": self.dir, "TMPDIR": self.dir, "PYTHONUNBUFFERED": "1"}
        return command + ["env", "-i"] + [f"{name}={value}" for name, value in {**keep, **(env or {})}.items()] + list(argv)

    def run(self, *argv, env=None):
        done = subprocess.run(self.command(argv, env), cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"on {self.name}: {' '.join(argv)}: {done.stdout}")
        return done.stdout

    def start(self, log, *argv, env=None):
        with open(f"{self.dir}/{log}.log", "a", encoding="utf-8") as out:
            process = subprocess.Popen(self.command(argv, env), cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, start_new_session=True)
        self.processes.append(process)
        return process


def run(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}")


def netem_works():
    probe = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        return False
    run("tc", "qdisc", "del", "dev", "lo", "root")
    return True


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except (OSError, ValueError):
        return None


def kill_server(data):
    """A server with all its processes, at once, as when its host loses power."""
    try:
        with open(f"{data}/postmaster.pid", encoding="utf-8") as file:
            postmaster = int(file.readline())
    except (OSError, ValueError):
        return
    os.kill(postmaster, 19)
    children = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent_of(pid) == postmaster]
    for pid in [postmaster] + children:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    while any(os.path.exists(f"/proc/{pid}") and state_of(pid) not in ("Z", None) for pid in [postmaster] + children):
        time.sleep(0.01)


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None
