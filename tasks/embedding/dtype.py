"""Choose the dtype that the embedding model runs in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks.embedder import Embedder

NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""The flags in /proc/cpuinfo of processors with native bfloat16 (x86: AVX-512 or AMX, Arm: BF16)."""


def resolve_dtype(embedder: Embedder) -> str:
    """Return 'float32', 'bfloat16' or 'float16'.

    ``auto`` takes bfloat16 where the processor or the GPU has it natively, else float32. The result is part of the
    fingerprint. So workers of one pipeline should resolve ``auto`` alike, or set a dtype.
    """
    if embedder.dtype != "auto":
        return embedder.dtype
    return "bfloat16" if _computes_in_bfloat16(embedder.device) else "float32"


def _computes_in_bfloat16(device: str | None) -> bool:
    if device in (None, "cpu") and not _has_accelerator(device):
        return bool(cpu_flags() & NATIVE_BFLOAT16)
    import torch

    if device == "mps" or not torch.cuda.is_available():
        return False
    return bool(torch.cuda.is_bf16_supported())


def _has_accelerator(device: str | None) -> bool:
    """Return whether the library would choose a device other than the CPU. Does not load torch."""
    return device is None and (sys.platform == "darwin" or Path("/dev/nvidiactl").exists())


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Return the processor's feature flags, or an empty set where the system does not list them."""
    if not cpuinfo.exists():
        return set()
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    return {flag for name, _, flags in lines if name.strip() in ("flags", "Features") for flag in flags.split()}
