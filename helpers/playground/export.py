"""One exporter for every model: a function of tensors becomes a list of operations and weights, as plain JSON.

The function is traced twice, with batches of 2 and of 3 examples. Where the two traces differ in an integer ``i``, it
is written as ``[a, b]``, meaning ``a + b·N`` with the reader's batch size ``N``: one graph serves every batch size.
What does not depend on the inputs (masks, positions, folded scales) is computed here and stored as a weight.

The graph::

    {"inputs": [{"name": "z", "shape": [[0, 1], 2]}],
     "operations": [{"op": "linear", "in": ["z", "0.weight", "0.bias"], "out": "v1"}, …],
     "outputs": ["v9"], "output_shapes": [[[0, 1], 8, 8]],
     "weights": {"list": [{"name": "0.weight", "shape": [64, 2], "type": "float16", "at": 0}, …], "data": base64}}

``runtime.js`` executes it. ``operations.py`` says how PyTorch's operations are
written with those of ``runtime.js``; one that cannot be written so raises here.
"""

from __future__ import annotations

import base64
import functools
import linecache
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.playground.operations import Handlers

SIZES = (2, 3)  # the batch sizes of the two traces: neither 0 nor 1, which broadcasting treats specially
SMALL = 4096  # a computed constant of up to so many numbers stays float32: positions and frequencies need it

UNARY = "relu silu sigmoid tanh exp log sqrt rsqrt reciprocal neg abs sin cos floor erf sign".split()
BINARY = "add sub mul div pow maximum minimum gt ge lt le eq ne".split()
RENAMED = {"logical_and": "mul", "bitwise_and": "mul"}
SAME = "alias detach clone lift_fresh_copy lift_fresh contiguous dropout".split()
DECOMPOSED = (
    "addcmul addcdiv lerp linalg_vector_norm logsumexp mse_loss hardswish hardsigmoid mish glu log_sigmoid_forward "
    "roll threshold_backward gelu_backward silu_backward sigmoid_backward tanh_backward elu_backward "
    "leaky_relu_backward softplus_backward _softmax_backward_data _log_softmax_backward_data native_layer_norm_backward"
).split()
RESHAPED = "view _unsafe_view reshape unsqueeze squeeze flatten _reshape_alias unflatten".split()

# Operations whose integer arguments only repeat what the shapes of their values say.
SHAPED = {*RESHAPED, *"expand slice select native_group_norm full ones zeros empty new_zeros new_ones new_full".split()}


def export(
    function: Callable[..., Tensor],
    *examples: Tensor,
    names: list[str] | None = None,
    dtype: str = "float16",
    batch: bool = True,
) -> dict:
    """The graph of ``function(*examples)``, ready for JSON.

    ``function``: a module (traced in evaluation mode) or any function of tensors, also a bound method or a closure
    over a trained model, that returns a tensor or a tuple of tensors; it must not branch on values nor draw random
    numbers (pass noise as an input). ``examples``: tensors of the right shape and type; with ``batch`` their first
    dimension is the batch and the graph serves any batch size, without it all shapes are fixed. ``names``: of the
    inputs, by default x0, x1, …. ``dtype``: how weights are stored, ``float16`` (2 bytes a number, answers within
    about 1e-3) or ``float32``. Raises ``ValueError`` for an operation that the runtime lacks, with its line.
    """
    if dtype not in ("float16", "float32"):
        raise ValueError(f"dtype must be 'float16' or 'float32', got {dtype!r}")
    if not examples or not all(isinstance(x, Tensor) for x in examples):
        raise ValueError(f"export needs example tensors, got {[type(x).__name__ for x in examples]}")
    names = list(names) if names else [f"x{i}" for i in range(len(examples))]
    if len(names) != len(examples):
        raise ValueError(f"{len(examples)} inputs but {len(names)} names: {names}")
    if batch and any(x.ndim == 0 or len(x) == 0 for x in examples):
        raise ValueError(
            f"with batch=True every input needs a first dimension, got {[tuple(x.shape) for x in examples]}"
        )

    owner = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    modules = list(owner.modules()) if isinstance(owner, nn.Module) else []
    training = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        lines: dict[str, str] = {}
        traces = [trace(function, x, lines) for x in sized(examples, batch)]
    finally:
        for module, flag in zip(modules, training, strict=True):
            module.training = flag
    known = {**dict(owner.named_parameters()), **dict(owner.named_buffers())} if modules else {}
    return Writer(traces, names, known, dtype, lines).graph()


def sized(examples: tuple[Tensor, ...], batch: bool) -> list[list[Tensor]]:
    """The inputs of each trace: the examples themselves, or repeated to 2 and to 3 rows."""
    if not batch:
        return [[x.detach() for x in examples]]
    return [[x.detach()[torch.arange(n, device=x.device) % len(x)] for x in examples] for n in SIZES]


class Lines(TorchDispatchMode):
    """Remembers the line of the reader's code at which each operation was first called."""

    def __init__(self, lines: dict[str, str]):
        super().__init__()
        self.lines = lines

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if (name := op_name(func)) not in self.lines:
            self.lines[name] = user_line()
        return func(*args, **(kwargs or {}))


def user_line() -> str:
    frame = sys._getframe(1)
    torch_folder = str(Path(torch.__file__).parent)
    while frame and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(torch_folder)):
        frame = frame.f_back
    if frame is None:
        return "an unknown line"
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{line}: {linecache.getline(file, line).strip()}"


def op_name(target) -> str:
    """``addmm`` of ``aten.addmm.default``; in-place operations count as the others."""
    name = target._schema.name.split("::")[-1] if hasattr(target, "_schema") else target.__name__
    return name.removesuffix("_") if not name.startswith("__") else name


@functools.cache
def decompositions() -> dict:
    """PyTorch's own rules for operations that consist of simpler ones."""
    from torch._decomp import get_decompositions

    return get_decompositions([getattr(torch.ops.aten, name) for name in DECOMPOSED])


def trace(function: Callable, inputs: list[Tensor], lines: dict[str, str]) -> tuple[list, dict]:
    """The nodes of one trace, and the value of each."""
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def watched(*args):
        with Lines(lines):
            return function(*args)

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # attention as products and a softmax
        graph = make_fx(torch.func.functionalize(watched), decomposition_table=decompositions(), tracing_mode="real")(
            *inputs
        )
        graph.graph.eliminate_dead_code()
        values = {}
        feed = iter(inputs)
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(feed)
            elif node.op == "get_attr":
                values[node] = getattr(graph, node.target)
            elif node.op == "call_function":
                args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = node.target(*args, **kwargs)
    return list(graph.graph.nodes), values


class Writer(Handlers):
    """Turns one or two traces of the same function into one graph.

    Shapes are not read from arguments but from the values of the traces, so that only shapes, never PyTorch's many
    ways to ask for them, have to be understood.
    """

    def __init__(self, traces: list, names: list[str], known: dict[str, Tensor], dtype: str, lines: dict[str, str]):
        self.columns = list(zip(*(nodes for nodes, _ in traces), strict=False))
        self.values = [values for _, values in traces]
        self.names, self.dtype, self.lines = names, dtype, lines
        self.known = {tensor.data_ptr(): name for name, tensor in known.items()}
        self.where = {}  # node of the first trace → the name of its value, where it depends on an input
        self.operations, self.weights, self.stored = [], {}, {}
        if len({len(nodes) for nodes, _ in traces}) > 1:
            raise ValueError("the function takes another path for another batch size: pass batch=False")

    # ---- the graph ----
    def graph(self) -> dict:
        inputs, outputs, shapes = [], [], []
        for nodes in self.columns:
            node = nodes[0]
            if node.op == "call_function":
                self.check_same_path(nodes)
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                line = self.lines.get(op_name(node.target), "inside another operation")
                raise ValueError(f"{node.target} draws random numbers: pass them as an input ({line})")
            if node.op == "placeholder":
                name = self.names[len(inputs)]
                inputs.append({"name": name, "shape": self.shape(node)})
                self.where[node] = name
            elif node.op == "call_function" and any(i in self.where for i in node.all_input_nodes):
                self.where[node] = self.write(node)
            elif node.op == "output":
                results = node.args[0] if isinstance(node.args[0], (tuple, list)) else [node.args[0]]
                outputs = [self.name(result) for result in results]
                shapes = [self.shape(result) for result in results]
        operations = alive(self.operations, outputs)
        used = {name for op in operations for name in op["in"]} | set(outputs)
        weights, data = [], b""
        for name, array in self.weights.items():
            if name in used:
                weights.append({"name": name, "shape": list(array.shape), "type": str(array.dtype), "at": len(data)})
                data += array.tobytes() + bytes(-array.nbytes % 4)
        return {
            "inputs": inputs,
            "operations": operations,
            "outputs": outputs,
            "output_shapes": shapes,
            "weights": {"list": weights, "data": base64.b64encode(data).decode()},
        }

    def check_same_path(self, nodes: tuple) -> None:
        """The traces may differ in shapes alone: not in an operation, its inputs or a number that it uses."""
        name, batch = op_name(nodes[0].target), "for another batch size: pass batch=False"
        if len({(n.target, *map(type, n.args), *(i.name for i in n.all_input_nodes)) for n in nodes}) > 1:
            raise ValueError(f"the function takes another path {batch} ({self.lines.get(name)})")
        if name not in SHAPED and len({str((n.args, n.kwargs)) for n in nodes}) > 1:
            raise ValueError(f"{nodes[0].target} uses another number {batch} ({self.lines.get(name)})")

    def write(self, node) -> str:
        name = op_name(node.target)
        schema = node.target._schema.arguments if hasattr(node.target, "_schema") else []
        arguments = {a.name: a.default_value for a in schema if a.has_default_value()}
        arguments |= dict(zip((a.name for a in schema), node.args, strict=False)) | node.kwargs
        if handler := getattr(self, f"op_{name}", None):
            return handler(node, arguments)
        if name in UNARY:
            return self.emit(RENAMED.get(name, name), [arguments["self"]])
        if name in BINARY or name in RENAMED:
            return self.emit(RENAMED.get(name, name), [arguments["self"], self.other(arguments)])
        if name in SAME:
            return self.name(arguments.get("self", arguments.get("input")))
        if name in RESHAPED:
            return self.shaped("reshape", arguments["self"], self.shape(node))
        line = self.lines.get(name, "inside another operation")
        raise ValueError(f"the playground runtime has no operation for {node.target} ({line})")

    def emit(self, op: str, inputs: list, **attributes) -> str:
        inputs = [self.name(x) for x in inputs]  # which may emit an operation itself
        name = f"v{len(self.operations)}"
        self.operations.append({"op": op, "in": inputs, "out": name, **attributes})
        return name

    def shaped(self, op: str, x, shape: list) -> str:
        return self.name(x) if self.shape(x) == shape else self.emit(op, [x], shape=shape)

    # ---- values ----
    def value(self, node) -> Tensor:
        return self.values[0][node]

    def shape(self, node) -> list:
        """Of the node's value, each size an integer or [a, b] for a + b·N."""
        sizes = [tuple(values[n].shape) for n, values in zip(self.twins(node), self.values, strict=True)]
        return [linear_in_batch(size) for size in zip(*sizes, strict=True)]

    def twins(self, node) -> tuple:
        return next(nodes for nodes in self.columns if nodes[0] is node)

    def integer(self, node, argument: str | int):
        """An integer argument of the node as the traces have it: an integer or [a, b]."""
        found = []
        for n in self.twins(node):
            names = [a.name for a in n.target._schema.arguments]
            arguments = dict(zip(names, n.args, strict=False)) | n.kwargs
            found.append(arguments.get(argument))
        return linear_in_batch(found) if all(isinstance(i, int) for i in found) else None

    def name(self, x):
        """How an operation refers to ``x``: a number as itself, a value or weight by its name."""
        if isinstance(x, str):
            return x
        if isinstance(x, (bool, int, float)):
            return float(x) if math.isfinite(x) else self.constant(torch.tensor(float(x)))
        if isinstance(x, Tensor):
            return self.constant(x)
        if x in self.where:
            return self.where[x]
        values = [values[n] for n, values in zip(self.twins(x), self.values, strict=True)]
        if all(v.shape == values[0].shape and torch.equal(v, values[0]) for v in values):
            return self.constant(values[0], computed=x.op == "call_function")
        row = values[0][:1]
        if not all(torch.equal(v, row.expand(v.shape)) for v in values):
            raise ValueError(f"a constant depends on the batch size ({x.name}): pass it as an input")
        return self.emit("expand", [self.constant(row)], shape=self.shape(x))

    def constant(self, tensor: Tensor, name: str | None = None, computed: bool = True) -> str:
        key = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if key not in self.stored:
            name = name or self.known.get(tensor.data_ptr()) or f"w{len(self.weights)}"
            name = name if name not in self.weights else f"{name}.{len(self.weights)}"
            exact = not tensor.is_floating_point() or (computed and tensor.numel() <= SMALL)
            kind = np.float32 if exact else self.dtype
            with np.errstate(over="ignore"):
                self.weights[name] = tensor.detach().cpu().float().numpy().astype(kind)
            self.stored[key] = (name, tensor)  # the tensor stays alive, so that its address stays its own
        return self.stored[key][0]

    def is_constant(self, x) -> bool:
        return isinstance(x, torch.fx.Node) and x not in self.where


def linear_in_batch(found):
    """``i`` if both traces have the integer ``i``, else ``[a, b]`` with i = a + b·N."""
    if len(set(found)) == 1:
        return int(found[0])
    slope = found[1] - found[0]  # the sizes differ by one
    return [found[0] - slope * SIZES[0], slope]


def alive(operations: list[dict], outputs: list[str]) -> list[dict]:
    """The operations whose result is used."""
    needed, kept = set(outputs), []
    for op in reversed(operations):
        if op["out"] in needed:
            kept.append(op)
            needed |= {name for name in op["in"] if isinstance(name, str)}
    return kept[::-1]
