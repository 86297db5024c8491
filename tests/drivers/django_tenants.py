"""A multi-tenant application in Django: every contrib app, and a shop of many tenants sharded by tenant.

    django_tenants.py URL

With DRIVER_SHARDED the tables are sharded between two migrations, as a team would that moves to shards. With DRIVER_ORACLE, the
URL of one PostgreSQL, the same is run there, and what the application saw must be the same, line by line.
"""

import datetime
import decimal
import difflib
import json
import os
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

SHARDED = os.environ.get("DRIVER_SHARDED") == "1"
PROCESSORS = [
    "template.context_processors.request",
    "contrib.auth.context_processors.auth",
    "contrib.messages.context_processors.messages",
]
url = urlsplit(sys.argv[1])
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.sites",
        "django.contrib.flatpages",
        "django.contrib.redirects",
        "shop",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": unquote(url.username),
            "PASSWORD": unquote(url.password or ""),
            "HOST": url.hostname,
            "PORT": url.port,
            "CONN_MAX_AGE": 60,
            "DISABLE_SERVER_SIDE_CURSORS": True,
        }
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"context_processors": [f"django.{name}" for name in PROCESSORS]},
        }
    ],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SITE_ID=1,
    USE_TZ=True,
    SECRET_KEY="only for tests",
    SILENCED_SYSTEM_CHECKS=["admin.E408", "admin.E409", "admin.E410"],
)
django.setup()

from django.contrib.admin.models import ADDITION, LogEntry  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.flatpages.models import FlatPage  # noqa: E402
from django.contrib.redirects.models import Redirect  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Avg, Count, F, Max, OuterRef, Q, Subquery, Sum  # noqa: E402
from django.db.models.functions import TruncMonth  # noqa: E402
from shop.models import Customer, Line, Order, Product, Tenant  # noqa: E402

# On every shard: what all tenants share.
REFERENCE = """django_content_type auth_permission auth_group auth_group_permissions auth_user auth_user_groups
auth_user_user_permissions django_site django_flatpage django_flatpage_sites django_redirect django_migrations shop_tenant"""

said = []


def say(*words):
    said.append(" ".join(str(word) for word in words))


def shard():
    with connection.cursor() as cursor:
        for table in REFERENCE.split():
            cursor.execute(f"SELECT drover.reference_table('{table}')")
        cursor.execute("SELECT drover.shard_table('django_session', key => 'session_key')")
        cursor.execute("SELECT drover.shard_table('django_admin_log', key => 'id')")
        cursor.execute("SELECT drover.shard_table('shop_customer', key => 'tenant_id')")
        for table in ("shop_product", "shop_order", "shop_line"):
            cursor.execute(f"SELECT drover.shard_table('{table}', key => 'tenant_id', colocate_with => 'shop_customer')")


def tables():
    names = connection.introspection.table_names()
    return [name for name in names if name.partition("_")[0] in ("auth", "django", "shop")]


def empty():
    """A run that failed may have left some."""
    left = tables()
    if left:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {', '.join(left)} CASCADE")


def migrations():
    empty()
    call_command("migrate", "shop", "0001", verbosity=0)
    for app in ("admin", "sessions", "flatpages", "redirects"):
        call_command("migrate", app, verbosity=0)
    say(len(tables()))
    if SHARDED:
        shard()
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT app, name FROM django_migrations ORDER BY app, name")
        say(cursor.fetchall())
    call_command("migrate", check_unapplied=True, verbosity=0)


def fill():
    Tenant.objects.bulk_create(Tenant(name=f"tenant {n}", plan="free" if n % 3 else "paid") for n in range(1, 13))
    for tenant in Tenant.objects.order_by("id"):
        n = tenant.id
        Customer.objects.bulk_create(
            Customer(tenant=tenant, id=c, email=f"c{c}@t{n}.example", joined=datetime.date(2024, 1 + c % 12, 1 + n), doc={"rank": c % 4})
            for c in range(1, 9)
        )
        Product.objects.bulk_create(
            Product(tenant=tenant, id=p, title=f"product {p}", price=decimal.Decimal(p * 100 + n) / 7) for p in range(1, 6)
        )
        orders, lines = [], []
        for o in range(1, 16):
            placed = datetime.datetime(2025, 1 + o % 12, 1 + n, 12, o, tzinfo=datetime.timezone.utc)
            orders.append(Order(tenant=tenant, id=o, customer_id=1 + o % 8, placed=placed, state=["open", "paid", "sent"][o % 3]))
            for p in range(1, 1 + o % 4):
                lines.append(Line(tenant=tenant, id=o * 10 + p, order_id=o, product_id=p, quantity=o % 5 + 1, price=decimal.Decimal(p * n)))
        Order.objects.bulk_create(orders)
        Line.objects.bulk_create(lines, batch_size=7)
    say("rows", Tenant.objects.count(), Customer.objects.count(), Product.objects.count(), Order.objects.count(), Line.objects.count())


def in_a_tenant():
    tenant = Tenant.objects.get(name="tenant 5")
    mine = Order.objects.filter(tenant=tenant)
    say(list(mine.filter(state="open").order_by("id").values_list("id", "customer_id")))
    say([(o.id, o.customer.email) for o in mine.select_related("customer").order_by("-placed")[:4]])
    order = mine.prefetch_related("lines__product").get(id=7)
    say([(line.id, line.product.title, line.quantity) for line in sorted(order.lines.all(), key=lambda line: line.id)])
    totals = mine.annotate(total=Sum(F("lines__quantity") * F("lines__price")), lines_=Count("lines")).order_by("id")
    say([(o.id, o.total, o.lines_) for o in totals])
    best = Customer.objects.filter(tenant=tenant).annotate(n=Count("orders", filter=Q(orders__state="paid"))).order_by("-n", "id")
    say([(c.email, c.n) for c in best[:3]])
    latest = Order.objects.filter(tenant=OuterRef("tenant"), customer_id=OuterRef("id")).order_by("-placed")
    say(list(Customer.objects.filter(tenant=tenant).annotate(last=Subquery(latest.values("id")[:1])).order_by("id").values_list("id", "last")))
    say(list(mine.annotate(month=TruncMonth("placed")).values("month").annotate(n=Count("id")).order_by("month").values_list("month", "n"))[:4])
    say(Customer.objects.filter(tenant=tenant, doc__rank=2).order_by("id").values_list("email", flat=True)[0])
    say(Product.objects.filter(tenant=tenant, title__icontains="DUCT 3").exists())
    say(mine.aggregate(Max("placed"), Count("id")))
    say(list(Customer.objects.filter(tenant=tenant).dates("joined", "month"))[:3])


def over_tenants():
    say(list(Order.objects.values("state").annotate(n=Count("pk")).order_by("state").values_list("state", "n")))
    say(Line.objects.aggregate(q=Sum("quantity"), p=Avg("price"), n=Count("pk")))
    say(list(Tenant.objects.annotate(n=Count("order")).order_by("-n", "name").values_list("name", "n")[:5]))
    say([(o.tenant.name, o.id) for o in Order.objects.select_related("tenant").filter(state="sent").order_by("placed", "tenant_id")[:5]])
    say(list(Customer.objects.filter(email__startswith="c3@").order_by("email").values_list("email", flat=True)))
    say(Order.objects.filter(tenant__plan="paid", state="open").count())
    say(Product.objects.filter(price__gte=50).count(), Product.objects.order_by("-price", "tenant_id").first().pk)
    say([(o.pk) for o in Order.objects.filter(Q(tenant=3) | Q(tenant=9), state="paid").order_by("pk")])


def writes():
    tenant = Tenant.objects.get(name="tenant 7")
    customer, made = Customer.objects.get_or_create(tenant=tenant, email="new@t7.example", defaults={"id": 100, "joined": datetime.date(2025, 5, 5)})
    say(customer.pk, made)
    customer, made = Customer.objects.update_or_create(tenant=tenant, email="new@t7.example", defaults={"doc": {"rank": 9}})
    say(customer.doc, made)
    try:
        with transaction.atomic():
            Customer.objects.create(tenant=tenant, id=101, email="new@t7.example", joined=datetime.date(2025, 5, 5))
    except IntegrityError as error:
        say(str(error).splitlines()[0])
    try:
        with transaction.atomic():
            Line.objects.filter(tenant=tenant, order_id=3).update(quantity=0)
    except IntegrityError as error:
        say(str(error).splitlines()[0])
    say(Line.objects.filter(tenant=tenant).update(quantity=F("quantity") + 1), Product.objects.filter(title="product 2").update(price=F("price") * 2))
    with transaction.atomic():
        order = Order.objects.select_for_update().get(tenant=tenant, id=4)
        order.state = "sent"
        order.save()
        done = []
        transaction.on_commit(lambda: done.append(True))
    say(done, Order.objects.get(tenant=tenant, id=4).state)
    Product.objects.bulk_create(
        [Product(tenant=tenant, id=n, title=f"again {n}", price=1) for n in range(4, 9)],
        update_conflicts=True, update_fields=["title"], unique_fields=["tenant", "id"],
    )
    say(list(Product.objects.filter(tenant=tenant).order_by("id").values_list("id", "title")))
    rows = list(Order.objects.filter(tenant=tenant, id__lte=3))
    for row in rows:
        row.state = f"bulk{row.id}"
    say(Order.objects.bulk_update(rows, ["state"]))
    say(Line.objects.filter(tenant=tenant, order_id=2).delete())
    # Two tenants in one transaction: all or nothing.
    try:
        with transaction.atomic():
            Order.objects.filter(tenant=2, id=1).update(state="both")
            Order.objects.filter(tenant=3, id=1).update(state="both")
            raise IntegrityError("ours")
    except IntegrityError:
        pass
    say(Order.objects.filter(state="both").count())
    with transaction.atomic():
        Order.objects.filter(tenant=2, id=1).update(state="both")
        Order.objects.filter(tenant=3, id=1).update(state="both")
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    say(Order.objects.filter(state="both").count())
    say(Order.objects.filter(tenant__in=[2, 3], id=1).update(state="open"))


def contrib():
    say(Permission.objects.count(), ContentType.objects.count(), Site.objects.get_current().domain)
    user = User.objects.create_user("clerk", "clerk@example.com", password=None)
    group = Group.objects.create(name="clerks")
    group.permissions.set(Permission.objects.filter(codename__in=["add_order", "view_order"]))
    user.groups.add(group)
    user = User.objects.get(username="clerk")
    say(user.has_perm("shop.add_order"), sorted(user.get_all_permissions()))
    say(Order.objects.filter(tenant=5, id__in=[1, 2]).update(clerk=user))
    say(Order.objects.filter(clerk__username="clerk").count())
    order = Order.objects.get(tenant=5, id=1)
    LogEntry.objects.create(
        user=user, content_type=ContentType.objects.get_for_model(Order), object_id=json.dumps(order.pk),
        object_repr="order", action_flag=ADDITION, change_message="[]",
    )
    say([(e.user.username, e.content_type.model, e.is_addition()) for e in LogEntry.objects.select_related("user", "content_type")])
    store = SessionStore()
    store["key"] = "value"
    store.save()
    store["more"] = 1
    store.save()
    say(SessionStore(session_key=store.session_key)["key"])
    store.delete()
    call_command("clearsessions")
    page = FlatPage.objects.create(url="/about/", title="About")
    page.sites.add(Site.objects.get_current())
    Redirect.objects.create(site_id=1, old_path="/a", new_path="/b")
    say(FlatPage.objects.filter(sites=1).count(), Redirect.objects.get(old_path="/a").new_path)
    say(call_command("check", verbosity=0))


def deletions():
    tenant = Tenant.objects.get(name="tenant 9")
    say(sorted(tenant.delete()[1].items()))
    say(User.objects.get(username="clerk").delete()[0] > 0, Order.objects.filter(tenant=5, id=1).values_list("clerk_id", flat=True)[0])
    say(Order.objects.count(), Line.objects.count(), Customer.objects.count())




def compare(oracle):
    """Runs the same on one PostgreSQL."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DRIVER_")}
    command = [sys.executable, __file__, oracle]
    answer = subprocess.run(command, env={**environment, "DRIVER_SAY": "1"}, check=True, capture_output=True, text=True)
    expected = [line for line in answer.stdout.splitlines() if line.startswith("| ")]
    found = [f"| {line}" for line in said]
    if expected != found:
        sys.exit("\n".join(difflib.unified_diff(expected, found, "one PostgreSQL", "here", lineterm="")))


def main():
    checks = [migrations, fill, in_a_tenant, over_tenants, writes, contrib, deletions]
    for check in checks:
        print(check.__name__, flush=True)
        check()
    empty()
    if os.environ.get("DRIVER_SAY"):
        print("\n".join(f"| {line}" for line in said))
    oracle = os.environ.get("DRIVER_ORACLE")
    if oracle:
        compare(oracle)
    beside = ", the same as on one PostgreSQL" if oracle else ""
    print(f"Django {django.get_version()}, {len(checks)} checks, {len(said)} answers{beside}")


main()
