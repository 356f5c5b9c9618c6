"""Neighbouring numbers as one value in a register, for kernels that do much with each of them.

LLVM turns a loop over a row into SIMD instructions, and keeps every result of the loop in memory.
Where a sum runs over one axis while SIMD runs along another, that costs more than the arithmetic.
So these values are vectors to LLVM from the start: a name for each of them is a register, and a
product and a sum of them become one instruction, as in `kernel`.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel
from numba.extending import intrinsic, overload, register_model
from numpy.polynomial import Chebyshev, Polynomial

BYTES = 32  # in one value: a register of AVX2, two of NEON
CONTRACT = ("contract",)
# Terms of the series of (2^r - 1) / r, of which the rest is below a tenth of a unit in the last
# place of 2^r.
TERMS = {types.float32: 6, types.float64: 11}
INFO: dict[Any, Any] = {types.float32: np.finfo(np.float32), types.float64: np.finfo(np.float64)}


def width(like):  # type: ignore[no-untyped-def]
    """How many numbers of an array's type one value holds; a constant to the compiler."""
    return BYTES // like.itemsize


@overload(width)
def _width(like):  # type: ignore[no-untyped-def]
    numbers = BYTES * 8 // like.dtype.bitwidth
    return lambda like: numbers  # noqa: ARG005


class Lanes(types.Type):
    """Numba's type of such a value: BYTES of numbers of the type `real`, float32 or float64."""

    def __init__(self, real: Any) -> None:
        self.real = real
        super().__init__(name=f"Lanes({real})")


@register_model(Lanes)
class _Model(PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _vector(lanes.real))


def _vector(real: Any) -> ir.VectorType:
    number = ir.FloatType() if real is types.float32 else ir.DoubleType()
    return ir.VectorType(number, BYTES * 8 // real.bitwidth)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """The address of array[at], of a contiguous row."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _vector(kind.dtype).as_pointer())


def _load(typing, row, at):  # type: ignore[no-untyped-def]  # noqa: ARG001
    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = signature.args[0]
        place = _place(context, builder, kind, *arguments)
        return builder.load(place, align=kind.dtype.bitwidth // 8)

    return Lanes(row.dtype)(row, types.intp), build


def _store(typing, row, at, lanes):  # type: ignore[no-untyped-def]  # noqa: ARG001
    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = signature.args[0]
        array, index, value = arguments
        place = _place(context, builder, kind, array, index)
        builder.store(value, place, align=kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(row, types.intp, lanes), build


def _spread(typing, x):  # type: ignore[no-untyped-def]  # noqa: ARG001
    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        vector = _vector(signature.args[0])
        first = builder.insert_element(
            ir.Constant(vector, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    return Lanes(x)(x), build


def _total(typing, lanes):  # type: ignore[no-untyped-def]  # noqa: ARG001
    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        (value,) = arguments
        size = value.type.count
        while size > 1:
            size //= 2
            low, high = (_part(builder, value, start, size) for start in (0, size))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return lanes.real(lanes), build


def _part(builder: Any, value: Any, start: int, size: int) -> Any:
    """Entries start to start + size - 1."""
    places = ir.Constant(ir.VectorType(ir.IntType(32), size), list(range(start, start + size)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), places)


def _power(typing, lanes):  # type: ignore[no-untyped-def]  # noqa: ARG001
    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        return _power_of_two(builder, arguments[0], signature.args[0].real)

    return lanes(lanes), build


def _power_of_two(builder: Any, x: Any, real: Any) -> Any:
    """2^x = 2^k 2^r with k whole and |r| <= 1/2.

    Adding `shift` leaves k in the last bits, from where it is added to the exponent of 2^r.
    """
    info, vector = INFO[real], x.type
    whole = ir.VectorType(ir.IntType(real.bitwidth), vector.count)

    def all_of(value: float) -> Any:
        return ir.Constant(vector, [float(info.dtype.type(value))] * vector.count)

    # Written so that a NaN stays one, and each is one instruction.
    least, most = all_of(info.minexp + 1), all_of(np.nextafter(info.dtype.type(info.maxexp), 0))
    x = builder.select(builder.fcmp_ordered("<", x, least), least, x)
    x = builder.select(builder.fcmp_ordered(">", x, most), most, x)
    shift = all_of(1.5 * 2.0**info.nmant)
    shifted = builder.fadd(x, shift)
    r = builder.fsub(x, builder.fsub(shifted, shift))

    def sum_of(x: Any, power: Any, y: Any) -> Any:
        return builder.fadd(builder.fmul(y, power, flags=CONTRACT), x, flags=CONTRACT)

    # By Estrin's scheme: each sum waits for few others.
    terms, power = [all_of(coefficient) for coefficient in _series(real)], r
    while len(terms) > 1:
        pairs = zip(terms[::2], [*terms[1::2], None], strict=False)
        terms = [x if y is None else sum_of(x, power, y) for x, y in pairs]
        power = builder.fmul(power, power)
    y = sum_of(all_of(1.0), r, terms[0])
    digits = ir.Constant(whole, [info.nmant] * vector.count)
    exponent = builder.shl(builder.bitcast(shifted, whole), digits)
    return builder.bitcast(builder.add(builder.bitcast(y, whole), exponent), vector)


def _series(real: Any) -> list[float]:
    """Coefficients of a polynomial near (2^r - 1) / r for |r| <= 1/2, those of low powers first.

    Taylor's series, written as a sum of Chebyshev polynomials and cut there.
    """
    rate = math.log(2)
    taylor = Polynomial([rate ** (k + 1) / math.factorial(k + 1) for k in range(24)])
    short = taylor.convert(kind=Chebyshev, domain=[-0.5, 0.5]).truncate(TERMS[real])
    return [float(c) for c in short.convert(kind=Polynomial).coef]


# load(row, at) and store(row, at, lanes): the numbers of a contiguous row from place `at` on.
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
# spread(x): the number x in every place.
spread: Any = intrinsic(_spread)
# total(lanes): their sum.
total: Any = intrinsic(_total)
# power(lanes): 2^x for each of them; largest error found on 1,800,000 draws, in units of the last
# place: 1.3. NaN stays NaN. It is never below twice the smallest normal number, nor infinite.
power: Any = intrinsic(_power)


def _elementwise(name: str) -> Any:
    def typed(typing, x, y):  # type: ignore[no-untyped-def]  # noqa: ARG001
        def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
            return getattr(builder, name)(*arguments, flags=CONTRACT)

        return x(x, y), build

    return intrinsic(typed)


def _let(operation: Callable[..., Any], name: str) -> None:
    """Let kernels write the operation between two such values."""
    compiled = _elementwise(name)

    def choose(x, y):  # type: ignore[no-untyped-def]
        if isinstance(x, Lanes) and x == y:
            return lambda x, y: compiled(x, y)
        return None

    overload(operation)(choose)


_let(operator.add, "fadd")
_let(operator.sub, "fsub")
_let(operator.mul, "fmul")
