from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing

import pytest

from proxy.stores import place
from proxy.stores.place import NetworkFileSystem
from proxy.stores.sqlite import open_store
from proxy.stores.unmade import UnmadeStore
from proxy.tokens.ports import Change, Conflict, StoreError
from tests.tokens.play import after, committed, create, rotate


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "promgate.db"


@pytest.fixture
def store(path):
    with closing(open_store(path)) as opened:
        yield opened


@pytest.fixture
def filled(path):
    """A closed store of some pages, each in use."""
    with closing(open_store(path)) as opened:
        for number in range(60):
            committed(opened, f"sender-{number}")
    return path


def test_what_is_made_is_ours_alone(store, path):
    committed(store, "prom")
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"promgate.db": 0o600, "promgate.db-wal": 0o600, "promgate.db-shm": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_commit_is_on_disk_when_it_returns(store):
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA temp_store").fetchone() == (2,)  # MEMORY
    assert store._db.execute("PRAGMA busy_timeout").fetchone() == (3000,)


def test_no_secret_is_in_the_files(store, path):
    issued = create("prom")
    store.commit(issued.change)
    secret = issued.secret.reveal().encode()
    assert all(secret[13:40] not in file.read_bytes() for file in path.parent.iterdir())


def test_a_missing_store_is_made_only_where_asked(path):
    with pytest.raises(StoreError, match=r"promgate\.db: no token store is there.*token create"):
        open_store(path, make=False)
    assert not path.parent.exists()


def test_a_promised_store_is_empty_and_is_made_by_its_first_change(path):
    with closing(UnmadeStore(path)) as promised:
        assert (promised.changes_since(0).tokens, promised.named("prom"), promised.story("prom").tokens) == ((), (), ())
        with pytest.raises(Conflict):
            promised._store.commit(Change("prom", after(create("prom")), ()))
        assert not path.parent.exists()
        assert committed(promised, "prom") == 1
        with closing(open_store(path, make=False)) as store:
            assert store.named("prom") == promised.named("prom") != ()
            assert store.changes_since(0).made_at > 0.0
            committed(store, "other")
        assert promised.names() == ["other", "prom"]


def test_a_promised_store_that_another_process_made_meanwhile_is_that_one(path):
    with closing(UnmadeStore(path)) as promised:
        issued = create("prom", promised.named("prom"))
        with closing(open_store(path)) as store:
            committed(store, "prom", now=5.0)
        with pytest.raises(Conflict):
            promised.commit(issued.change)


def test_two_who_make_it_at_once_have_the_same(path):
    gate = threading.Barrier(4)
    opened = []

    def make():
        gate.wait()
        opened.append(open_store(path))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    committed(opened[0], "prom")
    assert [list(store.names()) for store in opened] == [["prom"]] * 4
    for store in opened:
        store.close()
    assert [file.name for file in path.parent.iterdir()] == ["promgate.db"]


def test_a_log_without_its_store_is_not_replayed_into_a_new_one(filled, path):
    wal = path.with_name("promgate.db-wal")
    wal.write_bytes(b"left behind")
    path.unlink()
    with pytest.raises(StoreError, match=f"is gone but promgate.db-wal is there.*remove {wal}"):
        open_store(path)


def damage_whole(path):
    path.write_bytes(b"")


def damage_cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


def damage_cut_in_a_page(path):
    os.truncate(path, path.stat().st_size - 100)


def damage_header(path):
    with path.open("r+b") as file:
        file.write(b"\0" * 16)


def damage_text(path):
    path.write_text("tokens:\n  - prom\n" * 100)


def damage_all_pages_but_the_first(path):
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def damage_other_database(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE token (id)")
    path.chmod(0o600)


def damage_generation(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM meta")
        db.commit()


def damage_index(path):
    """An index that has lost a token would answer "unknown": the worst answer there is."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        sql = "CREATE INDEX token_by_name ON token (name) WHERE name <> 'sender-7'"
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'token_by_name'", (sql,))
        db.commit()


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_an_error_that_names_it_and_never_an_empty_store(filled, damage):
    damage(filled)
    with pytest.raises(StoreError, match=r"promgate\.db: .*(backup|check)"):
        open_store(filled)


@pytest.mark.parametrize("page", range(1, 9))
def test_any_one_page_of_noise_is_seen(filled, page):
    assert filled.stat().st_size >= 9 * 4096
    with filled.open("r+b") as file:
        file.seek(page * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreError, match=r"promgate\.db: "):
        open_store(filled)


def test_a_row_that_makes_no_sense_is_an_error_and_is_not_left_out(filled):
    with closing(sqlite3.connect(filled)) as db:
        db.execute("UPDATE token SET kind = 'admin' WHERE name = 'sender-3'")
        db.commit()
    with closing(open_store(filled)) as store, pytest.raises(StoreError, match="makes no sense"):
        store.changes_since(0)


def test_a_newer_schema_is_refused(filled):
    with closing(sqlite3.connect(filled)) as db:
        db.execute("PRAGMA user_version = 5")
    with pytest.raises(StoreError, match=r"newer promgate \(schema 5, this one knows 4\)"):
        open_store(filled)


def test_a_store_open_to_everybody_is_refused(filled):
    filled.chmod(0o644)
    with pytest.raises(StoreError, match="chmod o-rwx"):
        open_store(filled)


def test_a_directory_open_to_everybody_is_refused_before_anything_is_made(path):
    path.parent.mkdir()
    path.parent.chmod(0o1777)
    with pytest.raises(StoreError, match=f"{path.parent}: mode is 1777.*chmod o-w"):
        open_store(path)
    assert list(path.parent.iterdir()) == []


def test_a_directory_that_was_opened_to_everybody_is_refused(filled):
    filled.parent.chmod(0o777)
    with pytest.raises(StoreError, match="chmod o-w"):
        open_store(filled)


def test_a_network_file_system_is_refused_before_anything_is_made(path, monkeypatch):
    monkeypatch.setattr(place, "file_system_of", lambda *_: "nfs4")
    with pytest.raises(NetworkFileSystem, match="nfs4"):
        open_store(path)
    assert not path.exists()


def test_a_parent_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/promgate\.db"):
        open_store(tmp_path / "file" / "promgate.db")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_taken_away_while_open_is_an_error(store, path, tmp_path, how):
    committed(store, "prom")
    path.unlink()
    if how == "replaced":
        open_store(tmp_path / "other.db").close()
        (tmp_path / "other.db").rename(path)
    for read in (lambda: store.changes_since(0), lambda: store.named("prom"), lambda: committed(store, "x")):
        with pytest.raises(StoreError, match=r"removed or replaced.*restart"):
            read()


def test_a_writer_who_holds_the_store_delays_no_reader_and_is_named_to_a_writer(store, path, monkeypatch):
    committed(store, "prom")
    store._db.execute("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert len(store.changes_since(0).tokens) == 1
        with pytest.raises(StoreError, match="kept it locked"):
            committed(store, "other")
        holder.execute("ROLLBACK")
    committed(store, "other")
    assert list(store.names()) == ["other", "prom"]


def test_the_file_itself_refuses_what_the_rules_refuse(store, path):
    """For what writes past us: a second version, or a person with sqlite3."""
    committed(store, "prom")
    store.commit(rotate("prom", store.named("prom"), now=1.0).change)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            db.execute("UPDATE token SET accepted_until = NULL")
        db.execute("UPDATE token SET revoked_at = 5.0 WHERE seq = 1")
        with pytest.raises(sqlite3.IntegrityError, match="a revocation is for good"):
            db.execute("UPDATE token SET revoked_at = NULL WHERE seq = 1")


def test_a_disk_that_fails_in_the_middle_leaves_the_old_state_and_the_store_usable(store, monkeypatch):
    """Rig the n-th statement of a commit to fail, for every n until it succeeds."""
    committed(store, "prom")
    before, real = store.named("prom"), store._db

    class Rigged:
        def __init__(self, fails_at):
            self.left = fails_at

        def execute(self, sql, *values):
            if sql != "ROLLBACK":
                self.left -= 1
                if self.left == 0:
                    raise sqlite3.OperationalError("disk I/O error")
            return real.execute(sql, *values)

        in_transaction = property(lambda _: real.in_transaction)

    for fails_at in range(1, 100):
        change = rotate("prom", before, now=float(fails_at)).change
        store._db = Rigged(fails_at)
        try:
            store.commit(change)
            break
        except StoreError as error:
            assert "promgate.db: " in str(error)  # noqa: PT017 - only one of two lawful outcomes
        finally:
            store._db = real
        assert store.named("prom") == before
        assert store.changes_since(0).generation == 1
    assert fails_at > 5
    assert store.named("prom") == after(change)


def test_a_closed_store_says_so(path):
    store = open_store(path)
    store.close()
    with pytest.raises(StoreError, match="closed database"):
        store.names()


def test_following_an_unchanged_store_reads_no_rows(filled):
    with closing(open_store(filled)) as store:
        statements = []
        store._db.set_trace_callback(statements.append)
        assert store.changes_since(60).tokens == ()
        assert not any("FROM token" in sql for sql in statements)
        assert len(store.changes_since(59).tokens) == 1
        store._db.set_trace_callback(None)
        (select,) = [sql for sql in statements if "FROM token" in sql]
        ((*_, plan),) = store._db.execute(f"EXPLAIN QUERY PLAN {select}").fetchall()
        assert plan.startswith("SEARCH token USING INDEX token_by_generation")


def test_a_look_tells_that_another_process_committed(store, path):
    before = store.look()
    assert store.look() == before
    with closing(open_store(path)) as other:
        committed(other, "prom")
        assert store.look() != before
