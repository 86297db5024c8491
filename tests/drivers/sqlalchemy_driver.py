"""SQLAlchemy over psycopg 3 and asyncpg: schema, ORM, sessions, savepoints, pools, reflection."""

import asyncio
import os
import sys

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

URL = sys.argv[1].split("://", 1)[1]


class Base(orm.DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "driver_sa_users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    name: orm.Mapped[str]
    tags: orm.Mapped[list[str]] = orm.mapped_column(sa.ARRAY(sa.Text))
    doc: orm.Mapped[dict] = orm.mapped_column(postgresql.JSONB)
    notes: orm.Mapped[list["Note"]] = orm.relationship(back_populates="user", cascade="all, delete-orphan")


class Note(Base):
    __tablename__ = "driver_sa_notes"
    user_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(User.id), primary_key=True)
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    body: orm.Mapped[str]
    user: orm.Mapped[User] = orm.relationship(back_populates="notes")


class Event(Base):
    """Keys drawn by the server."""

    __tablename__ = "driver_sa_events"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    what: orm.Mapped[str]


def set_up(engine):
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    if os.environ.get("DRIVER_SHARDED"):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            # The foreign key goes with both tables once they are on the same shards.
            conn.execute(sa.text("ALTER TABLE driver_sa_notes DROP CONSTRAINT driver_sa_notes_user_id_fkey"))
            conn.execute(sa.text("SELECT drover.shard_table('driver_sa_users', key => 'id')"))
            conn.execute(sa.text("SELECT drover.shard_table('driver_sa_notes', key => 'user_id')"))
            conn.execute(
                sa.text("ALTER TABLE driver_sa_notes ADD FOREIGN KEY (user_id) REFERENCES driver_sa_users (id)")
            )


def fill(engine):
    with orm.Session(engine) as session:
        for key in range(1, 31):
            user = User(id=key, name=f"user {key}", tags=["a", str(key)], doc={"k": key})
            user.notes = [Note(number=n, body=f"note {key}.{n}") for n in range(3)]
            session.add(user)
        session.add_all([Event(what=f"event {n}") for n in range(20)])
        session.commit()
        events = session.scalars(sa.select(Event).order_by(Event.id)).all()
        assert [event.what for event in events] == [f"event {n}" for n in range(20)]


def read(engine):
    with orm.Session(engine) as session:
        user = session.get(User, 7)
        assert (user.name, user.tags, user.doc) == ("user 7", ["a", "7"], {"k": 7})
        assert [note.body for note in sorted(user.notes, key=lambda note: note.number)][2] == "note 7.2"
        loaded = session.scalars(
            sa.select(User).options(orm.selectinload(User.notes)).where(User.id.in_([1, 2, 3])).order_by(User.id)
        ).all()
        assert [(user.id, len(user.notes)) for user in loaded] == [(1, 3), (2, 3), (3, 3)]
        joined = session.execute(
            sa.select(User.name, sa.func.count(Note.number)).join(Note).where(User.id == 9).group_by(User.name)
        ).all()
        assert joined == [("user 9", 3)], joined
        assert session.scalar(sa.select(sa.func.count()).select_from(User)) == 30


def write(engine):
    with orm.Session(engine) as session:
        user = session.get(User, 5)
        user.name = "renamed"
        nested = session.begin_nested()
        session.add(User(id=5000, name="gone", tags=[], doc={}))
        session.flush()
        nested.rollback()
        try:
            with session.begin_nested():
                session.execute(sa.insert(User).values(id=6, name="twice", tags=[], doc={}))
            raise AssertionError("a duplicate key was taken")
        except sa.exc.IntegrityError:
            pass
        session.commit()
        assert session.get(User, 5).name == "renamed"
        assert session.get(User, 5000) is None
        session.delete(session.get(User, 30))
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Note).where(Note.user_id == 30)) == 0
        insert = postgresql.insert(User).values(id=8, name="upsert", tags=[], doc={})
        insert = insert.on_conflict_do_update(index_elements=[User.id], set_={"name": insert.excluded.name})
        assert session.scalar(insert.returning(User.name)) == "upsert"
        session.rollback()
        assert session.get(User, 8).name == "user 8"


def reflect(engine):
    inspector = sa.inspect(engine)
    assert {column["name"] for column in inspector.get_columns("driver_sa_users")} == {"id", "name", "tags", "doc"}
    assert inspector.get_pk_constraint("driver_sa_notes")["constrained_columns"] == ["user_id", "number"]
    key = inspector.get_foreign_keys("driver_sa_notes")[0]
    assert key["referred_table"] == "driver_sa_users", key


async def with_asyncpg():
    engine = create_async_engine(f"postgresql+asyncpg://{URL}", pool_size=4)

    async def one(key):
        async with AsyncSession(engine) as session:
            return (await session.get(User, key)).doc["k"]

    assert await asyncio.gather(*(one(key) for key in range(1, 21))) == list(range(1, 21))
    async with AsyncSession(engine) as session, session.begin():
        session.add(User(id=100, name="async", tags=[], doc={}))
    async with AsyncSession(engine) as session:
        assert (await session.get(User, 100)).name == "async"
    await engine.dispose()


def main():
    engine = sa.create_engine(f"postgresql+psycopg://{URL}", pool_size=3)
    checks = [set_up, fill, read, write, reflect]
    for check in checks:
        print(check.__name__, flush=True)
        check(engine)
    asyncio.run(with_asyncpg())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(sa.text("DROP TABLE driver_sa_notes"))
        conn.execute(sa.text("DROP TABLE driver_sa_users"))
        conn.execute(sa.text("DROP TABLE driver_sa_events"))
    print(f"SQLAlchemy {sa.__version__}, {len(checks) + 1} checks")


main()
