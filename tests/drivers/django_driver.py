"""Django: its own migrations (auth, contenttypes, sessions), a model of ours, ORM queries, transactions, cursors."""

import sys
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

url = urlsplit(sys.argv[1])
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": unquote(url.username),
            "PASSWORD": unquote(url.password or ""),
            "HOST": url.hostname,
            "PORT": url.port,
            "CONN_MAX_AGE": 60,
            # Named cursors outlive no transaction behind a transaction pooler.
            "DISABLE_SERVER_SIDE_CURSORS": True,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    SECRET_KEY="only for tests",
)
django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.db.models import Count, F, Q  # noqa: E402


class Book(models.Model):
    title = models.CharField(max_length=80)
    pages = models.IntegerField()
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="books")
    doc = models.JSONField(default=dict)

    class Meta:
        # Relations are looked up among installed applications only.
        app_label = "sessions"
        db_table = "driver_django_book"


def migrations():
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS driver_django_book")
    call_command("migrate", verbosity=0)
    # A run that failed may have left some.
    Group.objects.all().delete()
    User.objects.all().delete()
    with connection.schema_editor() as editor:
        editor.create_model(Book)
    assert "auth_user" in connection.introspection.table_names()
    assert Permission.objects.count() > 10


def queries():
    users = [User.objects.create_user(f"user{n}", password=None) for n in range(5)]
    Book.objects.bulk_create(
        Book(title=f"book {n}", pages=n * 10, owner=users[n % 5], doc={"n": n}) for n in range(50)
    )
    assert Book.objects.filter(Q(pages__gt=300) | Q(title="book 1")).count() == 20
    counted = User.objects.annotate(count=Count("books")).order_by("username").values_list("count", flat=True)
    assert list(counted) == [10] * 5
    assert Book.objects.select_related("owner").get(title="book 7").owner.username == "user2"
    prefetched = User.objects.prefetch_related("books").get(username="user3")
    assert len(prefetched.books.all()) == 10
    assert Book.objects.filter(doc__n=9).get().pages == 90
    Book.objects.filter(pages__lt=100).update(pages=F("pages") + 1)
    assert Book.objects.get(title="book 3").pages == 31
    book, made = Book.objects.update_or_create(title="book 3", defaults={"pages": 5})
    assert (book.pages, made) == (5, False)
    assert len(list(Book.objects.order_by("id").iterator(chunk_size=7))) == 50
    group = Group.objects.create(name="driver group")
    group.permissions.set(Permission.objects.all()[:3])
    assert group.permissions.count() == 3


def transactions():
    try:
        with transaction.atomic():
            User.objects.create_user("inside")
            with transaction.atomic():
                User.objects.create_user("user0")
    except IntegrityError:
        pass
    assert not User.objects.filter(username="inside").exists()
    with transaction.atomic():
        locked = Book.objects.select_for_update().get(title="book 4")
        locked.pages = 1
        locked.save()
        done = []
        transaction.on_commit(lambda: done.append(True))
    assert done and Book.objects.get(title="book 4").pages == 1


def sessions():
    store = SessionStore()
    store["key"] = "value"
    store.save()
    assert SessionStore(session_key=store.session_key)["key"] == "value"


def tidy():
    User.objects.filter(username__startswith="user").delete()
    assert Book.objects.count() == 0
    with connection.schema_editor() as editor:
        editor.delete_model(Book)
    for app in ("sessions", "auth", "contenttypes"):
        call_command("migrate", app, "zero", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS django_migrations")


def main():
    checks = [migrations, queries, transactions, sessions, tidy]
    for check in checks:
        print(check.__name__, flush=True)
        check()
    print(f"Django {django.get_version()}, {len(checks)} checks")


main()
