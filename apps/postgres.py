"""How queries are performed on PostgreSQL. In: GATEBENCH_DSN; effects. Out: performers, blocking and awaiting.

psycopg 3 on the pools of apps/pool.py: a variant has one total of connections, dealt out evenly to its processes, and
they are handed on first come, first served, to threads, greenlets and tasks alike. A connection is opened when it is
first needed: after a fork, and in the loop that will use it. `python -m apps.postgres` prints the SQL that makes the
tables.

psycopg chooses how to wait when it is imported. In a process whose sockets gevent patches only afterwards (`--preload`)
it waits in C, and each query stops every greenlet: no error, only a benchmark that blames gevent. This is refused.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib import import_module
from typing import Any

from apps.pool import AsyncPool, Pool, share

DSN = os.environ.get("GATEBENCH_DSN", "")
psycopg: Any = import_module("psycopg") if DSN else None  # only where there is a database: it is an extra
COOPERATIVE = ("wait_poll", "wait_select")  # what gevent has patched, when psycopg asked for it
CONNECT_S = 5

ROWS = 10_000
SLEEP = "select id, name, pg_sleep(%s) from gatebench where id = 1"
READ = "select value from gatebench_rows where id = %s"
ADD = "update gatebench_rows set hits = hits + 1 where id = %s"
# Half of each page is left free, so that an update stays in its page, and no vacuum is needed meanwhile.
TABLES = f"""\
drop view if exists gatebench_counts;
drop table if exists gatebench, gatebench_rows;
create table gatebench (id int primary key, name text not null);
insert into gatebench values (1, 'gatebench');
create table gatebench_rows (id int primary key, value int not null, hits bigint not null default 0)
  with (fillfactor = 50);
insert into gatebench_rows (id, value) select n, n * 7919 % 10007 from generate_series(1, {ROWS}) as n;
vacuum analyze gatebench;
vacuum analyze gatebench_rows;
"""  # noqa: S608  a number of ours
# What the database itself has counted: queries and reads are null where pg_stat_statements is not loaded.
COUNTS = """\
do $$ begin
  create extension if not exists pg_stat_statements;
  perform count(*) from pg_stat_statements;
  create view gatebench_counts as select
    (select coalesce(sum(calls), 0) from pg_stat_statements where query like 'select id, name, pg_sleep(%') as queries,
    (select coalesce(sum(calls), 0) from pg_stat_statements where query like 'select value from gatebench_rows%')
      as reads,
    (select coalesce(sum(hits), 0) from gatebench_rows) as updates,
    (select count(*) from pg_stat_activity where application_name like 'gatebench %') as connections;
exception when others then
  create view gatebench_counts as select
    null::bigint as queries,
    null::bigint as reads,
    (select coalesce(sum(hits), 0) from gatebench_rows) as updates,
    (select count(*) from pg_stat_activity where application_name like 'gatebench %') as connections;
end $$;
"""


def seeded(number: int) -> int:
    """The value of a row, as TABLES has it."""
    return number * 7919 % 10007


def drawn(count: int) -> list[int]:
    """So many different rows, in ascending order: transactions that lock in one order never wait in a circle."""
    return sorted(random.sample(range(1, ROWS + 1), count))


def fault() -> str:
    """Why queries would not wait as everything else in this process does; '' when they do."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if not DSN or monkey is None or not monkey.is_module_patched("socket"):
        return ""
    chosen = psycopg.waiting.wait.__name__
    if chosen in COOPERATIVE:
        return ""
    return (
        f"psycopg was imported before gevent's patch and waits by {chosen}, so each query would stop every greenlet: "
        "patch first, so no --preload; or set PSYCOPG_WAIT_FUNC=wait_poll"
    )


def told() -> str:
    """What performs queries here, in words for `/state`; begins with `refused` when it must not."""
    if not DSN:
        return "embedded pool"
    if why := fault():
        return f"refused: {why}"
    return f"PostgreSQL by psycopg {psycopg.__version__}, {psycopg.waiting.wait.__name__}, {share()} connections"


class Refused(RuntimeError):
    """This process may not query the database; its text says why."""


class Wrong(RuntimeError):
    """The database answered with something else than what was put in."""


# -- connections -----------------------------------------------------------------------------------------------------


def _options() -> dict[str, Any]:
    if why := fault():
        raise Refused(why)
    name = f"gatebench {os.environ.get('GATEBENCH_VARIANT', '')}"
    return {"autocommit": True, "application_name": name, "connect_timeout": CONNECT_S}


def _fit(connection: Any) -> bool:
    """Whether the next one may use it: it is open, and in no query and no transaction."""
    return bool(connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE)


class Connections:
    """At most `size` connections, for threads and greenlets."""

    def __init__(self, size: int) -> None:
        self._turns = Pool(size)
        self._idle: list[Any] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[Any]:
        with self._turns:
            try:
                connection = self._idle.pop()
            except IndexError:  # asked first, then looked: another thread might have been faster
                connection = psycopg.connect(DSN, **_options())
            try:
                yield connection
            finally:
                if _fit(connection):
                    self._idle.append(connection)
                else:  # somebody left in the middle: what he asked for must not go on beside what others ask
                    with contextlib.suppress(psycopg.Error):
                        connection.cancel_safe(timeout=1.0)
                    connection.close()


class AsyncConnections:
    """The same for tasks."""

    def __init__(self, size: int) -> None:
        self._turns = AsyncPool(size)
        self._idle: list[Any] = []

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        async with self._turns:
            connection = self._idle.pop() if self._idle else await psycopg.AsyncConnection.connect(DSN, **_options())
            try:
                yield connection
            finally:
                if _fit(connection):
                    self._idle.append(connection)
                else:  # psycopg has cancelled what a cancelled task had asked for
                    await connection.close()


_CONNECTIONS = Connections(share())
_ASYNC_CONNECTIONS = AsyncConnections(share())


# -- performers, for effects' two tables -----------------------------------------------------------------------------


def query(effect: Any, _began: float) -> None:
    with _CONNECTIONS.one() as connection:
        _check_row(connection.execute(SLEEP, (effect.seconds,)).fetchone())


def fetch(effect: Any, _began: float) -> list[int]:
    with _CONNECTIONS.one() as connection:
        return [_value(connection.execute(READ, (number,)).fetchone()) for number in effect.numbers]


def increment(effect: Any, _began: float) -> int:
    with _CONNECTIONS.one() as connection, connection.transaction():
        return sum(connection.execute(ADD, (number,)).rowcount for number in effect.numbers)


async def query_async(effect: Any, _began: float) -> None:
    async with _ASYNC_CONNECTIONS.one() as connection:
        _check_row(await (await connection.execute(SLEEP, (effect.seconds,))).fetchone())


async def fetch_async(effect: Any, _began: float) -> list[int]:
    async with _ASYNC_CONNECTIONS.one() as connection:
        return [_value(await (await connection.execute(READ, (number,))).fetchone()) for number in effect.numbers]


async def increment_async(effect: Any, _began: float) -> int:
    async with _ASYNC_CONNECTIONS.one() as connection, connection.transaction():
        return sum([(await connection.execute(ADD, (number,))).rowcount for number in effect.numbers])


def _check_row(row: Sequence[Any] | None) -> None:
    if row is None or tuple(row[:2]) != (1, "gatebench"):
        raise Wrong(f"row 1 of gatebench is {row!r:.80}")


def _value(row: Sequence[Any] | None) -> int:
    if row is None:
        raise Wrong("a row of gatebench_rows is missing")
    return int(row[0])


if __name__ == "__main__":
    sys.stdout.write(TABLES + COUNTS)
