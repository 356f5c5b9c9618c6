"""How a kernel is started: compiled code that calls it on all threads, with no Python in between.

Python runs the handlers of signals between any two of its instructions in the main thread. In a
callback from C the exception of such a handler (KeyboardInterrupt, for instance) has nowhere to go:
it would be lost, and with it the work that the callback was about to do. So there is no callback:
each thread of the team enters compiled code, and counts what it has finished. For the same reason
handlers wait while numba compiles, which calls back into Python and runs destructors.
"""

from functools import cache
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lab.scan.cpu.cache import KernelCache, private_folder
from lab.scan.interrupts import handlers_wait

WORD, COUNT, POINTER = ir.IntType(64), ir.IntType(32), cgutils.voidptr_t
NOTHING = ir.VoidType()
_PACKAGE = f"{__package__}."


@cache
def launcher(kernel: Any) -> Any:
    """launch(parallel, rank, size, threads, first, last, *arguments), which runs a kernel.

    It calls kernel(low, high, *arguments) for parts that together cover range(first, last), and
    returns how many of these items were finished. `parallel`, `rank` and `size` are the addresses
    of the functions of an OpenMP library that start a team of so many threads, and that tell each
    thread its number and how many there are. With one thread, they do not matter.
    """

    def enter(parallel, rank, size, threads, first, last, *arguments):  # type: ignore[no-untyped-def]
        if threads < 2:
            return _alone(kernel, first, last, arguments)
        return _on_team(kernel, parallel, rank, size, threads, first, last, arguments)

    launch: Any = numba.njit(nogil=True)(enter)
    # The folder is named after the sources of this package: of other kernels it would not see that
    # they have changed, nor that they hold addresses of one process.
    if kernel.py_func.__module__.startswith(_PACKAGE) and (folder := _folder()) is not None:
        launch._cache = KernelCache(folder, kernel.py_func)
    compile_it = launch._compile_for_args

    def compile_undisturbed(*arguments: Any) -> Any:
        with handlers_wait():
            return compile_it(*arguments)

    launch._compile_for_args = compile_undisturbed
    return launch


_folder = cache(private_folder)


def _typed_alone(typing, kernel, first, last, arguments):  # type: ignore[no-untyped-def]
    call = kernel.get_call_type(typing, (types.intp, types.intp, *arguments), {})

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]  # noqa: ARG001
        compiled = kernel.dispatcher.overloads[call.args]
        context.add_linking_libs([compiled.library])
        _, first, last, arguments = values
        unpacked = cgutils.unpack_tuple(builder, arguments)
        context.call_internal(builder, compiled.fndesc, call, [first, last, *unpacked])
        _keep_apart(builder.function, compiled.fndesc)
        return builder.sub(last, first)

    return types.intp(kernel, first, last, arguments), build


def _keep_apart(caller: ir.Function, kernel: Any) -> None:
    """Let LLVM not put copies of the kernel into what calls it, each to be compiled once more."""
    for block in caller.blocks:
        for instruction in block.instructions:
            if (
                isinstance(instruction, ir.CallInstr)
                and instruction.callee.name == kernel.llvm_func_name
            ):
                instruction.attributes.add("noinline")


_alone: Any = intrinsic(_typed_alone)


def _typed_on_team(typing, kernel, parallel, rank, size, threads, first, last, arguments):  # type: ignore[no-untyped-def]
    call = kernel.get_call_type(typing, (types.intp, types.intp, *arguments), {})

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]  # noqa: ARG001
        compiled = kernel.dispatcher.overloads[call.args]
        context.add_linking_libs([compiled.library])
        _, parallel, rank, size, threads, first, last, arguments = values
        finished = cgutils.alloca_once_value(builder, WORD(0))
        shared = cgutils.pack_struct(builder, [rank, size, first, last, finished, arguments])
        place = cgutils.alloca_once_value(builder, shared)
        share = _share(context, builder.function, shared.type, compiled.fndesc, call)
        start = ir.FunctionType(NOTHING, [share.type, POINTER, COUNT, COUNT]).as_pointer()
        size_asked = builder.trunc(threads, COUNT)
        builder.call(
            builder.inttoptr(parallel, start),
            [share, builder.bitcast(place, POINTER), size_asked, COUNT(0)],
        )
        return builder.load(finished)

    signature = types.intp(kernel, parallel, rank, size, threads, first, last, arguments)
    return signature, build


_on_team: Any = intrinsic(_typed_on_team)


def _share(context: Any, launch: ir.Function, kind: ir.Type, kernel: Any, call: Any) -> ir.Function:
    """The function that each thread of the team runs, given where the shared values are.

    An error in the kernel, such as memory that ran out, leaves its items uncounted.
    """
    function = ir.Function(
        launch.module, ir.FunctionType(NOTHING, [POINTER]), f"{launch.name}.share"
    )
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    shared = builder.load(builder.bitcast(function.args[0], kind.as_pointer()))
    rank, size, first, last, finished, arguments = cgutils.unpack_tuple(builder, shared)
    ask = ir.FunctionType(COUNT, []).as_pointer()
    # The team may be smaller than asked for, inside another parallel region for instance.
    rank, size = (
        builder.sext(builder.call(builder.inttoptr(address, ask), []), WORD)
        for address in (rank, size)
    )
    items = builder.sub(last, first)
    low, high = (
        builder.add(first, builder.sdiv(builder.mul(items, part), size))
        for part in (rank, builder.add(rank, WORD(1)))
    )
    values = [low, high, *cgutils.unpack_tuple(builder, arguments)]
    status, _ = context.call_internal_no_propagate(builder, kernel, call, values)
    _keep_apart(function, kernel)
    with cgutils.if_likely(builder, status.is_ok):
        builder.atomic_rmw("add", finished, builder.sub(high, low), "monotonic")
    builder.ret_void()
    return function
