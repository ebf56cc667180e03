"""What runs on the hosts: etcd and Patroni on three, and a follower on each of two."""
import json
import os
import re
import secrets
import subprocess
import time

import psycopg2
from connect import connect
from hosts import kill_server

PORT = 54320
PASSWORDS = {name: secrets.token_hex(12) for name in ("postgres", "replicator", "rewinder", "feeder", "writer")}
# of every server here
COMMON = {"shared_preload_libraries": "calvin_seq", "fsync": "off", "shared_buffers": "32MB", "max_connections": "100",
          "max_worker_processes": "24", "max_wal_size": "128MB", "min_wal_size": "64MB", "log_line_prefix": "%m [%p] %a ",
          "timezone": "UTC", "lc_messages": "C", "log_min_error_statement": "panic"}


class Server:
    """A PostgreSQL server on a host, wherever its processes come from."""

    def __init__(self, host, bin_dir):
        self.host, self.bin = host, bin_dir
        self.name, self.data = host.name, f"{host.dir}/data"

    def connect(self, limit_s=20, database="app", connect_s=20):
        return connect(limit_s, connect_s, host=self.host.dir, port=PORT, dbname=database, user="postgres", application_name="story")

    def sql(self, statement, args=None, limit_s=60, database="app"):
        connection = self.connect(limit_s, database)
        try:
            cursor = connection.cursor()
            cursor.execute(statement, args)
            return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def value(self, statement, args=None, limit_s=60):
        return self.sql(statement, args, limit_s)[0][0]

    def kill(self):
        kill_server(self.data)


class Member(Server):
    """Of the Patroni cluster."""

    def __init__(self, host, bin_dir, members, options):
        super().__init__(host, bin_dir)
        self.members, self.options = members, options
        self.patroni = self.etcd = None

    def start_etcd(self, state="new"):
        peers = ",".join(f"{m.name}=http://{m.host.address}:23800" for m in self.members)
        client, peer = f"http://{self.host.address}:23790", f"http://{self.host.address}:23800"
        # slower than by default: what it tells is that a host is gone, not that it is busy
        self.etcd = self.host.start(
            "etcd", "etcd", "--name", self.name, "--data-dir", f"{self.host.dir}/etcd", "--initial-cluster", peers,
            "--initial-cluster-state", state, "--initial-advertise-peer-urls", peer, "--listen-peer-urls", peer,
            "--listen-client-urls", client, "--advertise-client-urls", client, "--heartbeat-interval", "250",
            "--election-timeout", "2500", "--enable-v2")

    def kill_etcd(self):
        self.etcd.kill()
        self.etcd.wait()

    def etcdctl(self, *args, api=3):
        return self.host.run("etcdctl", "--endpoints", f"http://{self.host.address}:23790", *args, env={"ETCDCTL_API": str(api)})

    def leads_etcd(self):
        status = json.loads(self.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        return status["leader"] == status["header"]["member_id"]

    def successor(self):
        """The one that Patroni has noted as synchronous: nobody else may become the leader after this one."""
        noted = json.loads(self.etcdctl("get", "/service/story/sync", api=2) or "{}")
        return noted.get("sync_standby") if noted.get("leader") == self.name else None

    def configure(self):
        network, address = self.host.network.range, self.host.address
        self.host.write("patroni.yml", json.dumps({
            "scope": "story", "name": self.name,
            "restapi": {"listen": f"{address}:18008", "connect_address": f"{address}:18008"},
            # by "etcd3" Patroni 3.0 writes the leader's key without a look at whose it is by then
            "etcd": {"hosts": [f"{m.host.address}:23790" for m in self.members]},
            "bootstrap": {
                "dcs": {
                    "ttl": self.options["ttl"], "loop_wait": self.options["loop_wait"],
                    "retry_timeout": self.options["retry_timeout"],
                    "synchronous_mode": True, "synchronous_mode_strict": self.options["strict"],
                    "postgresql": {
                        "use_pg_rewind": True, "use_slots": True,
                        "parameters": {**COMMON, "wal_level": "replica", "wal_log_hints": "on", "hot_standby": "on",
                                       "max_wal_senders": 10, "max_replication_slots": 10}}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"]},
            "postgresql": {
                "listen": f"{address}:{PORT}", "connect_address": f"{address}:{PORT}", "use_unix_socket": True,
                "data_dir": self.data, "bin_dir": self.bin, "pgpass": f"{self.host.dir}/pgpass",
                "basebackup": [{"checkpoint": "fast"}],
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORDS["postgres"]},
                    "replication": {"username": "replicator", "password": PASSWORDS["replicator"]},
                    "rewind": {"username": "rewinder", "password": PASSWORDS["rewinder"]}},
                "parameters": {"unix_socket_directories": self.host.dir},
                "pg_hba": ["local all all trust", f"host replication replicator {network} scram-sha-256",
                           f"host all all {network} scram-sha-256"]}}, indent=1))

    def start_patroni(self):
        self.patroni = self.host.start("patroni", "patroni", f"{self.host.dir}/patroni.yml")

    def kill_patroni(self):
        self.patroni.kill()
        self.patroni.wait()

    def switchover(self, to):
        self.host.run("patronictl", "-c", f"{self.host.dir}/patroni.yml", "switchover", "--leader", self.name,
                      "--candidate", to.name, "--force")

    def streaming(self):
        """How many members have what is written here."""
        return self.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name ~ '^n[0-9]$'",
                        database="postgres")[0][0]


class Follower(Server):
    """One that owns half of the vshards."""

    def __init__(self, host, bin_dir, half):
        super().__init__(host, bin_dir)
        self.owned = list(range(512 * half, 512 * half + 512))
        self.process = self.consumer = None

    def create(self):
        self.host.run(f"{self.bin}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
                      "--no-sync", "--no-instructions")
        settings = {**COMMON, "listen_addresses": "", "port": PORT, "unix_socket_directories": self.host.dir,
                    "cluster_name": self.name, "calvin_seq.follower_timeout": "5s", "calvin_seq.queue_size": "16kB"}
        with open(f"{self.data}/postgresql.conf", "a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self):
        self.process = self.host.start("server", f"{self.bin}/postgres", "-D", self.data)
        self.wait_for_server()

    def wait_for_server(self, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.sql("SELECT 1", database="postgres")
            except psycopg2.Error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def runs(self):
        return self.process.poll() is None

    def follow(self, members):
        hosts = ",".join(m.host.address for m in members)
        password = self.host.write("feeder.pass", f"*:*:*:feeder:{PASSWORDS['feeder']}\n")
        self.sql("SELECT seq_follow(%s)", (f"host={hosts} port={PORT} dbname=app user=feeder target_session_attrs=read-write passfile={password}",))

    def prepare_consumers(self, streamed):
        self.sql("""
            CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY, reader text, vshard int, epoch bigint, position int,
                client int, number int, sent timestamptz, at timestamptz DEFAULT clock_timestamp());
            CREATE INDEX ON effects (sent);
            CREATE FUNCTION handle(m seq_txn) RETURNS void LANGUAGE plpgsql AS $$
                DECLARE p jsonb = seq_json(m.plans);
                BEGIN
                    INSERT INTO effects (reader, vshard, epoch, position, client, number, sent)
                    VALUES ('handled', m.vshard, m.epoch, m.position, (p ->> 'c')::int, (p ->> 'n')::int, to_timestamp((p ->> 'sent')::float8));
                END $$""")
        self.sql("SELECT seq_create_group('worked', 16, %s, from_epoch => 0)", (self.owned,))
        self.sql("SELECT seq_create_group('handled', 16, %s, from_epoch => 0)", (self.owned,))
        self.sql("SELECT seq_handle('handled', 'handle(seq_txn)', workers => 2, max_attempts => 1000)")
        self.sql("SELECT seq_register('streamed', %s, 0)", (streamed,))

    def start_consumers(self, here, streamed, env):
        self.consumer = self.host.start("consume", "/usr/bin/python3", f"{here}/consume.py", self.host.dir, "2", *map(str, streamed), env=env)

    def stop_consumers(self):
        self.consumer.terminate()
        try:
            self.consumer.wait(20)
        except subprocess.TimeoutExpired:
            self.consumer.kill()

    def state(self):
        return self.sql("SELECT state, connected_to, last_error FROM seq_follower")[0]

    def log_has(self, pattern, since=0):
        with open(f"{self.host.dir}/server.log", encoding="utf-8", errors="replace") as file:
            file.seek(since)
            found = [line.strip() for line in file if re.search(pattern, line)]
        return found

    def log_size(self):
        return os.path.getsize(f"{self.host.dir}/server.log")
