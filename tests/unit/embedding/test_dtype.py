"""Which precision the model runs in on which processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocks.embedder import Embedder
from tasks.embedding.dtype import cpu_flags, resolve_dtype

X86 = "processor\t: 0\nmodel name\t: A processor : with colons\nflags\t\t: fpu vme sse2 {}\nbugs\t\t: spectre_v1\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd {}\nCPU implementer\t: 0x41\n"


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (X86.format("avx512_bf16"), {"fpu", "vme", "sse2", "avx512_bf16"}),
        (ARM.format("bf16"), {"fp", "asimd", "bf16"}),
        (X86.format("") + "\n" + X86.format("amx_bf16"), {"fpu", "vme", "sse2", "amx_bf16"}),
        ("", set()),
    ],
)
def test_the_flags_of_a_processor(cpuinfo: Path, text: str, flags: set[str]) -> None:
    cpuinfo.write_text(text)
    assert cpu_flags(cpuinfo) == flags


def test_a_system_that_lists_no_flags_has_none(cpuinfo: Path) -> None:
    assert cpu_flags(cpuinfo) == set()


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        (X86.format("avx512_bf16"), "bfloat16"),
        (X86.format("amx_bf16 amx_tile"), "bfloat16"),
        (ARM.format("bf16"), "bfloat16"),
        (X86.format("avx2 avx512f"), "float32"),
        (ARM.format("svebf16x"), "float32"),
        ("", "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: Path, text: str, dtype: str
) -> None:
    cpuinfo.write_text(text)
    monkeypatch.setattr(cpu_flags, "__defaults__", (cpuinfo,))
    assert resolve_dtype(Embedder(device="cpu")) == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_named_precision_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, cpuinfo: Path, dtype: Any) -> None:
    monkeypatch.setattr(cpu_flags, "__defaults__", (cpuinfo,))
    assert resolve_dtype(Embedder(dtype=dtype, device="cpu")) == dtype
