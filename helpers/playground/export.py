"""One exporter for every model: a function of tensors becomes a list of operations and weights, as plain JSON.

The function is traced twice, with batches of 2 and of 3 examples. Where the two traces differ in an integer ``i``, it
is written as ``[a, b]``, meaning ``a + b·N`` with the reader's batch size ``N``: one graph serves every batch size.
What does not depend on the inputs (masks, positions, folded scales) is computed here and stored as a weight.

The graph::

    {"inputs": [{"name": "z", "shape": [[0, 1], 2]}],
     "operations": [{"op": "linear", "in": ["z", "0.weight", "0.bias"], "out": "v1"}, …],
     "outputs": ["v9"], "output_shapes": [[[0, 1], 8, 8]],
     "weights": {"list": [{"name": "0.weight", "shape": [64, 2], "type": "float16", "at": 0}, …], "data": base64}}

``runtime.js`` executes it. The operations are the keys of ``runtime.js``'s table; every other one raises here.
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

SIZES = (2, 3)  # the batch sizes of the two traces: neither 0 nor 1, which broadcasting treats specially
SMALL = 4096  # a computed constant of up to so many numbers stays float32: positions and frequencies need it

UNARY = "relu silu sigmoid tanh exp log sqrt rsqrt reciprocal neg abs sin cos floor erf sign logical_not bitwise_not".split()
BINARY = "add sub mul div pow maximum minimum gt ge lt le eq ne".split()
RENAMED = {"logical_not": "not", "bitwise_not": "not", "logical_and": "mul", "bitwise_and": "mul"}
SAME = "alias detach clone lift_fresh_copy lift_fresh _to_copy contiguous dropout native_dropout".split()
DECOMPOSED = (
    "addcmul addcdiv lerp logsumexp mse_loss hardswish hardsigmoid mish glu log_sigmoid_forward "
    "roll native_dropout threshold_backward gelu_backward silu_backward sigmoid_backward tanh_backward elu_backward "
    "leaky_relu_backward softplus_backward _softmax_backward_data _log_softmax_backward_data native_layer_norm_backward"
).split()
RESHAPED = "view _unsafe_view reshape unsqueeze squeeze flatten _reshape_alias unflatten".split()


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


class Writer:
    """Turns one or two traces of the same function into one graph.

    A handler ``op_<name>(node, arguments)`` appends operations and returns the name of the result. Shapes are not
    read from arguments but from the values of the traces, so that only shapes, never PyTorch's many ways to ask for
    them, have to be understood.
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
            if len({str(n.target) for n in nodes}) > 1 and node.op == "call_function":
                raise ValueError("the function takes another path for another batch size: pass batch=False")
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
        name = f"v{len(self.operations)}"
        self.operations.append({"op": op, "in": [self.name(x) for x in inputs], "out": name, **attributes})
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

    # ---- handlers ----
    def other(self, a):
        """The second operand of add and sub, whose ``alpha`` scales it."""
        alpha = a.get("alpha", 1)
        other = a.get("other", a.get("exponent"))
        return other if alpha == 1 else self.emit("mul", [other, alpha])

    def op_rsub(self, node, a):
        return self.emit("sub", [a["other"], self.other(a | {"other": a["self"]})])

    def op_div(self, node, a):
        quotient = self.emit("div", [a["self"], a["other"]])
        if a.get("rounding_mode") == "trunc":
            raise ValueError(f"the playground runtime divides exactly or by floor ({self.lines.get('div')})")
        return self.emit("floor", [quotient]) if a.get("rounding_mode") == "floor" else quotient

    def op_floor_divide(self, node, a):
        return self.op_div(node, a | {"rounding_mode": "floor"})

    def op_getitem(self, node, a):
        source, index = node.args
        made = self.where[source]
        if isinstance(made, list):
            return made[index]
        if index:
            raise ValueError(f"only the first result of {source.target} can be used ({self.lines.get(source.name)})")
        return made

    def op_gelu(self, node, a):
        return self.emit("gelu_tanh" if a.get("approximate") == "tanh" else "gelu", [a["self"]])

    def op_leaky_relu(self, node, a):
        return self.emit("leaky_relu", [a["self"]], slope=a["negative_slope"])

    def op_elu(self, node, a):
        return self.emit("elu", [a["self"]], alpha=a["alpha"], scale=a["scale"], rate=a["input_scale"])

    def op_softplus(self, node, a):
        return self.emit("softplus", [a["self"]], beta=a["beta"], threshold=a["threshold"])

    def op_clamp(self, node, a):
        x = a["self"] if a["min"] is None else self.emit("maximum", [a["self"], a["min"]])
        return x if a["max"] is None else self.emit("minimum", [x, a["max"]])

    def op_hardtanh(self, node, a):
        return self.op_clamp(node, a | {"min": a["min_val"], "max": a["max_val"]})

    def op_where(self, node, a):
        return self.emit("where", [a["condition"], a["self"], a["other"]])

    def op_masked_fill(self, node, a):
        return self.emit("where", [a["mask"], a["value"], a["self"]])

    def op_linear(self, node, a):
        return self.emit("linear", [a["input"], a["weight"], *([a["bias"]] if a["bias"] is not None else [])])

    def op_addmm(self, node, a):
        if self.is_constant(a["mat2"]) and a["beta"] == 1 and a["alpha"] == 1:
            return self.emit("linear", [a["mat1"], self.transposed(a["mat2"]), a["self"]])
        product = self.emit("mul", [self.emit("matmul", [a["mat1"], a["mat2"]]), a["alpha"]])
        return self.emit("add", [product, self.emit("mul", [a["self"], a["beta"]])])

    def op_mm(self, node, a):
        if self.is_constant(a["mat2"]):
            return self.emit("linear", [a["self"], self.transposed(a["mat2"])])
        return self.emit("matmul", [a["self"], a["mat2"]])

    def transposed(self, node):
        """A constant (in, out) matrix as (out, in), the layout of ``nn.Linear``, where a row is read in order."""
        return self.constant(self.value(node).t(), computed=False)

    def op_bmm(self, node, a):
        return self.emit("matmul", [a["self"], a["mat2"]])

    def op_matmul(self, node, a):
        return self.emit("matmul", [a["self"], a["other"]])

    def op_convolution(self, node, a):
        """One-dimensional convolutions become two-dimensional ones of height 1."""
        n = len(a["stride"])
        if n > 2:
            raise ValueError(f"the playground runtime has no {n}-D convolution ({self.lines.get('convolution')})")
        x, weight = a["input"], a["weight"]
        settings = {k: [*([0 if k in ("padding", "output_padding") else 1] * (2 - n)), *a[k]] for k in CONVOLUTION}
        if not a["transposed"]:
            del settings["output_padding"]
        if n == 1:
            (rows, channels, width), kernel = self.shape(x), self.value(weight).shape
            x = self.emit("reshape", [x], shape=[rows, channels, 1, width])
            weight = self.emit("reshape", [weight], shape=[*kernel[:2], 1, kernel[2]])
        inputs = [x, weight, *([a["bias"]] if a["bias"] is not None else [])]
        name = self.emit("conv_transpose2d" if a["transposed"] else "conv2d", inputs, groups=a["groups"], **settings)
        return name if n == 2 else self.emit("reshape", [name], shape=self.shape(node))

    def op__softmax(self, node, a):
        return self.emit("softmax", [a["self"]], dim=self.dim(a))

    op_softmax = op__safe_softmax = op__softmax

    def op__log_softmax(self, node, a):
        return self.emit("log_softmax", [a["self"]], dim=self.dim(a))

    op_log_softmax = op__log_softmax

    def dim(self, a, source: str = "self") -> int:
        return a["dim"] % max(1, self.value(a[source]).ndim)

    def op_native_layer_norm(self, node, a):
        inputs = [a["input"], *(x for x in (a["weight"], a["bias"]) if x is not None)]
        if a["weight"] is None and a["bias"] is not None:
            raise ValueError("layer norm with a bias needs a weight")
        return self.emit("layer_norm", inputs, size=math.prod(a["normalized_shape"]), eps=a["eps"])

    def op_native_group_norm(self, node, a):
        inputs = [a["input"], *(x for x in (a["weight"], a["bias"]) if x is not None)]
        return self.emit("group_norm", inputs, groups=a["group"], eps=a["eps"])

    def op_native_batch_norm(self, node, a):
        """In evaluation it is a fixed scale and shift of each channel."""
        x = a["input"]
        if a["training"]:
            raise ValueError(f"batch norm must be in evaluation mode ({self.lines.get('native_batch_norm')})")
        weight, bias, mean, variance = (
            self.value(a[k]) if a[k] is not None else None for k in ("weight", "bias", "running_mean", "running_var")
        )
        scale = torch.rsqrt(variance + a["eps"]) * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        shape = [-1] + [1] * (self.value(x).ndim - 2)
        return self.emit("add", [self.emit("mul", [x, scale.reshape(shape)]), shift.reshape(shape)])

    op__native_batch_norm_legit_no_training = op_cudnn_batch_norm = op_native_batch_norm

    def op_embedding(self, node, a):
        return self.emit("take", [a["weight"], a["indices"]], dim=0)

    def op_index_select(self, node, a):
        return self.emit("take", [a["self"], a["index"]], dim=self.dim(a))

    def op_index(self, node, a):
        """Only ``x[:, :, index]``: one index tensor."""
        found = [(i, index) for i, index in enumerate(a["indices"]) if index is not None]
        if len(found) != 1 or self.value(found[0][1]).dtype == torch.bool:
            raise ValueError(f"indexing by more than one tensor, or by a mask, is not exported ({self.lines['index']})")
        return self.emit("take", [a["self"], found[0][1]], dim=found[0][0])

    def op_permute(self, node, a):
        order = [d % len(a["dims"]) for d in a["dims"]]
        return self.emit("permute", [a["self"]], order=order)

    def op_transpose(self, node, a):
        order = list(range(self.value(a["self"]).ndim))
        i, j = a["dim0"], a["dim1"]
        order[i], order[j] = order[j], order[i]
        return self.emit("permute", [a["self"]], order=order)

    def op_t(self, node, a):
        return self.emit("permute", [a["self"]], order=list(range(self.value(a["self"]).ndim))[::-1])

    def op_cat(self, node, a):
        tensors = [x for x in a["tensors"] if self.value(x).numel()]
        return self.emit("cat", tensors, dim=a["dim"] % self.value(node).ndim)

    def op_stack(self, node, a):
        dim = a["dim"] % self.value(node).ndim
        shape = self.shape(node)
        shape[dim] = 1
        return self.emit("cat", [self.emit("reshape", [x], shape=shape) for x in a["tensors"]], dim=dim)

    def op_slice(self, node, a):
        start = self.integer(node, "start") or 0
        return self.cut(a["self"], self.dim(a), start, self.shape(node)[self.dim(a)], a["step"])

    def op_select(self, node, a):
        piece = self.cut(a["self"], self.dim(a), self.integer(node, "index"), 1)
        return self.emit("reshape", [piece], shape=self.shape(node))

    def cut(self, x, dim: int, start, length, step: int = 1) -> str:
        return self.emit("slice", [x], dim=dim, start=start, length=length, step=step)

    def op_split(self, node, a):
        names, start, dim = [], 0, self.dim(a)
        for piece in self.value(node):
            size = piece.shape[dim]
            names.append(self.cut(a["self"], dim, start, size))
            start += size
        if dim == 0 and isinstance(self.shape(a["self"])[0], list):
            raise ValueError(f"the batch itself cannot be split ({self.lines.get('split')})")
        return names

    op_split_with_sizes = op_split

    def op_unbind(self, node, a):
        dim, shape = self.dim(a), self.shape(a["self"])
        rest = shape[:dim] + shape[dim + 1 :]
        pieces = (self.cut(a["self"], dim, i, 1) for i in range(len(self.value(node))))
        return [self.emit("reshape", [piece], shape=rest) for piece in pieces]

    def op_expand(self, node, a):
        return self.shaped("expand", a["self"], self.shape(node))

    def op_copy(self, node, a):
        return self.emit("expand", [a["src"]], shape=self.shape(node))

    def op_repeat(self, node, a):
        x = a["self"]
        dims = self.value(node).ndim
        x = self.emit("reshape", [x], shape=[1] * (dims - self.value(x).ndim) + self.shape(x))
        for dim, times in enumerate(a["repeats"]):
            x = self.emit("cat", [x] * times, dim=dim) if times > 1 else x
        return x

    def op_sum(self, node, a):
        return self.reduce("sum", node, a)

    def op_mean(self, node, a):
        return self.reduce("mean", node, a)

    def op_amax(self, node, a):
        return self.reduce("max", node, a)

    def reduce(self, op: str, node, a) -> str:
        reduced = self.emit(op, [a["self"]], dims=self.dims(a))
        return self.emit("reshape", [reduced], shape=self.shape(node))

    def dims(self, a) -> list[int]:
        """The reduced dimensions, sorted: all where none is named."""
        n, dims = self.value(a["self"]).ndim, a.get("dim")
        dims = range(n) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
        return sorted(d % max(1, n) for d in dims)

    def op_var(self, node, a):
        x, dims = a["self"], self.dims(a)
        centred = self.emit("sub", [x, self.emit("mean", [x], dims=dims)])
        count = math.prod(self.value(x).shape[d] for d in dims)
        total = self.emit("sum", [self.emit("mul", [centred, centred])], dims=dims)
        correction = 1 if a["correction"] is None else a["correction"]
        return self.emit("reshape", [self.emit("div", [total, count - correction])], shape=self.shape(node))

    def op_std(self, node, a):
        return self.emit("sqrt", [self.op_var(node, a)])

    def op_cumsum(self, node, a):
        return self.emit("cumsum", [a["self"]], dim=self.dim(a))

    def op_argmax(self, node, a):
        if a["dim"] is None or self.dim(a) != self.value(a["self"]).ndim - 1:
            raise ValueError(f"argmax is exported over the last dimension only ({self.lines.get('argmax')})")
        return self.emit("reshape", [self.emit("argmax", [a["self"]])], shape=self.shape(node))

    def op_upsample_nearest2d(self, node, a):
        (_, _, height, width), (_, _, h, w) = self.shape(node), self.shape(a["self"])
        if height % h or width % w:
            raise ValueError(f"nearest upsampling is exported for whole factors, got {h}×{w} → {height}×{width}")
        return self.emit("upsample", [a["self"]], by=[height // h, width // w])

    def op_constant_pad_nd(self, node, a):
        """Pads by joining constants."""
        x, shape = a["self"], self.shape(a["self"])
        for i in range(len(a["pad"]) // 2):
            dim = len(shape) - 1 - i
            before, after = a["pad"][2 * i : 2 * i + 2]
            if min(before, after) < 0:
                raise ValueError(f"padding by a negative amount is not exported ({self.lines.get('constant_pad_nd')})")
            value = torch.full([1] * len(shape), float(a["value"]))
            sides = [shape[:dim] + [size] + shape[dim + 1 :] for size in (before, after)]
            parts = [self.emit("expand", [value], shape=side) if side[dim] else None for side in sides]
            parts = [part for part in (parts[0], x, parts[1]) if part is not None]
            x = self.emit("cat", parts, dim=dim) if len(parts) > 1 else x
            shape[dim] += before + after
        return x


CONVOLUTION = ("stride", "padding", "dilation", "output_padding")


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
