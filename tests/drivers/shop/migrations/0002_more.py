"""Changes of tables that are sharded by now: foreign keys within a tenant, columns, indexes, checks, rows."""

from django.db import migrations, models


def reference(table, column, to):
    return migrations.RunSQL(
        f"ALTER TABLE shop_{table} ADD FOREIGN KEY (tenant_id, {column}) REFERENCES shop_{to} (tenant_id, id) DEFERRABLE INITIALLY DEFERRED"
    )


def fill(apps, schema_editor):
    apps.get_model("shop", "Tenant").objects.create(name="made by a migration")


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("customer", "phone", models.CharField(max_length=20, default="")),
        migrations.AlterField("product", "title", models.CharField(max_length=100, db_index=True)),
        migrations.AddIndex("line", models.Index(fields=["tenant", "product_id"], name="line_product")),
        migrations.AddConstraint("line", models.CheckConstraint(condition=models.Q(quantity__gt=0), name="line_positive")),
        reference("order", "customer_id", "customer"),
        reference("line", "order_id", "order"),
        reference("line", "product_id", "product"),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RemoveField("customer", "phone"),
    ]
