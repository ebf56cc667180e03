"""Connections that never wait longer than they are told to, whatever becomes of the server."""
import select
import time

import psycopg2
import psycopg2.extensions


class TooLate(psycopg2.OperationalError):
    """No answer in time: what was under way may have been done."""


limits = {}     # by connection, and one for who has none: the connecting
CONNECT_S = 2


def wait(connection):
    deadline = time.monotonic() + limits.get(id(connection), CONNECT_S)
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TooLate("no answer in time")
        reads = [connection.fileno()] if state == psycopg2.extensions.POLL_READ else []
        writes = [connection.fileno()] if state == psycopg2.extensions.POLL_WRITE else []
        select.select(reads, writes, [], left)


psycopg2.extensions.set_wait_callback(wait)


def connect(limit_s, **parameters):
    connection = psycopg2.connect(**parameters)
    limits[id(connection)] = limit_s
    connection.autocommit = True
    return connection


def close(connection):
    if connection is not None:
        limits.pop(id(connection), None)
        try:
            connection.close()
        except psycopg2.Error:
            pass
