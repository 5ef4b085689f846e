"""Kernels whose every bit is settled by their inputs, the inputs themselves, and digests. Used by sdc.py and gemm.py.

Inputs come from SHAKE-128 on the CPU, as multiples of 1/128, which float16, bfloat16, TF32 and float32 all hold
exactly: they are the same on every machine, whatever its processor or PyTorch. They are made on the CPU and copied, so
that making them is not under test; what was copied is read back and compared.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Kernel: TypeAlias = Callable[..., Any]
"""(torch, *inputs) -> tensor."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One kernel with its inputs."""

    name: str
    dtype: str
    kernel: Kernel
    attention: bool = False

    def shape(self, size: int) -> tuple[int, ...]:
        """Of each input for a problem of this size: a square, or (batch, heads, tokens, width) with `size` tokens."""
        return (1, 4, size, 64) if self.attention else (size, size)

    def text(self, size: int) -> str:
        """The shape as a golden records it."""
        return "x".join(map(str, self.shape(size)))


def pattern(torch: Any, shape: tuple[int, ...], seed: str, dtype: str) -> Any:
    """A CPU tensor of multiples of 1/128 in [-1, 1): the same for the same seed and shape, everywhere."""
    count = 1
    for length in shape:
        count *= length
    raw = bytearray(hashlib.shake_128(f"ostler:{seed}".encode()).digest(count))
    whole = torch.frombuffer(raw, dtype=torch.int8).reshape(shape)
    return whole.to(torch.float32).div_(128).to(type_of(torch, dtype))


def type_of(torch: Any, dtype: str) -> Any:
    """PyTorch's type for our word."""
    return {
        "fp8": torch.float8_e4m3fn,
        "fp16": torch.float16,
        "bf16": torch.bfloat16,
        "tf32": torch.float32,
        "fp32": torch.float32,
    }[dtype]


def digest(tensor: Any) -> str:
    """SHA-256 of a CPU tensor's bytes."""
    flat = tensor.contiguous()
    return hashlib.sha256(ctypes.string_at(flat.data_ptr(), flat.nbytes)).hexdigest()


def gemm(torch: Any, a: Any, b: Any) -> Any:
    """a × b in their own type; float32 stays float32."""
    return torch.mm(a, b)


def gemm_tf32(torch: Any, a: Any, b: Any) -> Any:
    """a × b of float32 with TF32 allowed."""
    if not a.is_cuda:
        raise RuntimeError("unsupported: no TF32 outside a GPU")
    settings = torch.backends.cuda.matmul
    # PyTorch 2.9 gave the setting a new name, and complains when the two are mixed.
    name, wanted = ("fp32_precision", "tf32") if hasattr(settings, "fp32_precision") else ("allow_tf32", True)
    before = getattr(settings, name)
    setattr(settings, name, wanted)
    try:
        return torch.mm(a, b)
    finally:
        setattr(settings, name, before)


def gemm_fp8(torch: Any, a: Any, b: Any) -> Any:
    """a × b of float8 (e4m3) with scales of 1, accumulated in full, as bfloat16."""
    one = torch.ones((), dtype=torch.float32, device=a.device)
    # The second operand must be column-major: a transposed view of a contiguous tensor.
    return torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=False)


def attention(torch: Any, query: Any, key: Any, value: Any) -> Any:
    """Softmax attention written out: two batched products, one exponential, one sum."""
    scores = torch.matmul(query, key.transpose(-1, -2)) * 0.125
    return torch.matmul(torch.softmax(scores, dim=-1), value)


def fused_attention(torch: Any, query: Any, key: Any, value: Any) -> Any:
    """The fused kernel that models use; its forward pass is deterministic."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("gemm-fp32", "fp32", gemm),
        Recipe("gemm-tf32", "tf32", gemm_tf32),
        Recipe("gemm-fp16", "fp16", gemm),
        Recipe("gemm-bf16", "bf16", gemm),
        Recipe("gemm-fp8", "fp8", gemm_fp8),
        Recipe("attention-fp32", "fp32", attention, attention=True),
        Recipe("attention-bf16", "bf16", attention, attention=True),
        Recipe("fused-attention-bf16", "bf16", fused_attention, attention=True),
    )
}


@contextlib.contextmanager
def deterministic(torch: Any) -> Iterator[None]:
    """PyTorch refuses or avoids every algorithm that could answer differently twice; as before afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with full_sums(torch):
            yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def full_sums(torch: Any) -> Iterator[None]:
    """Partial sums of 16-bit products are added as float32, however the product was split; as before afterwards."""
    settings = torch.backends.cuda.matmul
    names = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = {name: getattr(settings, name) for name in names}
    for name in names:
        setattr(settings, name, False)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)
