"""A shop of many tenants: every row but the tenants' own belongs to one of them."""

from django.contrib.auth.models import User
from django.db import models


class Tenant(models.Model):
    name = models.CharField(max_length=60, unique=True)
    plan = models.CharField(max_length=10, default="free")


class Owned(models.Model):
    """Rows of one tenant: the shard key is the first half of their primary key."""

    pk = models.CompositePrimaryKey("tenant_id", "id")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    id = models.BigIntegerField()

    class Meta:
        abstract = True


class Customer(Owned):
    email = models.EmailField()
    joined = models.DateField()
    doc = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "email"], name="customer_email")]


class Product(Owned):
    title = models.CharField(max_length=80, db_index=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)


class Order(Owned):
    customer_id = models.BigIntegerField()
    customer = models.ForeignObject(
        Customer, models.CASCADE, from_fields=["tenant_id", "customer_id"], to_fields=["tenant_id", "id"], related_name="orders"
    )
    placed = models.DateTimeField()
    state = models.CharField(max_length=10)
    clerk = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, db_constraint=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "placed"], name="order_placed")]


class Line(Owned):
    order_id = models.BigIntegerField()
    order = models.ForeignObject(
        Order, models.CASCADE, from_fields=["tenant_id", "order_id"], to_fields=["tenant_id", "id"], related_name="lines"
    )
    product_id = models.BigIntegerField()
    product = models.ForeignObject(
        Product, models.CASCADE, from_fields=["tenant_id", "product_id"], to_fields=["tenant_id", "id"], related_name="lines"
    )
    quantity = models.IntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)
