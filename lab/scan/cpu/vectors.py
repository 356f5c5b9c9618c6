"""Vectors of eight numbers, as a type that kernels can compute with.

LLVM vectorises a loop only if it can prove, or check at run time, that arrays do not overlap, and
it stores every partial sum. For rows of sixteen numbers the check takes longer than the work. A
vector is a value like a number: it stays in a register until the kernel stores it. Places in arrays
are counted in numbers from the first one, and are not checked.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 8  # numbers in a vector: 256 bits of float32, twice that of float64

_INDEX = ir.IntType(32)
# A product and a sum may become one instruction, and sums over a vector may be taken in any order.
_FAST = ("contract", "reassoc")


def _instruction(build: Callable[..., Any]) -> Any:
    return intrinsic(build)


class Vector(types.Type):
    """`WIDTH` numbers of one type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        number = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, WIDTH))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


def _vector_at(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, WIDTH).as_pointer())


def _aligned(context: Any, kind: Any) -> int:
    return int(context.get_abi_sizeof(context.get_data_type(kind.dtype)))


def _spread(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(ir.VectorType(number.type, WIDTH), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_INDEX, 0))
    zeros = ir.Constant(ir.VectorType(_INDEX, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, nothing, zeros)


@_instruction
def load(typing, array, place):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The numbers of a contiguous array from `place` on."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = signature.args[0]
        pointer = _pointer(context, builder, kind, *arguments)
        return builder.load(_vector_at(builder, pointer), align=_aligned(context, kind))

    return Vector(array.dtype)(array, types.intp), build


@_instruction
def spread(typing, array, place):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The number at `place`, eight times."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        return _spread(builder, builder.load(pointer))

    return Vector(array.dtype)(array, types.intp), build


@_instruction
def store(typing, array, place, vector):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Write a vector into an array from `place` on."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, place, vector = arguments
        kind = signature.args[0]
        pointer = _pointer(context, builder, kind, array, place)
        builder.store(vector, _vector_at(builder, pointer), align=_aligned(context, kind))
        return context.get_dummy_value()

    return types.void(array, types.intp, Vector(array.dtype)), build


@_instruction
def once(typing):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Marks the function that calls it: it is compiled once, and not copied to where it is called.

    Kernels of many parts would otherwise take minutes to compile.
    """

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), build


@_instruction
def number(typing, array, place):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The number at `place`."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load(_pointer(context, builder, signature.args[0], *arguments))

    return array.dtype(array, types.intp), build


@_instruction
def put(typing, array, place, value):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Write a number to `place`."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, place, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], array, place))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), build


@_instruction
def zeros(typing, array):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """A vector of zeros, of the type of an array."""
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array), build


@_instruction
def converted(typing, vector, array):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The vector, rounded or widened to the type of an array."""
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wanted, given = kind.dtype.bitwidth, signature.args[0].dtype.bitwidth
        if wanted == given:
            return arguments[0]
        convert = builder.fpext if wanted > given else builder.fptrunc
        return convert(arguments[0], context.get_value_type(kind))

    return kind(vector, array), build


@_instruction
def total(typing, vector):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The sum of its numbers."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        (x,) = arguments
        number = context.get_value_type(signature.return_type)
        name = f"llvm.vector.reduce.fadd.v{WIDTH}f{signature.return_type.bitwidth}"
        kind = ir.FunctionType(number, [number, x.type])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [ir.Constant(number, 0), x], fastmath=_FAST)

    return vector.dtype(vector), build


@_instruction
def turn(typing, out, out_place, out_down, x, x_place, x_down):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Write the transpose of a square of eight rows, each `down` after the one before it."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        out, out_place, out_down, x, x_place, x_down = arguments
        whole = out_place.type
        kind = signature.args[0]
        aligned = _aligned(context, kind)

        def row(kind, array, place, down, number):  # type: ignore[no-untyped-def]
            place = builder.add(place, builder.mul(down, ir.Constant(whole, number)))
            return _vector_at(builder, _pointer(context, builder, kind, array, place))

        rows = [
            builder.load(row(signature.args[3], x, x_place, x_down, r), align=aligned)
            for r in range(WIDTH)
        ]
        # In each round rows r and r + size exchange halves of blocks of 2 * size columns.
        size = WIDTH // 2
        while size:
            for r in range(WIDTH):
                if r & size:
                    continue
                one, other = rows[r], rows[r + size]
                first = [c if not c & size else WIDTH + c - size for c in range(WIDTH)]
                second = [c + size if not c & size else WIDTH + c for c in range(WIDTH)]
                rows[r], rows[r + size] = (
                    builder.shuffle_vector(
                        one, other, ir.Constant(ir.VectorType(_INDEX, WIDTH), order)
                    )
                    for order in (first, second)
                )
            size //= 2
        for r in range(WIDTH):
            builder.store(rows[r], row(kind, out, out_place, out_down, r), align=aligned)
        return context.get_dummy_value()

    given = (out, types.intp, types.intp, x, types.intp, types.intp)
    return types.void(*given), build


@_instruction
def more(typing, x, y, z):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """x + y z."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        x, y, z = arguments
        return builder.fadd(x, builder.fmul(y, z, flags=_FAST), flags=_FAST)

    return x(x, y, z), build


def _arithmetic(method: str) -> Any:
    def of_vectors(typing, x, y):  # type: ignore[no-untyped-def]  # noqa: ARG001
        def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
            return getattr(builder, method)(*arguments, flags=_FAST)

        return x(x, y), build

    return _instruction(of_vectors)


def _lower(function: Callable[..., Any], compute: Any) -> None:
    @overload(function)
    def choose(x, y):  # type: ignore[no-untyped-def]
        if isinstance(x, Vector) and x == y:
            return lambda x, y: compute(x, y)
        return None


_lower(operator.add, _arithmetic("fadd"))
_lower(operator.sub, _arithmetic("fsub"))
_lower(operator.mul, _arithmetic("fmul"))
