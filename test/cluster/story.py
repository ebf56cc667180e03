"""A cluster with Patroni, and two followers, through faults: tells what happens, and checks what was done.

    story.py WORK BIN short|full namespaces|loopback [UID GID]

Three hosts have a member of an etcd and of a Patroni cluster each. Two more have a follower, which
owns half of the vshards, with consumers whose effects are rows of a table. Sixteen connections of a
sixth submit. scripts/patroni.sh has built what it needs, and says what can be set.
"""
import os
import signal
import statistics
import sys
import time

import check
import psycopg2
from hosts import HERE, Network, run
from members import PASSWORDS, PORT, Follower, Member
from watch import Answers, Roles

WORK, BIN, FORM, PLACE = sys.argv[1:5]
USER = tuple(map(int, sys.argv[5:7])) or None
SHORT, NAMESPACES = FORM == "short", PLACE == "namespaces"
CLIENTS = 16
PAUSE_MS = int(os.environ.get("PAUSE_MS", "100"))
BROKEN = {"BROKEN": os.environ["BROKEN"]} if os.environ.get("BROKEN") else {}
# how long the leader's key lives; a leader that cannot be told to stop is replaced after it
OPTIONS = {"ttl": int(os.environ.get("TTL", "20" if SHORT else "30")), "loop_wait": 5 if SHORT else 10, "retry_timeout": 5 if SHORT else 10,
           "strict": os.environ.get("STRICT", "1") == "1"}
BEGIN = time.time()


class Failed(Exception):
    """What was waited for did not come."""


def say(text):
    print(f"[{time.time() - BEGIN:7.2f} s] {text}", flush=True)


class Points:
    passed = failed = 0

    @classmethod
    def point(cls, good, text, detail=""):
        if good:
            cls.passed += 1
        else:
            cls.failed += 1
        print(("ok - " if good else "not ok - ") + text + (f"\n# {detail}" if detail and not good else ""), flush=True)


point = Points.point


def until(what, condition, seconds=120, pause=0.05):
    """Its value, when it has one; a server that does not answer has none."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
            if value:
                return value
        except (psycopg2.Error, RuntimeError):
            pass
        if time.monotonic() > deadline:
            raise Failed(f"after {seconds} s: {what}")
        time.sleep(pause)


class Story:
    def __init__(self):
        self.network = Network(WORK, NAMESPACES, USER)
        hosts = [self.network.add(name, number) for name, number in
                 (("n1", 11), ("n2", 12), ("n3", 13), ("f1", 21), ("f2", 22), ("clients", 31))]
        self.network.join()
        self.members = []
        self.members += [Member(host, BIN, self.members, OPTIONS) for host in hosts[:3]]
        self.followers = [Follower(host, BIN, half) for half, host in enumerate(hosts[3:5])]
        self.clients = hosts[5]
        self.roles, self.answers, self.load, self.streamed, self.failovers = {}, None, None, None, []

    # ---- how it begins

    def begin(self):
        say(f"six hosts: {'network namespaces, joined by a bridge' if NAMESPACES else 'addresses of the loopback network'}")
        for member in self.members:
            member.start_etcd()
        until("etcd has no leader", lambda: any(m.leads_etcd() for m in self.members), 60)
        for member in self.members:
            member.configure()
        self.members[0].start_patroni()
        self.roles = {m.name: Roles(m) for m in self.members}
        leader = until("no leader", self.leader)
        for member in self.members[1:]:
            member.start_patroni()
        self.prepare_source(leader)
        for follower in self.followers:
            if follower.name == "f1" and NAMESPACES:
                # a disk that can be filled
                os.mkdir(follower.data, 0o700)
                run("mount", "-t", "tmpfs", "-o", "size=512m,mode=700", "tmpfs", follower.data)
                follower.host.give(follower.data)
            follower.create()
            follower.start()
            self.prepare_follower(follower)
        self.wait_whole()
        leader = self.leader()
        say(f"etcd, and Patroni (ttl {OPTIONS['ttl']} s, loop_wait {OPTIONS['loop_wait']} s, synchronous_mode"
            f"{', synchronous_mode_strict' if OPTIONS['strict'] else ''}) of n1, n2, n3; {leader.name} leads; f1 and f2 follow")
        records = [f"{h.dir}/answers" for h in [self.clients] + [m.host for m in self.members]]
        self.answers = Answers(records)
        self.load = self.submitters(self.clients, 0, CLIENTS, [m.host.address for m in self.members], BROKEN)
        for follower, streamed in zip(self.followers, self.streamed):
            follower.start_consumers(HERE, streamed, BROKEN if follower.name == "f1" else {})
        self.settle()

    @staticmethod
    def prepare_source(leader):
        until("the leader does not answer", lambda: leader.sql("SELECT 1", database="postgres"))
        # it waits for the standbys, which are being made
        leader.sql("CREATE DATABASE app", database="postgres", limit_s=300)
        leader.sql("CREATE EXTENSION calvin_seq")
        for role in "feeder", "writer":
            leader.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORDS[role]}'")
        # Patroni has its own roles, and makes what pg_rewind needs, where it makes the cluster
        leader.sql("""GRANT EXECUTE ON FUNCTION seq_feed, seq_feed_state, seq_feed_note, seq_feed_acks TO feeder;
            GRANT EXECUTE ON FUNCTION seq_send, seq_append, seq_append_json, seq_encode, seq_current_committed_epoch TO writer""")

    def prepare_follower(self, follower):
        follower.sql("CREATE DATABASE app", database="postgres")
        follower.sql("CREATE EXTENSION calvin_seq")
        if self.streamed is None:
            names = [f"s/{c}/{n}" for c in list(range(CLIENTS)) + [90, 91] for n in range(4)] + [f"all/{n}" for n in range(8)]
            vshards = sorted({row[0] for row in follower.sql("SELECT seq_vshard(n) FROM unnest(%s) n", (names,))})
            self.streamed = [[v for v in vshards if v in f.owned] for f in self.followers]
        follower.follow(self.members)
        until(f"{follower.name} does not follow", lambda: follower.state()[0] in ("following", "catching up"))
        follower.prepare_consumers(self.streamed[self.followers.index(follower)])

    def submitters(self, host, first, count, addresses, env=None):
        passfile = host.write("writer.pass", f"*:*:*:writer:{PASSWORDS['writer']}\n")
        return host.start("load", "/usr/bin/python3", f"{HERE}/load.py", f"{host.dir}/answers", str(first), str(count), str(PAUSE_MS),
                          passfile, *addresses, env=env)

    # ---- what it asks

    def leader(self):
        """Of those that are primaries the last one to become one."""
        primaries = [m for m in self.members if m.name in self.roles and self.roles[m.name].role == "primary"]
        return max(primaries, key=lambda m: self.roles[m.name].since, default=None)

    def others(self, member):
        return [m for m in self.members if m is not member]

    def wait_whole(self):
        def whole():
            leader = self.leader()
            if leader is None or any(self.roles[m.name].role != "standby" for m in self.others(leader)):
                return False
            return leader.streaming() == 2 and leader.successor()
        until("the members are not together again", whole, pause=0.2)

    def settle(self, seconds=3):
        """Everybody follows, and things go on for a while."""
        for follower in self.followers:
            until(f"{follower.name} does not follow", lambda f=follower: f.state()[0] == "following")
        self.effects_since(time.time())
        time.sleep(seconds)

    def effects_since(self, moment, followers=None, seconds=120):
        """When the first effect of what was submitted since then was written, at each."""
        firsts = {}
        for follower in followers or self.followers:
            firsts[follower.name] = until(
                f"nothing new comes to {follower.name}",
                lambda f=follower: f.value("SELECT extract(epoch FROM min(at))::float8 FROM effects WHERE sent >= to_timestamp(%s)", (moment,)), seconds, 0.02)
        return firsts

    def promotion(self, since, candidates, seconds=120):
        def promoted():
            found = [(self.roles[m.name].primary_since(since), m) for m in candidates]
            return min(((at, m) for at, m in found if at is not None), key=lambda f: f[0], default=None)
        return until("nobody was promoted", promoted, seconds)

    def measure(self, what, since, candidates, between=None):
        """A new leader, or the old one again: how long it took, at the source and at the followers."""
        at, new = self.promotion(since, candidates)
        say(f"{new.name} takes writes, {at - since:.2f} s after it")
        first = min(until("nothing is acknowledged", lambda: [a[5] for a in self.answers.read() if a[0] == "A" and a[3] == new.host.address and a[4] >= at]))
        last = self.answers.last_before(min(at, first))
        say(f"the first commit there {first - at:.2f} s after that; none for {first - last:.2f} s")
        if between:
            between(new)
        effects = self.effects_since(at)
        for name, came in effects.items():
            say(f"the first effect of it at {name} {came - at:.2f} s after the promotion, {came - first:+.2f} s of that commit")
        self.failovers.append((what, at - since, first - last, first - at, effects["f1"] - at, effects["f2"] - at, effects["f1"] - first, effects["f2"] - first))
        point(True, f"{what}: submissions are taken, and come to both followers")
        return new

    def mended(self, what):
        self.wait_whole()
        self.settle()
        say(f"three members again, {self.leader().name} leads")
        point(True, f"{what}: all is as it was")

    # ---- the faults

    def switchover(self):
        old = self.leader()
        successor = old.successor().split(",")[0]
        new = next(m for m in self.members if m.name == successor)
        say(f"switchover from {old.name} to {new.name}")
        since = time.time()
        old.switchover(new)
        self.measure("switchover", since, [new])

    def leader_killed(self):
        old = self.leader()
        say(f"{old.name}: Patroni and the server are killed")
        since = time.time()
        old.kill_patroni()
        old.kill()
        self.measure("leader killed", since, self.others(old))
        old.start_patroni()
        say(f"{old.name}: Patroni is started")

    def server_killed(self):
        old = self.leader()
        say(f"{old.name}: the server alone is killed")
        since = time.time()
        old.kill()
        self.measure("server killed", since, self.members)

    def patroni_killed(self):
        old = self.leader()
        say(f"{old.name}: Patroni alone is killed, so nobody tells its server to stop")
        since = time.time()
        sizes = {f.name: f.log_size() for f in self.followers}
        old.kill_patroni()

        def between(_):
            time.sleep(3)
            acknowledged = [a for a in self.answers.read() if a[0] == "A" and a[3] == old.host.address and a[4] > self.promotion(since, self.others(old))[0]]
            point(not acknowledged, f"Patroni killed: {old.name}, which takes writes still, acknowledges none", acknowledged[:3])
            for follower in self.followers:
                for line in follower.log_has("calvin_seq follower: ", sizes[follower.name]):
                    say(f"{follower.name}: {line[line.find('calvin_seq'):]}")
                say(f"{follower.name} is {follower.state()[0]}, connected to {follower.state()[1]}")
            old.start_patroni()
            say(f"{old.name}: Patroni is started, which stops the server")
        self.measure("Patroni killed", since, self.others(old), between)

    def etcd_killed(self):
        old = self.leader()
        member = next(m for m in self.members if m.leads_etcd())
        say(f"{member.name}: etcd, which leads, is killed")
        since = time.time()
        member.kill_etcd()
        until("etcd has no new leader", lambda: any(m.leads_etcd() for m in self.members if m is not member), 60)
        say("etcd has another leader")
        time.sleep(OPTIONS["loop_wait"] + OPTIONS["retry_timeout"])
        member.start_etcd("existing")
        pause = self.answers.longest_pause(since, time.time())
        say(f"{self.leader().name} leads, as {old.name} did; the longest time without a commit was {pause[0]:.2f} s")
        self.effects_since(time.time())
        point(True, "etcd's leader killed: submissions come to both followers")

    def leader_cut_off(self):
        old = self.leader()
        say(f"{old.name}: its cable is pulled")
        since = time.time()
        old.host.pull()
        inside = self.submitters(old.host, 90, 2, [old.host.address])
        self.measure("leader cut off", since, self.others(old))
        inside.terminate()
        tried = [a for a in self.answers.read() if a[1] >= 90 and a[4] >= since]
        point(bool(tried) and not [a for a in tried if a[0] == "A"],
              f"leader cut off: of {len(tried)} submissions made on its own host it acknowledged none", tried[:3])
        old.host.plug()
        say(f"{old.name}: its cable is plugged in")

    def follower_cut_off(self):
        leader, (cut, other) = self.leader(), self.followers
        say(f"{leader.name} and {cut.name} cannot reach each other")
        since = time.time()
        self.network.cut(leader.host, cut.host)
        until(f"{cut.name} does not notice", lambda: cut.state()[0] == "unreachable", 60)
        say(f"{cut.name}: {cut.state()[2]}")
        time.sleep(4)
        self.effects_since(time.time(), [other])
        stuck = cut.value("SELECT count(*) FROM effects WHERE sent >= to_timestamp(%s)", (since + 0.5,))
        point(stuck == 0, f"follower cut off: {other.name} goes on, {cut.name} has nothing new", f"{stuck} effects")
        mended = time.time()
        self.network.mend(leader.host, cut.host)
        first = self.effects_since(since + 0.5, [cut])[cut.name]
        say(f"they can again; the first effect at {cut.name} {first - mended:.2f} s after that")
        self.effects_since(time.time())
        point(True, "follower cut off: it catches up")

    def delays(self, begin, end):
        answered = [a[5] - a[4] for a in self.answers.read() if a[0] == "A" and begin <= a[4] and a[5] <= end]
        effects = [f.value("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM at - sent))::float8 FROM effects WHERE sent BETWEEN to_timestamp(%s) AND to_timestamp(%s)",
                           (begin, end)) for f in self.followers]
        return (f"acknowledged after {1000 * statistics.median(answered):.0f} ms, {len(answered) / (end - begin):.0f} a second; "
                f"effects after {1000 * effects[0]:.0f} and {1000 * effects[1]:.0f} ms (medians)")

    def slow_links(self):
        old, since = self.leader(), time.time()
        time.sleep(5)
        say("before: " + self.delays(since, time.time()))
        by = self.network.slow(50)
        say(f"from host to host it takes 50 ms, made by {by}")
        since = time.time()
        time.sleep(20)
        self.effects_since(since + 15)
        say("meanwhile: " + self.delays(since + 2, time.time() - 1))
        point(self.leader() is old and all(f.state()[0] in ("following", "catching up") for f in self.followers),
              f"slow links: {old.name} leads, and both follow")
        self.network.fast()
        say("the links are fast again")

    def disk_full(self):
        follower, other = self.followers
        say(f"{follower.name}: its disk is filled")
        place = follower.log_size()
        with open(f"{follower.data}/ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"\0" * (1 << 20))
            except OSError:
                pass
        until(f"{follower.name} does not notice", lambda: follower.log_has("No space left on device", place), 120)
        since = time.time()
        time.sleep(5)
        line = follower.log_has("No space left on device", place)[0]
        say(f"{follower.name}: {line[line.find(']') + 1:].strip()}; the server {'runs' if follower.runs() else 'has ended'}")
        self.effects_since(since, [other])
        point(True, f"disk full: {other.name} goes on")
        os.remove(f"{follower.data}/ballast")
        say(f"{follower.name}: its disk has space again")
        if not follower.runs():
            follower.start()
            say(f"{follower.name}: the server is started")
        self.effects_since(time.time())
        point(True, f"disk full: {follower.name} catches up")

    # ---- how it ends

    def end(self):
        self.load.terminate()
        self.load.wait(60)
        say("nobody submits any more")
        leader = self.leader()
        end, rows = leader.value("SELECT max(log_index) FROM seq_log"), None

        def quiet():
            nonlocal end, rows
            rows = [f.sql("""SELECT state, lag, acks_waiting, seq_pending('worked'), seq_pending('handled'), seq_pending('streamed')
                FROM seq_follower""")[0] for f in self.followers]
            before, end = end, leader.value("SELECT max(log_index) FROM seq_log")
            return before == end and all(row == ("following", 0, 0, 0, 0, 0) for row in rows)
        try:
            until("consumers have something left to do", quiet, 180, 0.5)
        except Failed as failure:
            raise Failed(f"{failure}: {rows}") from failure
        for follower in self.followers:
            follower.stop_consumers()
        self.check(leader)

    def check(self, leader):
        vshards = self.streamed[0] + self.streamed[1]
        log = leader.sql(check.LOG, (vshards,), limit_s=120)
        answers = self.answers.read()
        figures = check.Figures(answers, log)
        point(not figures.lost, "every acknowledged submission is in the log", check.some(figures.lost))
        point(not figures.twice, "none is there twice", check.some(figures.twice))
        point(not figures.refused_there and not figures.strange, "none is there that was refused, or never made",
              check.some(figures.refused_there | figures.strange))
        disordered = check.disordered(log, answers)
        point(not disordered, "each connection's are in the order of its calls", check.some(disordered))
        self.check_effects(log)
        states = {s.name: s.sql("SELECT last_applied_index, digest FROM seq_state")[0] for s in self.members + self.followers}
        point(len(set(states.values())) == 1, "five servers have the same digest at the same log_index", states)
        epochs, positions = map(list, zip(*figures.txns))
        for server in [leader] + self.followers:
            lacking = server.value("SELECT count(*) FROM unnest(%s::bigint[], %s::bigint[]) t(e, p), seq_completion(e, p) c WHERE NOT c.complete",
                                   (epochs, positions), limit_s=120)
            point(lacking == 0, f"{server.name}: every transaction is acknowledged by all of its vshards", f"{lacking} are not")
        self.tell(figures, log)

    def check_effects(self, log):
        for reader in "worked", "handled", "streamed":
            union = []
            for follower in self.followers:
                rows = check.effects_of(follower, reader)
                expected = [row for row in log if row[0] in follower.owned]
                lacking, more = check.Counter(expected), check.Counter(rows)
                lacking, more = lacking - more, more - lacking
                point(not lacking and not more, f"{follower.name}, {reader}: each of {len(expected)} once, and nothing else",
                      f"lacking {check.some(lacking)}; too many {check.some(more)}")
                disordered = check.out_of_order(rows)
                point(not disordered, f"{follower.name}, {reader}: in the order of each vshard", check.some(disordered))
                union += rows
            point(sorted(union) == sorted(log), f"{reader}: both together have all, and nothing that both have")

    def tell(self, figures, log):
        print("\nfailovers, in s: from the fault to the promotion; from the last commit before to the first one after; from the promotion\n"
              "to the first commit, and to its first effect at f1 and f2; how much of that is behind the commit")
        print(f"  {'':<16}{'promotion':>10}{'no commit':>10}{'commit':>8}{'f1':>8}{'f2':>8}{'f1':>9}{'f2':>8}")
        for what, promotion, outage, first, f1, f2, d1, d2 in self.failovers:
            print(f"  {what:<16}{promotion:>10.2f}{outage:>10.2f}{first:>8.2f}{f1:>8.2f}{f2:>8.2f}{d1:>+9.2f}{d2:>+8.2f}")
        print(f"submissions: {figures.submitted}; acknowledged {figures.acknowledged}, lost {len(figures.lost)}, twice {len(figures.twice)}; "
              f"refused {figures.refused}; without an answer {figures.unknown}, of which {figures.unknown_there} are in the log")
        print(f"the log: {len(figures.txns)} transactions, {len(log)} with their vshards, each with {3} effects", flush=True)

    def run(self):
        self.begin()
        faults = [("switchover", self.switchover), ("leader killed", self.leader_killed)]
        cuts = [("leader cut off", self.leader_cut_off), ("follower cut off", self.follower_cut_off)]
        if not SHORT:
            faults += [("server killed", self.server_killed), ("Patroni killed", self.patroni_killed), ("etcd's leader killed", self.etcd_killed)]
            cuts += [("slow links", self.slow_links), ("disk full", self.disk_full)]
        if NAMESPACES:
            faults += cuts
        else:
            say(f"without namespaces there is no {', '.join(name for name, _ in cuts)}")
        for name, fault in faults:
            print()
            try:
                fault()
                self.mended(name)
            except Failed as failure:
                point(False, name, str(failure))
                raise
        print()
        self.end()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    story = None
    status = 1
    try:
        story = Story()
        story.run()
        status = 0
    except (Failed, psycopg2.Error, RuntimeError) as failure:
        point(False, "the story came to its end", failure)
    with open(f"{WORK}/summary", "w", encoding="utf-8") as file:
        file.write(f"{Points.passed} {Points.failed}\n")
    sys.stdout.flush()
    # the threads that watch need not end first
    os._exit(status)


main()
