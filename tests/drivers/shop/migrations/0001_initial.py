"""The tables, before anything is sharded."""

import django.db.models.deletion as deletion
from django.conf import settings
from django.db import migrations, models


def owned(name, *fields, **options):
    return migrations.CreateModel(
        name,
        [
            ("pk", models.CompositePrimaryKey("tenant_id", "id")),
            ("tenant", models.ForeignKey("shop.Tenant", deletion.CASCADE)),
            ("id", models.BigIntegerField()),
            *fields,
        ],
        options,
    )


def half(to, column, on_delete, name):
    to_fields = {"from_fields": ["tenant_id", column], "to_fields": ["tenant_id", "id"]}
    return models.ForeignObject(to, on_delete, related_name=name, **to_fields)


class Migration(migrations.Migration):
    initial = True
    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]
    operations = [
        migrations.CreateModel(
            "Tenant",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=60, unique=True)),
                ("plan", models.CharField(max_length=10, default="free")),
            ],
        ),
        owned(
            "Customer",
            ("email", models.EmailField()),
            ("joined", models.DateField()),
            ("doc", models.JSONField(default=dict)),
            constraints=[models.UniqueConstraint(fields=["tenant", "email"], name="customer_email")],
        ),
        owned(
            "Product",
            ("title", models.CharField(max_length=80, db_index=True)),
            ("price", models.DecimalField(max_digits=10, decimal_places=2)),
        ),
        owned(
            "Order",
            ("customer_id", models.BigIntegerField()),
            ("customer", half("shop.Customer", "customer_id", deletion.CASCADE, "orders")),
            ("placed", models.DateTimeField()),
            ("state", models.CharField(max_length=10)),
            ("clerk", models.ForeignKey(settings.AUTH_USER_MODEL, deletion.SET_NULL, null=True)),
            indexes=[models.Index(fields=["tenant", "placed"], name="order_placed")],
        ),
        owned(
            "Line",
            ("order_id", models.BigIntegerField()),
            ("order", half("shop.Order", "order_id", deletion.CASCADE, "lines")),
            ("product_id", models.BigIntegerField()),
            ("product", half("shop.Product", "product_id", deletion.CASCADE, "lines")),
            ("quantity", models.IntegerField()),
            ("price", models.DecimalField(max_digits=10, decimal_places=2)),
        ),
    ]
