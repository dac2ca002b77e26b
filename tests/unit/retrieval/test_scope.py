"""Whose an object is, and what a question of a tenant is asked with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import MisuseError
from tasks.milvus.rows import Columns, tenant_of
from tasks.pipelines import check_prefix
from tasks.retrieval.scope import EVERYTHING, Scope


@pytest.mark.parametrize(
    ("key", "prefix", "tenant"),
    [
        ("acme/a.md", "", "acme"),
        ("acme/b/c.md", "", "acme"),
        ("docs/acme/a.md", "docs/", "acme"),
        ("/acme/a.md", "", ""),
        ("acme//a.md", "", "acme"),
        ("docs//acme/a.md", "docs/", ""),
        ("docsacme/a.md", "docs/", ""),
        ("acme", "", ""),
        ("../acme/a.md", "", ".."),
        ("ａcme/a.md", "", "ａcme"),
        ("Acme/a.md", "", "Acme"),
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
    with pytest.raises(MisuseError, match=r"Name .* with --tenant"):
        EVERYTHING.condition(tenants=True)
    with pytest.raises(MisuseError, match="the tenant is not valid UTF-8"):
        Scope(tenant="acme\udcff").condition(tenants=True)
    with pytest.raises(MisuseError, match="have no tenants"):
        Scope(tenant="acme").condition(tenants=False)


@pytest.mark.parametrize("prefix", ["docs", "docs/acme", "/docs", "docs/ ", "docs\\", "docs\uff0f"])
def test_with_tenants_a_prefix_ends_where_a_folder_does(prefix: str) -> None:
    with pytest.raises(MisuseError, match=r"must end in '/'.*Set PREFIX="):
        check_prefix(True, prefix)
    with pytest.raises(MisuseError, match="must end in '/'"):
        Columns(tenant=True, prefix=prefix)
    check_prefix(False, prefix)


@pytest.mark.parametrize("prefix", ["", "docs/", "docs/team/"])
def test_a_prefix_that_ends_in_a_slash_or_none_is_fine(prefix: str) -> None:
    check_prefix(True, prefix)


@given(st.text("ac/.ａ", max_size=12), st.sampled_from(["", "a/", "a/c/"]))
def test_a_tenant_owns_nothing_outside_its_folder(key: str, prefix: str) -> None:
    tenant = tenant_of(key, prefix)
    assert not tenant or key.startswith(f"{prefix}{tenant}/")
