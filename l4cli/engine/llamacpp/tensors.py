"""Reads tensors of llama.cpp's graph, through a mirror of the head of `struct ggml_tensor`.

ggml has no functions for most of a tensor's fields, so their places in the struct must be known.
`check_layout` compares them with tensors that the library itself has made. It is called before
anything is read.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import _ggml

from l4cli.engine.llamacpp import library
from l4cli.errors import EngineError, ModelLoadError

_MOST_OPS = 256  # enum ggml_op has fewer
_TYPES = {"f32": "f4", "f16": "f2", "i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8", "f64": "f8"}


class _Struct(ctypes.Structure):
    """The head of `struct ggml_tensor` (ggml.h)."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


_OP, _NAME = _Struct.op.offset, _Struct.name.offset


def op_number(address: int) -> int:
    """Return the number of the operation that makes the tensor at this address."""
    return ctypes.c_int.from_address(address + _OP).value


def name_of(address: int) -> bytes:
    """Return the name of the tensor at this address."""
    return ctypes.string_at(address + _NAME)


@functools.cache
def op_name(number: int) -> str:
    """Return ggml's name of an operation, such as MUL_MAT. The number must be one of a tensor's."""
    name: bytes = _function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)(number)
    return name.decode()


class Tensor:
    """A tensor in a graph of llama.cpp's, while the graph is computed; it must not be kept.

    shape: numbers of elements in all four dimensions, in numpy's order: the last one is ggml's
        first (`ne[0]`). strides: bytes, in the same order.
    """

    __slots__ = ("_at", "address")

    def __init__(self, address: int) -> None:
        self.address = address
        self._at = _Struct.from_address(address)

    @property
    def name(self) -> str:
        """Its name, such as `ffn_moe_topk-3`; that of a weight is its name in the GGUF."""
        return str(self._at.name.decode(errors="replace"))

    @property
    def op(self) -> str:
        """The operation that makes it, such as MUL_MAT; NONE for weights and inputs."""
        return op_name(self._at.op)

    @property
    def type(self) -> str:
        """The type of its elements in ggml's words: f32, q8_0."""
        name: bytes = _type_name()(self._at.type)
        return name.decode()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(reversed(self._at.ne))

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(reversed(self._at.nb))

    def source(self, index: int) -> Tensor | None:
        """Return an operand: `src[index]`; None if there is none."""
        address = self._at.src[index]
        return Tensor(address) if address else None

    def numbers(self) -> npt.NDArray[Any]:
        """Return its numbers with its shape, from wherever they lie.

        They are ggml's own memory if that is the computer's, otherwise a copy: valid until the
        computation goes on, and not to be written to. The tensor must be computed. EngineError for
        quantized numbers.
        """
        dtype = _TYPES.get(self.type)
        if dtype is None:
            raise EngineError(f"tensor {self.name} holds {self.type}: its numbers cannot be read")
        shape, strides = self.shape, self.strides
        if 0 in shape:
            return np.zeros(shape, dtype)
        size = int(_n_bytes()(self.address))
        if self._is_here():
            raw = (ctypes.c_uint8 * size).from_address(self._at.data)
        else:
            raw = (ctypes.c_uint8 * size)()
            _copy()(self.address, raw, 0, size)
        view: npt.NDArray[Any] = np.ndarray(shape, dtype, memoryview(raw), strides=strides)
        view.flags.writeable = False
        return view

    def _is_here(self) -> bool:
        owner = Tensor(self._at.view_src) if self._at.view_src else self
        buffer = owner._at.buffer or self._at.buffer
        return bool(self._at.data) and (not buffer or bool(_is_host()(buffer)))


@functools.cache
def check_layout() -> None:
    """Check the mirror with tensors that the library makes. Nothing is done the second time.

    Raises ModelLoadError if the struct differs in this build, or functions are missing.
    """
    library.start()
    try:
        wrong = _first_difference()
    except AttributeError as error:  # a function that this library does not have
        wrong = str(error)
    if wrong:
        raise ModelLoadError(
            f"this build of llama.cpp keeps tensors in another form than l4 knows ({wrong}), so "
            "l4 cannot look into its computations: `l4 doctor` tells which version l4 was tested "
            "with"
        )


class _InitParams(ctypes.Structure):
    """`struct ggml_init_params`."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def _first_difference() -> str | None:
    """Return what is not where it should be; None if everything is."""
    init = _function("ggml_init", _pointer, _InitParams)
    free = _function("ggml_free", None, _pointer)
    new = _function("ggml_new_tensor_2d", _pointer, _pointer, ctypes.c_int, *(ctypes.c_int64,) * 2)
    overhead = _function("ggml_tensor_overhead", ctypes.c_size_t)()
    if not ctypes.sizeof(_Struct) <= overhead < 4096:
        return f"{overhead} bytes a tensor"
    view = _function(
        "ggml_view_2d", _pointer, _pointer, _pointer, *(ctypes.c_int64,) * 2,
        *(ctypes.c_size_t,) * 2,
    )  # fmt: skip
    multiply = _function("ggml_mul_mat", _pointer, *(_pointer,) * 3)
    set_name = _function("ggml_set_name", _pointer, _pointer, ctypes.c_char_p)
    allocate = _function("ggml_backend_alloc_ctx_tensors_from_buft", _pointer, _pointer, _pointer)
    cpu = _function("ggml_backend_cpu_buffer_type", _pointer)
    free_buffer = _function("ggml_backend_buffer_free", None, _pointer)
    # Twice as much as the tensors take, so that reading at a wrong place stays within it.
    context = init(_InitParams(16 * overhead, None, True))
    if not context:
        return "no context could be made"
    buffer = None
    try:
        left, right = new(context, 0, 6, 3), new(context, 0, 6, 5)  # 0 is F32
        product = multiply(context, left, right)
        part = view(context, left, 2, 2, 24, 8)
        for address, name in ((left, b"l4 left"), (right, b"l4 right"), (part, b"l4 part")):
            set_name(address, name)
        set_name(product, b"l4 product, a name that is quite long")
        buffer = allocate(context, cpu())
        made = _Made(left, right, product, part, buffer)
        return made.first_difference()
    finally:
        if buffer:
            free_buffer(buffer)
        free(context)


@dataclass(frozen=True, slots=True)
class _Made:
    """Tensors that ggml made: two matrices, their product, a part of the first; their buffer."""

    left: int
    right: int
    product: int
    part: int
    buffer: int

    def first_difference(self) -> str | None:
        """Return the first field that is not where the mirror has it; None if all are."""
        data = _function("ggml_get_data", _pointer, _pointer)
        name = _function("ggml_get_name", ctypes.c_char_p, _pointer)
        elements = _function("ggml_nelements", ctypes.c_int64, _pointer)
        described = _function("ggml_op_desc", ctypes.c_char_p, _pointer)
        left, product, part = (
            _Struct.from_address(address) for address in (self.left, self.product, self.part)
        )
        facts = (
            ("type", _type_name()(0) == b"f32" and [left.type, product.type] == [0, 0]),
            ("ne", list(left.ne) == [6, 3, 1, 1] and list(part.ne) == [2, 2, 1, 1]),
            ("ne", list(product.ne) == [3, 5, 1, 1] and elements(self.product) == 15),
            ("nb", list(left.nb) == [4, 24, 72, 72] and list(part.nb)[:2] == [4, 24]),
            ("nbytes", _n_bytes()(self.right) == 120 and _n_bytes()(self.part) == 32),
            ("op", left.op == 0 and 0 < product.op < _MOST_OPS and product.op != part.op),
            ("op", described(self.product) == b"MUL_MAT" and described(self.part) == b"VIEW"),
            ("src", list(product.src)[:3] == [self.left, self.right, None]),
            ("view_src", part.view_src == self.left and left.view_src is None),
            ("view_offs", part.view_offs == 8),
            ("name", name(self.product) == product.name and product.name.startswith(b"l4 prod")),
            ("name", left.name == b"l4 left" and part.name == b"l4 part"),
            ("buffer", bool(self.buffer) and left.buffer == product.buffer == self.buffer),
            ("data", data(self.left) == left.data and data(self.product) == product.data),
            ("data", bool(left.data) and part.data == left.data + 8),
        )
        return next((f"field {field}" for field, is_right in facts if not is_right), None)


_pointer = ctypes.c_void_p


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml with its types; AttributeError if the library has none of this name."""
    return ctypes.CFUNCTYPE(result, *arguments)((name, _ggml.libggml))


@functools.cache
def _type_name() -> Callable[..., Any]:
    return _function("ggml_type_name", ctypes.c_char_p, ctypes.c_int)


@functools.cache
def _n_bytes() -> Callable[..., Any]:
    return _function("ggml_nbytes", ctypes.c_size_t, _pointer)


@functools.cache
def _is_host() -> Callable[..., Any]:
    return _function("ggml_backend_buffer_is_host", ctypes.c_bool, _pointer)


@functools.cache
def _copy() -> Callable[..., Any]:
    return _function(
        "ggml_backend_tensor_get", None, _pointer, _pointer, ctypes.c_size_t, ctypes.c_size_t
    )
