"""Whose an object is, and what a question of a tenant is asked with."""

from __future__ import annotations

import pytest

from tasks.errors import MisuseError
from tasks.tenants import EVERYTHING, Scope, tenant_of


@pytest.mark.parametrize(
    ("key", "prefix", "tenant"),
    [
        ("acme/a.md", "", "acme"),
        ("acme/b/c.md", "", "acme"),
        ("docs/acme/a.md", "docs/", "acme"),
        ("docs/acme/a.md", "docs", "acme"),
        ("a.md", "", ""),
        ("docs/a.md", "docs/", ""),
        ("/a.md", "", ""),
    ],
)
def test_the_first_part_of_a_key_is_its_tenant(key: str, prefix: str, tenant: str) -> None:
    assert tenant_of(key, prefix) == tenant


def test_a_filter_narrows_what_a_tenant_sees() -> None:
    assert EVERYTHING.condition(tenants=False) == ""
    assert Scope("page=1 or page=2").condition(tenants=False) == "((page == 1) or (page == 2))"
    assert Scope(tenant='a"b').condition(tenants=True) == 'tenant == "a\\"b"'
    assert Scope("page=1", "acme").condition(tenants=True) == '(tenant == "acme") and ((page == 1))'


def test_a_tenant_too_many_or_too_few_is_said() -> None:
    with pytest.raises(MisuseError, match="name it"):
        EVERYTHING.condition(tenants=True)
    with pytest.raises(MisuseError, match="the tenant is not valid UTF-8"):
        Scope(tenant="acme\udcff").condition(tenants=True)
    with pytest.raises(MisuseError, match="have no tenants"):
        Scope(tenant="acme").condition(tenants=False)
